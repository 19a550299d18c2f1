"""Ctrl-C, exactly when a test wants it."""

from __future__ import annotations

from types import FrameType


class Interrupting:
    """Ctrl-C at the n-th moment at which Python looks for one: after a call of C, or as a function begins."""

    def __init__(self, moment: int) -> None:
        self._moment, self.came = moment, False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_return") and not self.came:
            self._moment -= 1
            if not self._moment:
                self.came = True
                raise KeyboardInterrupt
