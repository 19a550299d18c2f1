"""Whether a thread waits for a session that another thread uses, or is refused at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_THREAD = threading.local()


@contextlib.contextmanager
def waiting_for_others() -> Iterator[None]:
    """In this block the thread waits: what it does goes on for long, and must not end by a call elsewhere."""
    _THREAD.waits = True
    try:
        yield
    finally:
        _THREAD.waits = False


def waits() -> bool:
    """Whether this thread does."""
    return getattr(_THREAD, "waits", False)
