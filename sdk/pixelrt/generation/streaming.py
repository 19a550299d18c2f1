"""Results of what comes one after the other, in order, with as many on their way as there may be."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

Result_co = TypeVar("Result_co", covariant=True)


class Coming(Protocol[Result_co]):
    """A ticket of a generator or of a chain."""

    def result(self) -> Result_co:
        """Wait for it."""
        ...


def in_order(
    submit: Callable[[Any], Coming[Result_co]], given: Iterable[Any], slots: int
) -> Iterator[Result_co]:
    """Start each as it comes, and give each result as soon as it is there.

    Args:
        submit: Starts one.
        given: What comes; it is asked for more only when a slot is free.
        slots: How many may be on their way at once.
    """
    waiting: deque[Coming[Result_co]] = deque()
    for each in given:
        waiting.append(submit(each))
        if len(waiting) >= slots:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
