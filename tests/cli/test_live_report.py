"""What is said at the end of a run, however it ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from views import stage

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.cli.live_report import advice_on_deadline, show
from pixelrt.video.run import run
from pixelrt.video.sources import IteratorSource

DRIVE = "test://drive?frames=12&size=64x96"


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> str:
    return str(make_bundle().path)


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


def source_of(**more: Any) -> SimpleNamespace:
    figures = {"name": "camera", "captured": 7, "frames": 7, "dropped": {}, "lost": {}, "reconnects": 0}
    return SimpleNamespace(**{**figures, "frame_sizes": (), "failed": "", **more})


def report_of(*sources: SimpleNamespace) -> Any:
    return SimpleNamespace(
        sources=sources, sinks=[], policy=None, frames=7, seconds=2.0, fps=3.5, interrupted=False
    )


def test_beside_results_on_standard_output_losses_are_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    show(report_of(source_of(frame_size=(64, 96), lost={"damaged": 3})), None, tables=False)
    shown = capsys.readouterr()
    assert not shown.out
    assert "3 damaged" in shown.err


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ([(64, 96)], "7 frames of 64x96 in 2.0 s: 3.5 frames/s with everything in it"),
        ([(64, 96), (0, 0)], "7 frames of 64x96 in 2.0 s: 3.5 frames/s with everything in it"),
        ([(0, 0)], "7 frames in 2.0 s: 3.5 frames/s with everything in it"),
        ([(9, 9), (8, 8)], "7 frames of 8x8 and 9x9 in 2.0 s: 3.5 frames/s with everything in it"),
    ],
)
def test_a_camera_that_never_came_has_no_size(
    sizes: list[tuple[int, int]], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(report_of(*(source_of(frame_size=size) for size in sizes)), None, tables=False)
    assert capsys.readouterr().err.splitlines()[0] == text


def test_all_sizes_of_frames_are_reported(bundle: str) -> None:
    images = [np.zeros((height, 96, 3), np.uint8) for height in (64, 32, 64)]
    source = IteratorSource(images, name="camera")
    with source, pixelrt.load(bundle, device="cpu", color="rgb") as segmenter:
        (found,) = run(segmenter, source).sources
    assert (found.frame_size, found.frame_sizes) == ((64, 96), ((32, 96), (64, 96)))


def test_all_sizes_of_a_camera_that_changed_its_size_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    source = source_of(frame_size=(240, 320), frame_sizes=((240, 320), (480, 640)))
    show(report_of(source), None, tables=False)
    assert capsys.readouterr().err.startswith("7 frames of 240x320 and 480x640 in 2.0 s: ")


def test_statistics_are_logged_where_that_is_asked_for(
    bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", bundle, DRIVE, "--log", "0.05"]) == 0
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    logged = [line for line in lines if re.match(r"\d+\.\d s, ok; drive: \d+ captured", line)]
    assert len(logged) >= 1
    assert "drive: 12 captured" in logged[-1]
    assert main(["run", bundle, DRIVE, "--log", "0"]) == 2
    assert "'0' is no time; give seconds above 0" in capsys.readouterr().err
