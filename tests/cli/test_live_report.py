"""What is said about a deadline that was too short."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from views import stage

from pixelrt.cli.live_report import advice_on_deadline


def report(deadline_s: float | None, *, dropped: int, frames: int, **medians_ms: float) -> Any:
    """The part of a report that counts here."""
    return SimpleNamespace(
        deadline_s=deadline_s,
        frames=frames,
        sources=[SimpleNamespace(captured=dropped + frames, dropped={"deadline": dropped})],
        stages={name: stage(median_ms) for name, median_ms in medians_ms.items()},
    )


@pytest.mark.parametrize(
    ("deadline_s", "medians_ms", "expected"),
    [
        (
            0.1,
            {"decode": 20.0, "wait": 90.0, "network": 70.0, "deliver": 5.0},
            "results are about 180 ms old here (decode 20, wait 90, network 70); try --deadline 0.4",
        ),
        (
            0.5,
            {"decode": 1100.0},
            "frames are about 1100 ms old before the network has them (decode 1100); try --deadline 3",
        ),
        (
            0.3,
            {"decode": 10.0, "network": 40.0},
            "results are about 50 ms old here (decode 10, network 40); try --deadline 0.6",
        ),
    ],
)
def test_a_deadline_that_drops_everything(
    deadline_s: float, medians_ms: dict[str, float], expected: str
) -> None:
    said = advice_on_deadline(report(deadline_s, dropped=8, frames=0, **medians_ms))
    assert said == f"--deadline {deadline_s:g} dropped 8 of 8 frames: {expected}"


@pytest.mark.parametrize(
    ("dropped", "frames", "said"), [(1, 0, True), (5, 4, True), (4, 4, False), (0, 0, False)]
)
def test_it_is_worth_a_word_where_more_is_dropped_than_delivered(
    dropped: int, frames: int, said: bool
) -> None:
    assert bool(advice_on_deadline(report(0.1, dropped=dropped, frames=frames, network=80.0))) is said


def test_without_a_deadline_nothing_is_said() -> None:
    assert advice_on_deadline(report(None, dropped=0, frames=0)) == ""
