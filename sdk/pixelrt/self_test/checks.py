"""What a check is, and how its verdict is reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import PixelRTError
from pixelrt.self_test.protocol import Begun, Figures, Order, Result, Status

MIB = 1 << 20


class CheckFailedError(Exception):
    """Something works, and not as it should; the message says what was found and what was expected."""


class ImpossibleError(Exception):
    """This machine lacks what a check needs; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to find out."""

    name: str
    run: Callable[[Any], Figures]
    """Gets the group's ground, and gives figures; raises if something is wrong."""
    limit_s: float = 30.0
    needed: bool = False
    """Without it the checks behind it make no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Checks that share a ground: an open GPU, a loaded network."""

    name: str
    title: str
    open: Callable[[Order], Any]
    """Gives the ground, which has a `close`; raises `ImpossibleError` where this machine has none."""
    checks: tuple[Check, ...]


Tell = Callable[[Begun | Result], None]


def run_group(group: Group, order: Order, tell: Tell) -> None:
    """Run a group's checks in this process, but for those that the order leaves out.

    Args:
        group: The checks.
        order: What to run it on.
        tell: Told of every check when it begins, and of its result.
    """
    checks = [check for check in group.checks if check.name not in order.skip]
    if not checks:
        return
    tell(Begun(group.name, checks[0].name))
    ground, refused = _opened(group, order, checks[0])
    if refused is not None:
        tell(refused)
        for result in left_out(group, checks[1:], refused):
            tell(result)
        return
    try:
        _run_all(group, checks, ground, tell)
    finally:
        ground.close()


def _run_all(group: Group, checks: Sequence[Check], ground: Any, tell: Tell) -> None:
    for index, check in enumerate(checks):
        tell(Begun(group.name, check.name))
        result = _run(group, check, ground)
        tell(result)
        if check.needed and result.status != "ok":
            for other in left_out(group, checks[index + 1 :], result):
                tell(other)
            return


def _opened(group: Group, order: Order, first: Check) -> tuple[Any, Result | None]:
    """The ground, or the result of the first check where there is none."""
    began_s = time.perf_counter()
    try:
        return group.open(order), None
    except ImpossibleError as problem:
        return None, _result(group, first, "impossible", str(problem), began_s)
    except PixelRTError as problem:
        return None, _result(group, first, "failed", _text(problem), began_s)


def _run(group: Group, check: Check, ground: Any) -> Result:
    began_s = time.perf_counter()
    try:
        figures = check.run(ground)
    except ImpossibleError as problem:
        return _result(group, check, "impossible", str(problem), began_s)
    except CheckFailedError as problem:
        return _result(group, check, "failed", str(problem), began_s)
    except PixelRTError as problem:
        return _result(group, check, "failed", _text(problem), began_s)
    return _result(group, check, "ok", "", began_s, figures)


def _result(
    group: Group, check: Check, status: Status, reason: str, began_s: float, figures: Figures | None = None
) -> Result:
    seconds = round(time.perf_counter() - began_s, 3)
    return Result(group.name, check.name, status, reason, seconds, figures or {})


def _text(problem: PixelRTError) -> str:
    return f"{type(problem).__name__}: {problem}"


def left_out(group: Group, checks: Sequence[Check], because: Result) -> list[Result]:
    """Results of the checks that make no sense after this one."""
    reason = because.reason if because.status == "impossible" else f"needs {because.name!r}, which failed"
    return [Result(group.name, check.name, "impossible", reason, 0.0, {}) for check in checks]


def expect_equal(found: NDArray[Any], expected: NDArray[Any], what: str) -> None:
    """Refuse other values than expected.

    Raises:
        CheckFailedError: Saying how many differ.
    """
    if found.shape != expected.shape:
        raise CheckFailedError(f"{what} has the shape {found.shape}, expected {expected.shape}")
    wrong = int(np.count_nonzero(found != expected))
    if wrong:
        raise CheckFailedError(f"{what}: {wrong} of {found.size} values differ from what was expected")


def expect(right: bool, text: str) -> None:
    """Refuse what is not right.

    Raises:
        CheckFailedError: With the text.
    """
    if not right:
        raise CheckFailedError(text)
