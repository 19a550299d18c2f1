"""The live panel: what stands in it."""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console
from views import FRONT, STATISTICS, View

from pixelrt.cli.display import Look, displayed
from pixelrt.cli.panel import Panel, clock_text
from pixelrt.video.events import Event
from pixelrt.video.live import StreamStatistics
from pixelrt.video.sources import Frame, Source, open_source
from pixelrt.video.sources.base import BaseSource
from pixelrt.video.sources.paced import Paced


def drawn(now: StreamStatistics = STATISTICS, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(Panel(View(now), "road-unet on openvino").draw())
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_everything_of_interest_is_in_it() -> None:
    lines = drawn()
    assert lines[0].startswith("road-unet on openvino  12 s ──")
    rows = {line.split()[0]: " ".join(line.split()) for line in lines if line.strip()}
    assert rows["front"] == "front ● ok 30.0 25.0 1 15 newer, 3 deadline 4 damaged"
    assert rows["rear"].startswith("rear ◌ reconnecting ")
    assert "rear: connection refused; next try in 4 s" in lines
    assert rows["network"] == "network 11.0 22.0 33.0 44.0"  # of the last seconds
    assert rows["capture"] == "capture to delivery 22.0 44.0 66.0 88.0"
    assert rows["out.mp4"] == "out.mp4 ● ok 95 3 2"
    assert rows["web"] == "web ✗ failed 5 95 0"
    assert "web: the disk is full" in lines


def test_a_source_that_has_ended_says_so() -> None:
    ended = dataclasses.replace(FRONT, fps_captured=0.0, fps_delivered=0.0, ended=True)
    [row] = [line for line in drawn(dataclasses.replace(STATISTICS, sources=(ended,))) if "front" in line]
    assert " ".join(row.split()).startswith("front ■ ended 0.0 0.0")


def test_before_the_first_frame_and_without_sinks() -> None:
    lines = drawn(dataclasses.replace(STATISTICS, stages={}, recent={}, sinks=()))
    assert not any("network" in line or "sink" in line for line in lines)
    assert any(line.startswith("front") for line in lines)


def test_sixteen_sources_and_a_narrow_terminal() -> None:
    sources = tuple(dataclasses.replace(FRONT, name=f"rtsp://camera-{place}/live") for place in range(16))
    lines = drawn(dataclasses.replace(STATISTICS, sources=sources), width=60)
    assert sum(line.startswith("rtsp://") for line in lines) == 16
    assert max(map(len, lines)) <= 60


def test_names_and_reasons_are_no_markup() -> None:
    source = dataclasses.replace(FRONT, name="drive[left].mp4", dropped={"[/x]": 3}, lost={"[bold]late": 4})
    sink = dataclasses.replace(STATISTICS.sinks[0], name="out[/].mp4")
    lines = drawn(dataclasses.replace(STATISTICS, sources=(source,), sinks=(sink,)))
    rows = [" ".join(line.split()) for line in lines]
    assert "drive[left].mp4 ● ok 30.0 25.0 1 3 [/x] 4 [bold]late" in rows
    assert "out[/].mp4 ● ok 95 3 2" in rows


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.9, "59 s"), (125, "2:05"), (3725, "1:02:05"), (90000, "25:00:00")]
)
def test_times(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


class Absent(BaseSource):
    """A camera that is waited for."""

    size, fps, num_frames, live = (0, 0), 25.0, None, True

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Absent:
        return self

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


def events(live: bool) -> tuple[Source, list[Event]]:
    drive = open_source("test://drive?frames=1&size=64x64")
    kinds = ("connected", "stalled", "connected", "ended")
    told = [Event(kind=kind, source="drive", detail=f"the {kind} one") for kind in kinds]  # type: ignore[arg-type]
    return (Paced(drive) if live else drive), told


@pytest.mark.parametrize(("live", "shown"), [(True, ["stalled", "connected", "ended"]), (False, ["stalled"])])
def test_changes_of_state_are_lines(capsys: pytest.CaptureFixture[str], live: bool, shown: list[str]) -> None:
    source, told = events(live)
    with displayed([source], Look(title="title"), []) as observers:
        for event in told:
            observers.event(event)
            logging.getLogger("pixelrt.video.events").warning("not once more")
        logging.getLogger("pixelrt.video").warning("left %s", "behind", exc_info=ValueError("a traceback"))
        logging.getLogger("pixelrt.video").info("not worth a line")
        observers.silence(2.5)
    logging.getLogger("pixelrt.video").warning("after the run it is as before")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        *(f"drive: {kind}: the {kind} one" for kind in shown),
        "warning: left behind",
        "warning: no result for 2.5 s",
    ]


def test_a_camera_that_is_away_for_long_does_not_fill_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    source, _ = events(live=True)
    with displayed([source], Look(title="title"), []) as observers:
        for attempt in range(1, 300):
            observers.event(
                Event(kind="reconnecting", source="drive", detail=f"try {attempt}", at_s=4.0 * attempt)
            )
        observers.event(Event(kind="connected", source="drive", detail="the first one"))
        observers.event(Event(kind="lost", source="drive", detail="again"))
        observers.event(Event(kind="reconnecting", source="drive", detail="at once"))
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines[:4] == [
        *(f"drive: reconnecting: try {attempt}" for attempt in (1, 2, 3)),
        "drive: reconnecting: try 6 (2 more like this since the last line)",
    ]
    assert lines[-3:] == [
        "drive: connected: the first one",
        "drive: lost: again",
        "drive: reconnecting: at once",
    ]
    assert len(lines) < 15


def test_a_camera_that_was_not_there_is_told_to_have_come(capsys: pytest.CaptureFixture[str]) -> None:
    there, _ = events(live=True)
    with displayed([Absent("front"), there, Absent("front")], Look(title="title"), []) as observers:
        for name in ("front", "drive", "front-2"):
            observers.event(Event(kind="connected", source=name, detail="frames come"))
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["front: connected: frames come", "front-2: connected: frames come"]


def test_statistics_that_are_logged_are_the_lines_of_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("pixelrt.video.statistics")
    source, _ = events(live=True)
    for logged in (False, True):
        with displayed([source], Look(title="title", logged=logged), []):
            logger.info("%s", STATISTICS)
    logger.info("after the run it is as before")
    [line] = capsys.readouterr().err.splitlines()
    assert line.partition(" ")[2] == str(STATISTICS)
