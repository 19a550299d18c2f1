"""Network addresses: options, and secrets that nobody sees."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pixelrt.errors import SourceError
from pixelrt.video.sources import open_source
from pixelrt.video.sources.base import SourceOptions
from pixelrt.video.sources.hiding import without_secrets
from pixelrt.video.sources.network.reasons import no_connection
from pixelrt.video.sources.network.settings import NetworkSettings, read_settings


def settings(text: str) -> NetworkSettings:
    return read_settings(text, SourceOptions())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("rtsp://robot:geheim@cam:554/live", "rtsp://cam:554/live"),
        ("rtsp://robot@cam", "rtsp://cam"),
        ("rtsp://robot:geheim@[fe80::1]:554/live", "rtsp://[fe80::1]:554/live"),
        ("rtsp://cam/real?channel=1&subtype=0", "rtsp://cam/real?channel=1&subtype=0"),
        ("http://cam/v?user=robot&pwd=geheim&channel=2", "http://cam/v?user=***&pwd=***&channel=2"),
        ("http://cam?geheim", "http://cam?***"),
        ("http://cam/v?next=robot:geheim@x", "http://cam/v?***"),
        ("rtsp://cam/user=robot&password=geheim&channel=1.sdp", "rtsp://cam/user=***&channel=1.sdp"),
        (
            "rtsp://cam/user=robot_password=ge_heim_channel=1_stream=0.sdp",
            "rtsp://cam/user=***_channel=1_stream=0.sdp",
        ),
        ("rtsp://cam/live/robot:geheim", "rtsp://cam/live/robot:***"),
        ("rtsp://cam/h264Preview_01_main", "rtsp://cam/h264Preview_01_main"),
        ("rtsps://cam:7441/q8Zk3mV0pL7xW2cN?enableSrtp", "rtsps://cam:7441/***?***"),
        ("rtsp://robot:geh/eim@cam/live", "rtsp://***@cam/live"),
        ("rtsp://robot:geh@eim@cam/live", "rtsp://cam/live"),
        ("rtsp://robot:geheim", "rtsp://***"),
        ("udp://@239.0.0.1:5000", "udp://239.0.0.1:5000"),
        ("srt://cam:9000?passphrase=geheim", "srt://cam:9000?passphrase=***"),
    ],
)
def test_what_people_see_of_an_address(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://robot:geheim@cam/live#transport=quic",
        "rtsp://robot:geheim@cam/live#speed=9",
        "rtsp://robot:geheim@cam/live#stall",
        "rtsp://robot:geheim@cam:99999/live",
        "rtsp://robot:geh#eim@cam/live",
        "rtsp://robot:geheim/@cam/live",
        "rtsp://robot:geheim@/live",
        "tcp://robot:geheim@cam",
        "srt://cam:9000?passphrase=geheim",
        "rstp://robot:geheim@cam/live",
        "rtsp://robot:geheim@127.0.0.1:1/live",
        "http://robot:geheim@127.0.0.1:1/live?token=geheim",
    ],
)
def test_no_message_holds_a_password(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(text)
    told = str(caught.value)
    assert "geheim" not in told
    assert "eim" not in told.replace("geheim", "")
    assert "eim" not in str(caught.value.__cause__)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_no_repr_and_no_name_holds_a_password() -> None:
    given = settings("rtsp://robot:geheim@cam:554/live?token=geheim&channel=2#wait=yes")
    assert "geheim" not in repr(given)
    assert given.url == "rtsp://robot:geheim@cam:554/live?token=geheim&channel=2"
    assert given.name == "cam-554-live-token-channel-2"


def test_labels_are_refused_without_a_password() -> None:
    with pytest.raises(SourceError, match=r"labels were given, and rtsp://cam/live is no image"):
        open_source("rtsp://robot:geheim@cam/live", labels=".")


def test_options_stand_behind_the_hash_and_the_query_is_the_cameras() -> None:
    given = settings(
        "rtsp://cam/live?channel=1#transport=udp&stall=2&connect=3&backoff=0.1&backoff_most=4&wait=yes"
    )
    assert given.url == "rtsp://cam/live?channel=1"
    assert (given.transport, given.stall_s, given.connect_s, given.live) == ("udp", 2.0, 3.0, True)
    assert given.persistence.wait
    assert given.persistence.reconnect
    assert (given.persistence.backoff.first_s, given.persistence.backoff.most_s) == (0.1, 4.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtsp://cam#transprt=udp", r"no option 'transprt' \(did you mean 'transport'\?\); known: "),
        ("http://cam#transport=udp", r"http:// has no option 'transport'"),
        ("rtsp://cam#transport=quic", r"transport=quic: expected one of tcp, udp, auto"),
        ("rtsp://cam#stall=0", r"stall=0: expected seconds, 0\.1 to 600"),
        ("rtsp://cam#stall=soon", r"stall=soon: expected seconds"),
        ("rtsp://cam#backoff=5&backoff_most=1", r"backoff=5 is above backoff_most=1"),
        ("rtsp://cam#wait=perhaps", r"wait=perhaps: expected yes or no"),
        ("rtsp:///live", r"there is no host in it; expected rtsp://host/"),
        ("tcp://cam", r"there is no port in it; expected tcp://cam:5000"),
        ("udp://239.0.0.1", r"there is no port in it"),
        ("rtsp://cam:70000/live", r"with a port up to 65535"),
        (f"rtsp://{'a' * 64}.net/live", r"no host has such a name; its parts have 1 to 63"),
        ("rtsp://cam..net/live", r"no host has such a name"),
        ("rtsp://cam\0/live", r"a character that cannot be seen"),
        ("rtsp://cam\udc80/live", r"a character that cannot be seen"),
        ("rtsp://cam/my camera", r"write a space as %20"),
        ("rtsp://robot:geh/eim@cam/live", r"there is an '@' behind its first '/'.*%40"),
        ("rtsp://robot:a#b@cam", r"there is an '@' behind a '#'.*%23"),
    ],
)
def test_wrong_addresses(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        settings(text)


def test_an_unknown_scheme_says_what_is_near() -> None:
    with pytest.raises(SourceError, match=r"unknown scheme rstp:// \(did you mean 'rtsp'\?\)"):
        open_source("rstp://cam/live")


def test_http_finds_out_whether_it_is_live_unless_told() -> None:
    assert settings("http://cam/v").live is None
    assert settings("http://cam/v#live=no").live is False
    assert settings("udp://:5000").live is True


def test_the_hint_for_a_camera_that_wants_a_password_is_an_address() -> None:
    import av

    for text, wanted in (
        ("rtsp://[::1]:8554/live", "rtsp://user:password@[::1]:8554/..."),
        ("rtsp://cam/live", "rtsp://user:password@cam/..."),
        ("http://cam:8080/v", "http://user:password@cam:8080/..."),
    ):
        refused = av.HTTPUnauthorizedError(-1, "401")
        assert f"write {wanted}" in str(no_connection(av, refused, settings(text), 0.1))


def test_a_host_is_looked_up_only_where_that_may_be_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    looked_up: list[str] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda host, port: looked_up.append(host))
    camera = settings("http://cam/v")
    assert "connection refused" in str(no_connection(av, ConnectionRefusedError(111, ""), camera, 0.1))
    assert looked_up == []
    assert "broke at once" in str(no_connection(av, OSError(errno.EIO, ""), camera, 0.1))
    assert looked_up == ["cam"]


@pytest.mark.parametrize(
    "text", ["a" * 300, f"{'b' * 300}/film.mp4", f"film.mp4?{'c' * 300}", "test://drive?size=99999x99999"]
)
def test_what_cannot_be_opened_is_a_source_error(text: str) -> None:
    with pytest.raises(SourceError):
        open_source(text)


def test_a_folder_that_is_not_for_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(SourceError, match=r"/data/film\.mp4 cannot be read \(Permission denied\)"):
        open_source("/data/film.mp4")
