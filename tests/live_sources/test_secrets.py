"""Generated secrets, in all places where people put them: nobody ever sees a part of one."""

from __future__ import annotations

import logging
import random
import re
import traceback
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from pixelrt.errors import PixelRTError
from pixelrt.video.sources import open_source
from pixelrt.video.sources.address import parse_address
from pixelrt.video.sources.base import SourceOptions
from pixelrt.video.sources.hiding import pipeline_without_secrets, without_secrets, words_without_secrets
from pixelrt.video.sources.network.settings import read_settings

CLOSED = "127.0.0.1:1"
LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
MARKS = "!$%^*()_+-=,.~:;@/?#&'\"|<>[]{}"
ADDRESSES = (
    "rtsp://admin:{raw}@" + CLOSED + "/live",
    "rtsp://admin:{quoted}@" + CLOSED + "/live?channel=1",
    "rtsp://{quoted}@" + CLOSED + "/live",
    "http://admin:{quoted}@" + CLOSED + "/video.mjpg?user=admin&pwd={quoted}",
    "rtsp://" + CLOSED + "/user=admin_password={raw}_channel=1_stream=0.sdp",
    "rtsp://" + CLOSED + "/user=admin_password={quoted}_channel=1_stream=0.sdp?real_stream",
    "rtsp://" + CLOSED + "/user%3Dadmin_password%3D{quoted}",
    "rtsp://" + CLOSED + "/user=admin&password={raw}&channel=1&stream=0.sdp",
    "rtsp://" + CLOSED + "/live/admin:{quoted}",
    "rtsp://" + CLOSED + "/Pwd={raw}/live",
    "rtsp://" + CLOSED + "/live?password={raw}&channel=1",
    "http://" + CLOSED + "/live?user=admin&loginpas={quoted}",
    "http://" + CLOSED + "/live?{quoted}",
    "rtmp://" + CLOSED + "/live/camera?auth={raw}",
    "srt://" + CLOSED + "?passphrase={raw}",
    "rtsp://" + CLOSED + "/live#password={quoted}",
    "rtsp://" + CLOSED + "/live#{quoted}",
    "rtsp://" + CLOSED + "/live#stall=5&{quoted}=5",
    "rtsp://admin:{quoted}",
    "tcp://admin:{quoted}@127.0.0.1",
    "udp://admin:{quoted}@127.0.0.1",
    "rtsp:/admin:{raw}@" + CLOSED + "/live",
    "rtsp//admin:{raw}@" + CLOSED + "/live",
    "rtsp:admin:{raw}@" + CLOSED + "/live",
    "rstp://admin:{raw}@" + CLOSED + "/live",
    " rtsp://admin:{raw}@" + CLOSED + "/live",
    "rtsp://admin:{raw}@" + CLOSED + "/live ",
    "rtsp://admin:{raw} {raw}@" + CLOSED + "/live",
    "RTSP://admin:{quoted}@" + CLOSED + "/live",
    "admin:{raw}@" + CLOSED + "/live",
    CLOSED + "/user=admin_password={raw}_channel=1.sdp",
    "v4l2://admin:{raw}@" + CLOSED,
    "csi://admin:{raw}@" + CLOSED,
    "bag://admin:{raw}@" + CLOSED,
    "test://admin:{raw}@" + CLOSED,
)
PIPELINES = (
    "rtspsrc location=rtsp://admin:{raw}@cam/live ! rtph264depay ! avdec_h264",
    'rtspsrc location="rtsp://admin:{text}@cam/live" ! rtph264depay',
    "rtspsrc location='rtsp://admin:{text}@cam/live' latency=0 ! rtph264depay",
    "rtspsrc location=rtsp://cam/user=admin_password={bare}_channel=1 ! rtph264depay",
    'rtspsrc location="rtsp://cam/user=admin_password={text}_channel=1" ! rtph264depay',
    "rtspsrc user-id=admin user-pw={bare} location=rtsp://cam/live ! rtph264depay",
    "rtspsrc user-pw = {bare} location=rtsp://cam/live ! rtph264depay",
    'souphttpsrc proxy-pw="{text}" location=http://cam/?pwd={bare} ! jpegdec',
    'souphttpsrc extra-headers="h,Authorization=(string){text}" location=http://cam/ ! jpegdec',
    "srtsrc uri=srt://cam:9?passphrase={bare} ! tsdemux",
    'srtsrc uri="srt://cam:9?mode=caller&passphrase={text}" ! tsdemux',
    "awsthing secret-access-key={bare} access-token='{text}' ! decodebin",
)


