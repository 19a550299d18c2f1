"""Every output of every frame for NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deliveries import delivery
from drives import CLASSES, SIZE, START_S, blobs, feed, frame_at, picture, results, see

from pixelrt.errors import SinkError
from pixelrt.segmentation import Segmentation, Segmenter
from pixelrt.video.sinks import open_sink
from pixelrt.video.sources import IteratorSource, Source


@pytest.fixture
def segmenter() -> Iterator[Segmenter]:
    with see() as made:
        yield made


@pytest.fixture
def source() -> Iterator[Source]:
    with IteratorSource([picture(0)], name="front camera") as opened:
        yield opened


def filled(result: Segmentation, seed: int) -> Segmentation:
    """A result with every output."""
    rng = np.random.default_rng(seed)
    return dataclasses.replace(
        result,
        confidence=rng.integers(0, 256, SIZE, np.uint8),
        grid=rng.random((3, 4, 5), np.float32),
        logits=rng.random((3, *SIZE), np.float32),
    )


@pytest.mark.parametrize("options", ["", "?compress=no"])
def test_every_output_comes_back(tmp_path: Path, source: Source, segmenter: Segmenter, options: str) -> None:
    with open_sink(f"{tmp_path}/results.npz/{options}", source) as sink:
        for index in range(3):
            frame = frame_at(index)
            lanes = filled(dataclasses.replace(segmenter(frame.image), name="lanes"), 100 + index)
            result = dataclasses.replace(filled(segmenter(frame.image), index), others={"lanes": lanes})
            sink.write(delivery(frame, result))
            wanted = result
    files = sorted((tmp_path / "results.npz").iterdir())
    assert [file.name for file in files] == [f"front-{index:06d}.npz" for index in range(3)]
    with np.load(files[2], allow_pickle=False) as arrays:
        for kind in ("mask", "confidence", "grid", "logits"):
            np.testing.assert_array_equal(arrays[kind], getattr(wanted, kind))
            np.testing.assert_array_equal(arrays[f"lanes.{kind}"], getattr(wanted["lanes"], kind))
            assert arrays[kind].dtype == getattr(wanted, kind).dtype
        assert arrays["classes"].tolist() == list(CLASSES)
        assert (int(arrays["index"]), float(arrays["time_s"])) == (2, 0.2)
        assert float(arrays["clock_s"]) == START_S + 0.2
        assert arrays["frame_size"].tolist() == list(SIZE)


def test_outputs_that_the_bundle_lacks_are_not_there(
    tmp_path: Path, source: Source, segmenter: Segmenter
) -> None:
    with open_sink(f"{tmp_path}/results.npz/", source) as sink:
        feed(sink, results(segmenter, 1))
    with np.load(tmp_path / "results.npz/front-000000.npz") as arrays:
        assert set(arrays) == {"mask", "classes", "index", "time_s", "clock_s", "frame_size"}
        np.testing.assert_array_equal(arrays["mask"], blobs(0))


def test_compression_is_worth_it(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    for name, options in (("small.npz", ""), ("large.npz", "?compress=no")):
        with open_sink(f"{tmp_path}/{name}/{options}", source) as sink:
            feed(sink, results(segmenter, 1))
    sizes = [next((tmp_path / name).iterdir()).stat().st_size for name in ("small.npz", "large.npz")]
    assert sizes[0] * 3 < sizes[1]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("results.npz", r"ends in .npz; expected .*|ends in .npz"),
        ("results.npz/?compres=no", r"has no option 'compres' \(did you mean 'compress'\?\)"),
        ("nowhere/results.npz/", "there is no folder .*nowhere; make it first"),
    ],
)
def test_what_is_refused(tmp_path: Path, source: Source, uri: str, message: str) -> None:
    with pytest.raises(SinkError, match=message):
        open_sink(f"{tmp_path}/{uri}", source)
    assert not list(tmp_path.iterdir())


def test_a_name_comes_once(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    frame = frame_at(0)
    with open_sink(f"{tmp_path}/results.npz/", source) as sink:
        sink.write(delivery(frame, segmenter(frame.image)))
        with pytest.raises(SinkError, match="written already in this run"):
            sink.write(delivery(frame, segmenter(frame.image)))
