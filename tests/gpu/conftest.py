"""Tests on a real GPU: skipped where there is none, failed instead with PIXELRT_REQUIRE_GPU=1."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from pixelrt.cuda.opening import count_devices
from pixelrt.errors import DeviceError

Absent = Callable[[str], NoReturn]


@pytest.fixture(scope="session")
def absent() -> Absent:
    """What to call with what a test needs and is not here."""

    def say(reason: str) -> NoReturn:
        if os.environ.get("PIXELRT_REQUIRE_GPU") == "1":
            pytest.fail(f"PIXELRT_REQUIRE_GPU=1 is set, and {reason}")
        pytest.skip(reason)

    return say


@pytest.fixture(scope="session", autouse=True)
def gpu(absent: Absent) -> None:
    """Every test here needs one."""
    try:
        count = count_devices()
    except DeviceError as problem:
        absent(str(problem))
    if not count:
        absent("this process sees no GPU; see CUDA_VISIBLE_DEVICES")
