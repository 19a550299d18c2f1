"""A real network, a real file, and real sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from live import Notes, check_accounts

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.errors import SinkError
from pixelrt.video.sinks import open_sinks
from pixelrt.video.sources import open_source

FRAMES = 24
SIZE = (96, 144)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red, green, blue, red, ... as a video."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(FRAMES):
            image = np.zeros((*SIZE, 3), np.uint8)
            image[..., index % 3] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def segmenter(make_bundle: Callable[..., Bundle]) -> Iterator[pixelrt.Segmenter]:
    with pixelrt.load(make_bundle(heads=("scene", "lane")), device="cpu") as opened:
        yield opened


def test_a_film_through_a_network_into_a_film_and_masks(
    film: Path, tmp_path: Path, segmenter: pixelrt.Segmenter
) -> None:
    source = open_source(film)
    sinks = open_sinks([f"{tmp_path}/out.mp4", f"{tmp_path}/masks/"], source)
    with source:
        stream = segmenter.stream(source, sinks=sinks)
        taken = list(stream)
    seen = [int(result.mask[16, 24]) for _, result in taken if result.mask is not None]
    assert seen == [index % 3 for index in range(FRAMES)]
    assert stream.outputs == (tmp_path / "out.mp4", tmp_path / "masks")
    masks = sorted((tmp_path / "masks").glob("*.png"))
    ids = [int(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[48, 72]) for path in masks]
    assert ids == seen
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    statistics = stream.statistics()
    check_accounts(statistics, taken, whole=True)
    assert statistics.stages["draw"].count == FRAMES, "once, however many look at it"


def test_sinks_by_their_uris(film: Path, tmp_path: Path, segmenter: pixelrt.Segmenter) -> None:
    notes = Notes()
    stream = segmenter.stream(film, sinks=[f"{tmp_path}/out.mp4", f"{tmp_path}/masks/", notes])
    statistics = stream.run()
    assert stream.outputs == (Path("notes"), tmp_path / "out.mp4", tmp_path / "masks")
    assert all(path.exists() for path in stream.outputs[1:])
    assert [sink.written for sink in statistics.sinks] == [FRAMES] * 3


def test_a_sink_that_cannot_be_opened_leaves_none_of_the_others(
    film: Path, tmp_path: Path, segmenter: pixelrt.Segmenter
) -> None:
    for bad in ("out.mp5", str(film), f"{tmp_path}/out.mp4"):
        with pytest.raises(SinkError):
            segmenter.stream(film, sinks=[f"{tmp_path}/out.mp4", bad])
    assert list(tmp_path.iterdir()) == []


def test_a_film_played_as_a_camera(film: Path, segmenter: pixelrt.Segmenter) -> None:
    stream = segmenter.stream([film, film], policy="latest", head="lane")
    taken = list(stream)
    for frame, result in taken:
        assert result.name == "lane"
        assert result.mask is not None
        assert int(result.mask[16, 24]) == (frame.index % 3 == 0)
    check_accounts(stream.statistics(), taken, whole=True)
    assert [source.captured for source in stream.statistics().sources] == [FRAMES, FRAMES]
    assert [source.name for source in stream.sources] == ["film.mp4", "film.mp4-2"]
