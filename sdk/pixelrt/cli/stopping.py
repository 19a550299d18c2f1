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
        self._at_once = False

    def __call__(self) -> bool:
        """Whether it did."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, else 0."""
        return _EXIT_BASE + self.signal if self.signal else 0

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that takes long, and writes nothing: the first signal ends it, with KeyboardInterrupt."""
        self._at_once = True
        try:
            if self.signal:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The first signal ends the run after the current frame, the second one at once."""
        now = self._at_once or self.signal != 0
        self.signal = self.signal or number
        if now:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Take Ctrl-C and SIGTERM as the wish to end; how they were taken before is restored afterwards."""
    stop = Stop()
    before = [signal.signal(number, stop.handle) for number in _SIGNALS]
    try:
        yield stop
    except RuntimeError as problem:
        if isinstance(problem.__cause__, KeyboardInterrupt):  # in __set_name__, before Python 3.12
            raise KeyboardInterrupt from problem
        raise
    finally:
        # Python ends by SIGINT, whatever the exit code, where that came in code like this, and not after it
        exec("")
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
