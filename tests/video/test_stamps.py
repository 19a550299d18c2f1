"""When pictures were taken, by stamps of any clock."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pixelrt.video.sources import stamps
from pixelrt.video.sources.stamps import Stamps

BOOT_S = 1_700_000_000.0


class Clocks:
    """`time`, as a test wants it."""

    now_s = 500.0

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(monotonic=lambda: self.now_s, time=lambda: BOOT_S + self.now_s)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(stamps, "time", clocks.module())
    return clocks


def read(clocks: Clocks, times: Stamps, ages_s: list[float], base_s: float = 0.0) -> list[float]:
    """How old pictures are by their times that are asked for now, one after the other."""
    found = []
    for age_s in ages_s:
        times.asked()
        captured_s, _ = times.times(base_s + clocks.now_s - age_s)
        found.append(clocks.now_s - captured_s)
        clocks.now_s += 0.01
    return found


def test_a_stamp_of_our_clock_counts(clocks: Clocks) -> None:
    times = Stamps()
    times.asked()
    assert times.times(499.98) == (499.98, None)
    assert times.times(None) == (500.0, None)
    assert times.times(499.0) == (500.0, None), "never back"


def test_a_stamp_of_the_time_of_day_is_the_camera_s_own(clocks: Clocks) -> None:
    times = Stamps()
    times.asked()
    assert times.times(BOOT_S + 499.5) == (500.0, BOOT_S + 499.5)


@pytest.mark.parametrize("stamp_s", [0.0, 480.0, 500.5, BOOT_S, BOOT_S + 501])
def test_a_stamp_of_no_clock_is_left_out(clocks: Clocks, stamp_s: float) -> None:
    times = Stamps()
    times.asked()
    assert times.times(stamp_s) == (500.0, None)


def test_pictures_that_waited_while_the_reader_was_away_are_as_old_as_that(clocks: Clocks) -> None:
    """Behind a sink that blocks, for example; they are all that the driver has buffers for."""
    times = Stamps()
    assert read(clocks, times, [0.02, 0.02]) == pytest.approx([0.02, 0.02])
    clocks.now_s += 60
    assert read(clocks, times, [60.0, 59.9, 59.8, 59.7]) == pytest.approx([60.0, 59.9, 59.8, 59.7])


def test_pictures_of_the_time_of_day_that_waited(clocks: Clocks) -> None:
    times = Stamps()
    times.asked()
    clocks.now_s += 60
    times.asked()
    assert times.times(BOOT_S + 500.0) == (560.0, BOOT_S + 500.0)


def test_a_clock_that_runs_away_is_not_ours_any_more(clocks: Clocks) -> None:
    times = Stamps()
    ages_s = read(clocks, times, [0.02, 5.0, 9.0, *[11.0] * 20])
    assert ages_s[-1] == 0.0
