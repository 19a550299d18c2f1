"""What is written of events that come again and again."""

from __future__ import annotations

import itertools
import logging

import pytest

from pixelrt.video.events import Event, EventKind
from pixelrt.video.live.failing import Failing
from pixelrt.video.live.telling import Teller
from pixelrt.video.repeats import Repeats


def happened(kind: EventKind, at_s: float, source: str = "front") -> Event:
    return Event(kind=kind, source=source, detail="as told", at_s=at_s)


def times_of_lines(repeats: Repeats, kind: EventKind, times_s: range) -> list[int]:
    return [at_s for at_s in times_s if repeats.line(happened(kind, at_s)) is not None]


@pytest.mark.parametrize("kind", ["reconnecting", "damaged", "skipped"])
def test_the_first_are_told_and_then_few(kind: EventKind) -> None:
    a_week_s = range(0, 7 * 24 * 3600, 5)
    said_s = times_of_lines(Repeats(), kind, a_week_s)
    assert said_s[:10] == [0, 5, 10, 20, 40, 80, 160, 320, 640, 1240]
    pauses_s = [after - before for before, after in itertools.pairwise(said_s[9:])]
    assert set(pauses_s) == {600}, "a line in ten minutes for as long as it takes"


def test_a_line_says_how_many_were_left_out() -> None:
    repeats = Repeats()
    lines = [repeats.line(happened("reconnecting", at_s)) for at_s in range(41)]
    said = [line for line in lines if line is not None]
    assert said == [
        *["front: reconnecting: as told"] * 3,
        "front: reconnecting: as told (9 more like this since the last line)",
        "front: reconnecting: as told (19 more like this since the last line)",
    ]


def test_tries_begin_anew_with_each_connection_and_each_source_is_told_of() -> None:
    repeats = Repeats()
    assert len(times_of_lines(repeats, "reconnecting", range(9))) == 3
    assert repeats.line(happened("reconnecting", 9, "rear")) == "rear: reconnecting: as told"
    assert repeats.line(happened("reconnecting", 9)) is None
    assert repeats.line(happened("connected", 9)) == "front: connected: as told"
    assert repeats.line(happened("reconnecting", 9)) == "front: reconnecting: as told"


def test_after_a_quiet_time_it_is_news_again() -> None:
    repeats = Repeats()
    assert len(times_of_lines(repeats, "damaged", range(9))) == 3
    assert len(times_of_lines(repeats, "damaged", range(1000, 1009))) == 3


@pytest.mark.parametrize("kind", ["connected", "lost", "stalled", "recovered", "overloaded", "resized"])
def test_every_change_of_state_is_told(kind: EventKind) -> None:
    assert len(times_of_lines(Repeats(), kind, range(50))) == 50


def test_the_log_gets_few_lines_and_the_program_every_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pixelrt.video.events")
    got: list[Event] = []
    teller = Teller(got.append, Failing(pytest.fail))
    for at_s in range(9):
        teller.tell(happened("reconnecting", at_s))
    teller.tell(happened("connected", 9))
    assert len(got) == 10
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        *[("WARNING", "front: reconnecting: as told")] * 3,
        ("INFO", "front: connected: as told"),
    ]
