"""The camera program on the drawn drive, with a segmenter that knows the truth, and others."""

from __future__ import annotations

import argparse
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

import pixelrt
from pixelrt.errors import SourceError
from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_segmenter
from pixelrt.video.drive import CLASSES, Drive, DriveOptions
from pixelrt.video.sources import PushSource

SCRIPT = Path(__file__).parents[2] / "examples" / "live_camera.py"
DRIVE = "test://drive?frames=40&size=90x160&fps=30&seed=7"
SIZE = (90, 160)
ROAD = CLASSES.index("road")

Bytes = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def answers() -> dict[bytes, Bytes]:
    """The truth of each frame of the drive."""
    frames = Drive(DriveOptions(frames=40, size=SIZE, fps=30, seed=7))
    return {image.tobytes(): np.where(labels < len(CLASSES), labels, 0) for image, labels in frames}


def run(monkeypatch: pytest.MonkeyPatch, segmenter: Segmenter, *words: str | Path) -> None:
    monkeypatch.setattr(pixelrt, "load", lambda *_, **__: segmenter)
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "a bundle", *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def knowing(answers: dict[bytes, Bytes]) -> Segmenter:
    return fake_segmenter(knowing_function(answers), classes=CLASSES, size=SIZE)


def knowing_function(answers: dict[bytes, Bytes]) -> Callable[[Bytes], Bytes]:
    nothing = np.zeros(SIZE, np.uint8)  # for warming up
    return lambda frame: answers.get(frame.tobytes(), nothing)


def test_it_decides_as_the_truth_has_it_and_records(
    answers: dict[bytes, Bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = set(threading.enumerate())
    run(monkeypatch, knowing(answers), DRIVE, "--record", tmp_path / "run.mp4")
    said = capsys.readouterr().out
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    assert lines["connected"].startswith("drive: ")
    seen = int(lines["drive"].split()[2])
    assert lines["drive"].startswith("40 frames: ") and 0 < seen <= 40
    assert "stopped" not in lines["drive"], "every frame was seen, or replaced by a newer one"
    assert f"{seen} of {seen} decisions were those of the truth" in said
    with av.open(str(tmp_path / "run.mp4")) as film:
        assert len(list(film.decode(video=0))) >= seen, "also what came while the car was busy"
    assert set(threading.enumerate()) <= threads


ENDED_BY_SYSTEMD = """
import itertools, os, runpy, signal, sys
import numpy as np, pixelrt
from pixelrt.testing import fake_segmenter
from pixelrt.video.drive import CLASSES

count = itertools.count()

def compute(frame):
    if next(count) == 5:
        os.kill(os.getpid(), signal.SIGTERM)
    return np.zeros(frame.shape[:2], np.uint8)

pixelrt.load = lambda *_, **__: fake_segmenter(compute, classes=CLASSES, size=(90, 160))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_sigterm_ends_it_with_its_figures_and_a_whole_recording(tmp_path: Path) -> None:
    """As Ctrl-C does."""
    endless = DRIVE.replace("frames=40", "frames=100000")
    words = [str(SCRIPT), "a bundle", endless, "--record", str(tmp_path / "run.mp4")]
    done = subprocess.run(
        [sys.executable, "-c", ENDED_BY_SYSTEMD, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "the lane was free in " in done.stdout, (done.returncode, done.stderr)
    with av.open(str(tmp_path / "run.mp4")) as film:
        assert len(list(film.decode(video=0))) >= 1


def test_a_network_that_sees_no_road_is_told_apart(
    answers: dict[bytes, Bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blind = fake_segmenter(lambda frame: np.zeros(SIZE, np.uint8), classes=CLASSES, size=SIZE)
    with pytest.raises(SystemExit, match="expected 90% at least; is the bundle for such scenes"):
        run(monkeypatch, blind, DRIVE)
    assert "the lane was free in 0" in capsys.readouterr().out


@pytest.fixture
def program() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def watched(program: dict[str, Any], source: PushSource, watchdog: float) -> tuple[Any, threading.Thread]:
    """A car whose network sees nothing but road, while it watches."""
    segmenter = fake_segmenter(lambda frame: np.full(SIZE, ROAD, np.uint8), classes=CLASSES, size=SIZE)
    options = argparse.Namespace(record=[], deadline=None, watchdog=watchdog)
    car = program["Car"](road=ROAD)

    def watch() -> None:
        try:
            program["watch"](segmenter, source, car, options)
        except SourceError as problem:
            car.problem = str(problem)

    thread = threading.Thread(target=watch)
    thread.start()
    return car, thread


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_it_stays_when_nothing_comes_and_when_the_camera_fails(program: dict[str, Any]) -> None:
    source = PushSource()
    car, thread = watched(program, source, watchdog=0.3)
    source.push(np.zeros((*SIZE, 3), np.uint8))
    wait_for(lambda: car.may_change)
    wait_for(lambda: not car.may_change)  # the watchdog
    source.push(np.zeros((*SIZE, 3), np.uint8))
    wait_for(lambda: car.may_change)
    source.fail("the cable is broken")
    thread.join(30)
    assert not thread.is_alive() and not car.may_change
    assert "the cable is broken" in car.problem
