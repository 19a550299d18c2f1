"""Where the signals of the main thread are handled."""

from __future__ import annotations

import ctypes
import sys


class _Stack(ctypes.Structure):
    """`stack_t` of sigaltstack (2)."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> tuple[int | None, int, int]:
    """Place, flags and size of the calling thread's alternate signal stack; nothing where it is not Linux."""
    stack = _Stack()
    if sys.platform == "linux" and ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)):
        raise OSError("sigaltstack")
    return stack.place, stack.flags, stack.size
