"""The emulated camera, in a process where its library was loaded before the C library."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.video.frame import Frame
from pixelrt.video.sources import Source

PATH = "/dev/video31"
SIZE = (96, 128)
WAIT_S = 30.0
RAW = ("bgr24", "rgb24", "yuyv", "uyvy", "nv12", "i420")

emulator = ctypes.CDLL(None)
emulator.emulator_get.argtypes = [ctypes.c_char_p]
emulator.emulator_get.restype = ctypes.c_long
emulator.emulator_set.argtypes = [ctypes.c_char_p, ctypes.c_long]
emulator.emulator_picture.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def configure(**settings: int) -> None:
    for name, value in settings.items():
        emulator.emulator_set(name.replace("_", " ").encode(), value)


def count(name: str) -> int:
    return int(emulator.emulator_get(name.encode()))


def only(*codes: str) -> None:
    emulator.emulator_only(",".join(codes).encode())


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def camera() -> Iterator[None]:
    """A camera in its box; no test may leave it open, nor use it wrongly."""
    emulator.emulator_reset(PATH.encode())
    for number in range(16):
        emulator.emulator_picture(*jpeg(picture(number)))
    before, threads = descriptors(), threading.active_count()
    yield
    assert count("live") == 0, "the camera is still open"
    assert count("misused") == 0
    assert len(descriptors()) <= len(before) + 1, "the emulator's memory is the one"
    assert threading.active_count() == threads


def picture(number: int) -> NDArray[np.uint8]:
    """As the emulator paints them: a red corner, and a grey that tells the number."""
    image = np.full((*SIZE, 3), 40 + 5 * (number % 20), np.uint8)
    image[: SIZE[0] // 4, : SIZE[1] // 4] = (255, 0, 0)
    return image


def jpeg(image: NDArray[np.uint8]) -> tuple[bytes, int]:
    _, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return content.tobytes(), content.size


def luma(number: int) -> float:
    """What a camera's grey of the emulator is in RGB: BT.601 has 16..235."""
    return (40 + 5 * (number % 20) - 16) * 255 / 219


def first(source: Source, number: int) -> list[Frame]:
    return list(islice(source, number))


def uri(**options: object) -> str:
    return f"v4l2://{PATH}?" + "&".join(f"{key}={value}" for key, value in options.items())


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    executor = ThreadPoolExecutor(1)
    future = executor.submit(work)
    executor.shutdown(wait=False)
    return future
