"""What a worker raises, carried to the program with its own traceback."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from pixelrt.video.health import Health

_LOG = logging.getLogger("pixelrt.video")


class Failing:
    """A block whose error is handed over, and goes no further here.

    Args:
        handle: Gets the error.
        kind: Of the errors that are handed over.
    """

    def __init__(
        self, handle: Callable[[BaseException], None], kind: type[BaseException] = BaseException
    ) -> None:
        self._handle, self._kind = handle, kind

    def __enter__(self) -> Failing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(problem, self._kind):
            return False
        self._handle(problem)
        return True


class FirstFailure:
    """The first error of a stream, until the program has heard of it. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._problem: BaseException | None = None
        self._told = False
        self.health: Health | None = None
        """Failed, from the first error on that ended the stream."""

    def keep(self, problem: BaseException) -> None:
        """Keep the error that ends the stream."""
        with self._lock:
            if self.health is None:
                why = str(problem) or type(problem).__name__
                self.health, self._problem = Health(state="failed", why=why), problem

    def keep_for_the_end(self, problem: BaseException) -> None:
        """Keep an error with which the stream goes on."""
        with self._lock:
            self._problem = self._problem or problem

    def throw(self) -> None:
        """Raise it, once."""
        with self._lock:
            problem, self._problem = self._problem, None
        if problem is not None:
            try:
                raise problem
            finally:
                del problem  # a cycle otherwise, which keeps what the worker's frames hold

    def log(self) -> None:
        """Log it, once, where it can be raised to nobody."""
        with self._lock:
            told, self._told = self._told, self._problem is not None
            problem = self._problem
        if problem is not None and not told:
            _LOG.error("after the loop over the stream was left: %s", problem, exc_info=problem)
