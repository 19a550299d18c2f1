"""What a stream may be given to read from."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from live import Camera, Notes, image_of, network

from pixelrt.errors import InputError, SourceError
from pixelrt.testing import fake_segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Frame
from pixelrt.video.live.opening import unique
from pixelrt.video.sinks.base import BaseSink

DRIVE = "test://drive?frames=3&size=64x96"


def test_a_uri_is_opened_in_the_colours_of_the_segmenter(tmp_path: Path) -> None:
    red = np.zeros((8, 12, 3), np.uint8)
    red[..., 2] = 255
    cv2.imwrite(str(tmp_path / "red.png"), red)
    for color, place in (("rgb", 0), ("bgr", 2)):
        segmenter = fake_segmenter(
            lambda frame: np.zeros(frame.shape[:2], np.uint8),
            size=(8, 12),
            color=color,  # type: ignore[arg-type]
        )
        ((frame, _),) = segmenter.stream(tmp_path / "red.png")
        assert frame.color == color
        assert frame.image[0, 0, place] == 255


def test_a_wrong_uri_is_an_error_at_once() -> None:
    with pytest.raises(SourceError, match="unknown scheme tset://"):
        network().stream([DRIVE, "tset://drive"])
    with pytest.raises(SourceError, match="does not exist"):
        network().stream("no-such-file.mp4")


def test_arrays_of_any_iterable_are_one_source() -> None:
    images = [image_of(number) for number in range(5)]
    for given in (images, tuple(images), iter(images), (image for image in images), np.stack(images)):
        assert [result.mask[0, 0] for _, result in network().stream(given)] == list(range(5))


def test_frames_of_any_iterable_keep_their_times() -> None:
    frames = [
        Frame(image=image_of(number), index=number, time_s=0.1 * number, name=f"own {number}", clock_s=7.0)
        for number in range(3)
    ]
    taken = list(network().stream(frames))
    assert [(frame.name, frame.clock_s, frame.captured_s) for frame, _ in taken] == [
        (frame.name, 7.0, frame.captured_s) for frame in frames
    ]


def test_a_list_of_other_things_is_several_sources() -> None:
    stream = network().stream([DRIVE, (image_of(number) for number in range(2)), Camera(4, live=False)])
    list(stream)
    assert [source.delivered for source in stream.statistics().sources] == [3, 2, 4]
    assert [source.name for source in stream.sources] == ["drive", "frames", "camera"]


def test_sources_of_one_name_are_told_apart() -> None:
    notes = Notes()
    stream = network().stream([DRIVE, DRIVE, DRIVE], sinks=[notes])
    taken = list(stream)
    names = {delivery.frame.name for delivery in taken}
    own = {name for name in names if not name.startswith(("drive-2-", "drive-3-"))}
    counts = {name.removeprefix("drive-") for name in own}
    assert len(own) == 3
    assert names == own | {f"drive-{number}-{count}" for number in (2, 3) for count in counts}
    assert {delivery.frame.source for delivery in taken} == {"drive", "drive-2", "drive-3"}
    assert [source.name for source in stream.statistics().sources] == ["drive", "drive-2", "drive-3"]
    assert unique(["a", "a-2", "a", "a"]) == ["a", "a-2", "a-3", "a-4"]


def test_nothing_and_the_same_twice_are_refused() -> None:
    camera = Camera(1)
    with pytest.raises(InputError, match="the list of sources is empty"):
        network().stream([])
    with pytest.raises(InputError, match="in the list twice"):
        network().stream([camera, camera])
    with pytest.raises(SourceError, match="expected an iterable"):
        network().stream(3.5)


def test_the_status_of_a_source_follows_its_frames() -> None:
    def images():  # type: ignore[no-untyped-def]
        yield np.zeros((8, 12, 3), np.uint8)
        yield np.zeros((16, 24, 3), np.uint8)

    stream = network().stream(images())
    assert stream.sources[0].size == (8, 12)
    sizes = [frame.size for frame, _ in stream]
    assert sizes == [(8, 12), (16, 24)]
    assert stream.sources[0].size == (16, 24)
    assert not stream.sources[0].live


def test_a_sink_that_draws_needs_masks() -> None:
    class Drawing(Notes):
        wants_overlay = True

    segmenter = network()
    (head,) = segmenter.bundle.segmentation.heads
    head.outputs.pop("mask")  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="head 'scene' emits none"):
        segmenter.stream(DRIVE, sinks=[Drawing()])


class Bare:
    """What somebody writes who has seen `write` alone."""

    def write(self, delivery: object) -> None:
        raise OSError("the robot's disk")


def test_a_sink_without_the_parts_of_one_is_refused_before_the_stream() -> None:
    with pytest.raises(InputError, match="a Bare, which has no attach, close, abort, wants_overlay; derive"):
        network().stream(DRIVE, sinks=[Bare()])  # type: ignore[list-item]
    bare = Bare()
    bare.attach = bare.abort = bare.write  # type: ignore[attr-defined]
    bare.close = None  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"no close, wants_overlay; .* pixelrt\.video\.sinks\.base\.Base"):
        network().stream(DRIVE, sinks=[bare])  # type: ignore[list-item]
    with pytest.raises(InputError, match="an Empty, which has no write; derive"):
        network().stream(DRIVE, sinks=[type("Empty", (BaseSink,), {})()])
    with pytest.raises(InputError, match="the class Notes, expected a sink that is made of it"):
        network().stream(DRIVE, sinks=[Notes])  # type: ignore[list-item]


def test_a_sink_of_one_s_own_needs_write_alone() -> None:
    class Mine(BaseSink):
        def write(self, delivery: Delivery) -> None:
            got.append(delivery.frame.index)

    got: list[int] = []
    with Mine() as sink:
        stream = network().stream(DRIVE, sinks=[sink])
        stream.run()
    assert got == [0, 1, 2]
    assert stream.outputs == ()
    assert stream.statistics().sinks[0].name == "Mine"
