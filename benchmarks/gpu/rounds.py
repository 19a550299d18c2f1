"""The rounds: every contender gets a short turn in each, and another one begins each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from gpu.contender import Bytes, Contender, NotMeasuredError, Turn
from gpu.setting import Entry, Setting
from gpu.state import gpu_state
from pixelrt.errors import ContextLost, DeviceLost, PixelRTError

Name = TypeVar("Name")
_FAILURES = (NotMeasuredError, PixelRTError, RuntimeError)
"""What a library says when a contender cannot go on; PyTorch and ONNX Runtime raise `RuntimeError`."""
_FATAL = (ContextLost, DeviceLost)
"""After these CUDA works for nobody in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    frames_per_turn: int
    warmup_frames: int
    """Before each turn, not counted: clocks, caches and graphs are then those of this contender."""


@dataclass(slots=True)
class Measured:
    """A contender and its turns."""

    about: dict[str, Any]
    turns: list[Turn] = field(default_factory=list)
    same_mask: float | None = None
    """Share of pixels whose class is that of the contender `Race.reference`; None where there is no mask."""

    @property
    def all(self) -> Turn:
        """All turns, pooled."""
        pooled = Turn()
        for turn in self.turns:
            pooled.add(turn)
        return pooled


@dataclass(slots=True)
class Race:
    """What came out, by name of the contender."""

    measured: dict[str, Measured] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    """The reason of each."""
    reference: str = ""
    """The contender with whose masks the others' are compared: the first that has any."""
    states: list[dict[str, object]] = field(default_factory=list)
    """Clocks and power after each round, while the GPU is warm."""


def rotated(names: Sequence[Name], number: int) -> list[Name]:
    """The order of a round: another contender begins each, and every other round goes backwards.

    So none always follows the same one: what the slowest leaves behind, heat and caches, hits them in turn.
    """
    start = number % len(names) if names else 0
    order = [*names[start:], *names[:start]]
    return order[:1] + order[:0:-1] if number % 2 else order


def race(
    entries: Sequence[Entry],
    setting: Setting,
    frames: Sequence[Bytes],
    plan: Plan,
    tell: Callable[[str], None],
) -> Race:
    """Open the contenders, let them take turns, and close them.

    A contender that cannot be opened, or that fails in a turn, is named in `not_measured`; the others go on.

    Args:
        entries: Who takes part.
        setting: With what.
        frames: What all of them process.
        plan: How much.
        tell: Takes a line on how far it is.

    Raises:
        ContextLost, DeviceLost: If the GPU itself is lost.
    """
    result, opened = Race(), dict[str, Contender]()
    try:
        _open_all(entries, setting, opened, result, tell)
        _compare_masks(opened, frames, result)
        for number in range(plan.rounds if opened else 0):
            for name in rotated(list(opened), number):
                _take_turn(name, opened, frames, plan, result)
            result.states.append(gpu_state())
            tell(f"round {number + 1} of {plan.rounds} is done")
        for name, contender in opened.items():
            result.measured[name].about = contender.about()  # the graphs are captured by now
    finally:
        for contender in opened.values():
            contender.close()
    return result


def _open_all(
    entries: Sequence[Entry],
    setting: Setting,
    opened: dict[str, Contender],
    result: Race,
    tell: Callable[[str], None],
) -> None:
    for entry in entries:
        tell(f"opening {entry.name}")
        try:
            opened[entry.name] = entry.open(setting)
        except _FATAL:
            raise
        except _FAILURES as problem:
            result.not_measured[entry.name] = _reason(problem)
            continue
        result.measured[entry.name] = Measured(opened[entry.name].about())


def _compare_masks(opened: dict[str, Contender], frames: Sequence[Bytes], result: Race) -> None:
    """All contenders shall do the same work: their masks say whether they do."""
    expected: list[Bytes] = []
    for name in list(opened):
        try:
            masks = opened[name].masks(frames)
        except _FATAL:
            raise
        except _FAILURES as problem:
            _drop(name, opened, result, f"failed at its first frames: {_reason(problem)}")
            continue
        if masks and not expected:
            expected, result.reference = masks, name
        if masks:
            pairs = zip(expected, masks, strict=False)  # a batch may be smaller than all frames
            result.measured[name].same_mask = float(np.mean([(ours == mask).mean() for ours, mask in pairs]))


def _take_turn(
    name: str, opened: dict[str, Contender], frames: Sequence[Bytes], plan: Plan, result: Race
) -> None:
    try:
        if plan.warmup_frames:
            opened[name].turn(frames, plan.warmup_frames)
        result.measured[name].turns.append(opened[name].turn(frames, plan.frames_per_turn))
    except _FATAL:
        raise
    except _FAILURES as problem:
        number = len(result.measured[name].turns) + 1
        _drop(name, opened, result, f"failed in round {number}: {_reason(problem)}")


def _drop(name: str, opened: dict[str, Contender], result: Race, reason: str) -> None:
    opened.pop(name).close()
    del result.measured[name]
    result.not_measured[name] = reason


def _reason(problem: BaseException) -> str:
    return " ".join(str(problem).split()) or type(problem).__name__
