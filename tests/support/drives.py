"""Frames with known classes, a network that finds them, and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from deliveries import delivery
from numpy.typing import NDArray

from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Frame
from pixelrt.video.sinks import Sink

Bytes = NDArray[np.uint8]
SIZE = (96, 144)
CLASSES = ("sky", "road", "left lane")
START_S = 1_750_000_000.25


def blobs(index: int, size: tuple[int, int] = SIZE) -> Bytes:
    """Class ids 0 to 2 in soft shapes, uint8[H, W]."""
    rough = np.random.default_rng(index).random((6, 9), np.float32)
    return (cv2.resize(rough, size[::-1], interpolation=cv2.INTER_CUBIC) * 3).clip(0, 2).astype(np.uint8)


def picture(index: int, size: tuple[int, int] = SIZE) -> Bytes:
    """Colours that tell the classes, uint8[H, W, 3] RGB."""
    return np.repeat(blobs(index, size)[..., None] * 80, 3, axis=2) + np.array([20, 40, 60], np.uint8)


def see(**options: Any) -> Segmenter:
    """A network that finds the classes of a `picture` again."""
    return fake_segmenter(lambda frame: frame[..., 0] // 80, classes=CLASSES, size=SIZE, **options)


def frame_at(index: int, source: str = "front camera", size: tuple[int, int] = SIZE) -> Frame:
    """Frame `index` of a camera with 10 frames a second and a clock."""
    return Frame(
        image=picture(index, size),
        index=index,
        time_s=index / 10,
        clock_s=START_S + index / 10,
        name=f"front-{index:06d}",
        source=source,
    )


def results(
    segmenter: Segmenter, count: int = 6, source: str = "front camera", first: int = 0
) -> Iterator[Delivery]:
    """Results as a stream delivers them."""
    for index in range(first, first + count):
        frame = frame_at(index, source)
        yield delivery(frame, segmenter(frame.image))


def feed(sink: Sink, deliveries: Iterator[Delivery], after: Callable[[], None] = lambda: None) -> None:
    """Write results; `after` is called after each."""
    for each in deliveries:
        sink.write(each)
        after()
