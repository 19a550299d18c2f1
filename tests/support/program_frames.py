"""What a program of its own hands over: images, and arrays that look as if they were on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

WAIT_S = 30.0


def image(value: int = 0, size: tuple[int, int] = (6, 8)) -> NDArray[np.uint8]:
    return np.full((*size, 3), value, np.uint8)


class OnGpu:
    """What an array of another library on a GPU looks like; nothing here may look at its pixels."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "|u1",
            "data": (256, False),
            "version": 3,
        }


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Starts `work` in a thread that ends with it."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(work)
    executor.shutdown(wait=False)
    return future
