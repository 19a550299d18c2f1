"""What a worker raises, carried to the program with its own traceback."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType


class Failing:
    """A block whose error is handed over, and goes no further here.

    Args:
        handle: Gets the error.
    """

    def __init__(self, handle: Callable[[BaseException], None]) -> None:
        self._handle = handle

    def __enter__(self) -> Failing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if problem is not None:
            self._handle(problem)
        return True
