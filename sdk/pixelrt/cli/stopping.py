"""Ctrl-C and SIGTERM end long work after the current piece, so that what was written is whole."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EXIT_BASE = 128


class Stop:
    """Whether a signal asked the run to end."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Whether it did."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, else 0."""
        return _EXIT_BASE + self.signal if self.signal else 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The first signal ends the run after the current frame, the second one at once."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Take Ctrl-C and SIGTERM as the wish to end; how they were taken before is restored afterwards."""
    stop = Stop()
    before = [signal.signal(number, stop.handle) for number in _SIGNALS]
    try:
        yield stop
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