def secrets(count: int) -> Iterator[tuple[str, list[str]]]:
    """Secrets with marks in them, each with the pieces by which anybody would know it."""
    chance = random.Random(12)
    for _ in range(count):
        pieces = ["".join(chance.choices(LETTERS, k=7)) for _ in range(chance.randint(1, 4))]
        secret = pieces[0]
        for piece in pieces[1:]:
            secret += "".join(chance.choices(MARKS, k=chance.randint(1, 2))) + piece
        yield secret, pieces


def unseen(pieces: list[str], *told: str) -> None:
    for text in told:
        assert not [piece for piece in pieces if piece.lower() in text.lower()], text


@pytest.mark.parametrize("form", ADDRESSES)
def test_no_part_of_a_secret_is_in_any_word_about_an_address(
    form: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for secret, pieces in secrets(200):
        text = form.format(raw=secret, quoted=quote(secret, safe=""))
        unseen(pieces, without_secrets(text))
        with pytest.raises(PixelRTError) as caught:
            open_source(f"{text}&connect=0.2" if "#stall" in text else text)
        problem = caught.value
        unseen(pieces, "".join(traceback.format_exception(problem)), repr(problem))
        unseen(pieces, repr(problem.__context__))
    unseen_by = capfd.readouterr()
    assert not unseen_by.err
    assert not unseen_by.out
    assert not caplog.records


@pytest.mark.parametrize("form", ADDRESSES[:18])
def test_no_part_of_a_secret_is_in_a_name_or_a_repr(form: str) -> None:
    named = 0
    for secret, pieces in secrets(200):
        text = form.format(raw=secret, quoted=quote(secret, safe=""))
        try:
            settings = read_settings(text, SourceOptions())
            address = parse_address(text, network=True)
        except PixelRTError:
            continue
        named += 1
        assert re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9.-]*", settings.name)
        unseen(pieces, settings.name, repr(settings), repr(address), settings.place)
    assert named or "#" in form or form == "rtsp://admin:{quoted}"


@pytest.mark.parametrize("form", PIPELINES)
def test_no_part_of_a_secret_is_in_any_word_about_a_pipeline(form: str) -> None:
    for secret, pieces in secrets(200):
        text = form.format(
            raw=secret,
            bare=re.sub(r"([\"'\\])", r"\\\1", secret),
            text=re.sub(r"([\"'\\])", r"\\\1", secret.replace("_", " ")),
        )
        shown = pipeline_without_secrets(text)
        unseen(pieces, shown, without_secrets(f"gst://{text}"))
        assert shown.count("***") >= 1
        assert " ! " in shown or "rtspsrc" not in text
        said = f'no element "{pieces[-1]}"; could not set "location" to "{pieces[0]}" ({text[20:]})'
        unseen(pieces, words_without_secrets(said, text))


@pytest.mark.parametrize(
    "pipeline",
    [
        "videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,framerate=30/1",
        "v4l2src device=/dev/video0 ! image/jpeg ! jpegdec",
        "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv",
        "rtspsrc location=rtsp://cam:554/live latency=0 ! rtph264depay ! avdec_h264",
        'filesrc location="/data/a b.mp4" ! decodebin',
        "videotestsrc ! x264enc key-int-max=25 ! avdec_h264",
    ],
)
def test_a_pipeline_without_secrets_is_shown_as_it_is(pipeline: str) -> None:
    assert pipeline_without_secrets(pipeline) == pipeline


@pytest.mark.parametrize(
    "text",
    [
        "drive.mcap?topic=/camera/image_raw",
        "/data/2026-11-28 10:30:00/front@2x.png",
        "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0?size=720x1280",
        "v4l2:///dev/video0?size=720x1280&fps=30&format=mjpeg",
        "test://drive?frames=300",
        "udp://:5000",
        "http://cam:8080/axis-cgi/mjpg/video.cgi?camera=2",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(text: str) -> None:
    wanted = "/data/2026-11-28 ***@2x.png" if "@" in text else text
    assert without_secrets(text).endswith("2x.png") if "@" in text else without_secrets(text) == wanted
