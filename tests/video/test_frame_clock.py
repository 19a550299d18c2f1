"""The times of a recording: those of the camera's clock, in the order of its frames whatever that does."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from pixelrt.video.frame import Frame
from pixelrt.video.sinks.content import FrameClock

STEP_S = 0.04
CLOCKS: dict[str, list[float | None]] = {
    "steady": [0.0, 0.04, 0.08, 0.12, 0.16, 0.2],
    "known late, a little behind": [None, None, -0.05, -0.01, 0.03, 0.07],
    "known late, a day behind": [None, None, -86400, -86399.96, -86399.92, -86399.88],
    "set back a day": [0.0, 0.04, -86400, -86399.96, -86399.92, -86399.88],
    "set forward a day": [0.0, 0.04, 86400, 86400.04, 86400.08, 86400.12],
    "out of order": [0.0, 0.04, 0.12, 0.08, 0.16, 0.2],
    "stands still": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "none": [None] * 6,
}


def frames(clocks: list[float | None], began_s: float) -> list[Frame]:
    return [
        Frame(
            image=np.zeros((2, 2, 3), np.uint8),
            index=index,
            time_s=index * STEP_S,
            name="",
            captured_s=began_s + index * STEP_S,
            clock_s=None if clock is None else time.time() + clock,
            source="front",
        )
        for index, clock in enumerate(clocks)
    ]


@pytest.mark.parametrize("case", CLOCKS)
def test_times_grow_in_the_order_of_the_frames(case: str) -> None:
    clock = FrameClock()
    times = [clock.taken_ns(frame) for frame in frames(CLOCKS[case], time.monotonic())]
    assert all(before < after for before, after in pairwise(times))
    wanted_s = 86400.12 if case == "set forward a day" else 5 * STEP_S
    assert (times[-1] - times[0]) / 1e9 == pytest.approx(wanted_s, abs=0.25), "no time is made up"


def test_a_camera_s_clock_counts_as_it_is() -> None:
    clock = FrameClock()
    given = frames(CLOCKS["steady"], time.monotonic())
    assert [clock.taken_ns(frame) for frame in given] == [
        round((frame.clock_s or 0) * 1e9) for frame in given
    ]


def test_the_clock_of_this_machine_counts_as_it_was_when_the_recording_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, began_s, now_ns = FrameClock(), time.monotonic(), time.time_ns()
    monkeypatch.setattr("pixelrt.video.sinks.content.time.time_ns", lambda: now_ns + 10**15)
    times = [clock.taken_ns(frame) for frame in frames(CLOCKS["none"], began_s)]
    assert abs(times[0] - now_ns) < 10**9
    assert (times[-1] - times[0]) / 1e9 == pytest.approx(5 * STEP_S, abs=1e-3)
