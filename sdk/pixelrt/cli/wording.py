"""What the gate's findings come to, and where times go, in the same words in every command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pixelrt.manifest import Check
from pixelrt.terminal import say_table

if TYPE_CHECKING:
    from pixelrt.video.statistics import StageStatistics


def verdict(check: Check) -> str:
    """`passed`, or `not used`.

    A bundle exists only if everything that the gate demands was passed: what failed beside it is a way to
    compute that nobody needs, and that `load` leaves alone.
    """
    return "passed" if check.passed else "not used"


def counted(number: int, what: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def say_times(stages: Mapping[str, StageStatistics]) -> None:
    """Write the milliseconds per frame of every stage as a table."""
    say_table(
        ("stage", ">p50", ">p95", ">p99", ">mean", ">max"),
        [
            (
                name.replace("_", " "),
                *(
                    f"{value:.2f}"
                    for value in (times.p50_ms, times.p95_ms, times.p99_ms, times.mean_ms, times.max_ms)
                ),
            )
            for name, times in stages.items()
        ],
    )
