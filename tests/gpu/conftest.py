"""Tests on a real GPU: skipped where there is none, failed instead with PIXELRT_REQUIRE_GPU=1."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from pixelrt.cuda.opening import count_devices
from pixelrt.errors import DeviceError

Absent = Callable[[str], NoReturn]


def say_absent(reason: str) -> NoReturn:
    """Skip a test for want of something, or fail it where everything was promised to be there."""
    if os.environ.get("PIXELRT_REQUIRE_GPU") == "1":
        pytest.fail(f"PIXELRT_REQUIRE_GPU=1 is set, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def absent() -> Absent:
    """What to call with what a test needs and is not here."""
    return say_absent


@functools.cache
def why_no_gpu() -> str:
    """Why nothing here can run; empty if it can."""
    try:
        return "" if count_devices() else "this process sees no GPU; see CUDA_VISIBLE_DEVICES"
    except DeviceError as problem:
        return str(problem)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Every test here needs a GPU. A hook, not a fixture: pytest then says so once, not for every test."""
    if reason := why_no_gpu():
        say_absent(reason)
