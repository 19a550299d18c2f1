"""What a child process prints, for the parent to show."""

from __future__ import annotations

import collections
import fcntl
import os

from pixelrt.terminal import complain

_MOST_LINES = 12
_LINES_BEFORE_CRASH = 4
_KEPT_LINES = 100


class Output:
    """What the child and its libraries print: memory without a name, so that no file stays behind."""

    def __init__(self) -> None:
        self._shown: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._file = open(os.memfd_create("pixelrt-output", os.MFD_CLOEXEC), "r+b", buffering=0)  # noqa: SIM115
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags | os.O_APPEND)

    @property
    def descriptor(self) -> int:
        """Where to print."""
        return self._file.fileno()

    def pass_on(self) -> None:
        """Show what was printed since the last time, as if it were printed here."""
        for line in self._take():
            self._shown.append(line)
            complain(line)

    def forget(self) -> None:
        """Leave what was shown so far out of the last words: it belongs to frames that came back."""
        self._shown.clear()

    def last_words(self) -> str:
        """The end of what was printed, or the place where Python noticed a crash, for a message.

        What was shown while the last frames were on their way is part of it: a crash may print something
        between the answer to one frame and the end of the next.
        """
        lines = [*self._shown, *self._take()]
        crash = next((index for index, line in enumerate(lines) if line.startswith("Fatal Python")), None)
        start = max(0, len(lines) - _MOST_LINES if crash is None else crash - _LINES_BEFORE_CRASH)
        shown = "".join(f"\n  {line}" for line in lines[start : start + _MOST_LINES])
        return f"; it printed:{shown}" if shown else ""

    def close(self) -> None:
        """Give the memory back."""
        self._file.close()

    def _take(self) -> list[str]:
        """The lines that are there, whose memory is freed."""
        size_bytes = os.fstat(self.descriptor).st_size
        if not size_bytes:
            return []
        text = os.pread(self.descriptor, size_bytes, 0).decode(errors="replace")
        os.ftruncate(self.descriptor, 0)
        return [line for line in text.splitlines() if line]
