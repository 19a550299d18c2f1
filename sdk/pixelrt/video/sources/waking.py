"""Ends a wait from another thread."""

from __future__ import annotations

import os
import threading


class Wake:
    """A file descriptor that can be read from once `set` was called, for `poll` beside another.

    From any thread, at any time, also after `close`.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may call `set` in the middle of these
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        """End the wait, and those to come."""
        with self._lock:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            descriptor, self.fd = self.fd, -1
            if descriptor >= 0:
                os.close(descriptor)
