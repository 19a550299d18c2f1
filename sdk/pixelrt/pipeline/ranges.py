"""Named ranges for Nsight Systems, where the library `nvtx` is installed; nothing elsewhere."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from contextlib import AbstractContextManager
from typing import Any

from pixelrt.dependency import require


def nvtx_range(name: str) -> AbstractContextManager[Any]:
    """A range in the domain `pixelrt`, from entering to leaving."""
    nvtx = _nvtx()
    if nvtx is None:
        return contextlib.nullcontext()
    marked: AbstractContextManager[Any] = nvtx.annotate(name, domain="pixelrt")
    return marked


@functools.cache
def _nvtx() -> Any:
    if importlib.util.find_spec("nvtx") is None:
        return None
    return require("nvtx", "nvtx", "marking ranges for Nsight Systems")
