"""`pixelrt run` and signals: files are whole, and none is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pixelrt.bundle import Bundle
from pixelrt.video.sources import open_source


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> str:
    return str(make_bundle().path)


@pytest.fixture(autouse=True)
def hanging_up_counts() -> Iterator[None]:
    """Also where the tests run under `nohup`, which commands inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGHUP], 129),
        ([signal.SIGHUP] * 4, 129),  # a window that closes: two at the least
    ],
)
def test_signals_finish_the_files(
    bundle: str, tmp_path: Path, numbers: list[signal.Signals], code: int
) -> None:
    out, masks, figures = tmp_path / "out.mp4", tmp_path / "masks", tmp_path / "run.json"
    words = [
        "run",
        bundle,
        "test://drive?frames=1000000&size=96x144",
        "--out",
        f"{out}",
        "--out",
        f"{masks}/",
        "--json",
        f"{figures}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "pixelrt", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
    )
    deadline = time.monotonic() + 120
    while not (masks / "drive-000005.png").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.005)
    output, problems = process.communicate(timeout=60)
    assert process.returncode == code, problems
    assert "then interrupted" in output
    assert "Traceback" not in problems
    with open_source(out) as source:
        frames = len(list(source))
    assert frames == len(list(masks.iterdir())) >= 6
    assert json.loads(figures.read_text())["frames"] == frames
    assert sorted(file.name for file in tmp_path.iterdir()) == ["masks", "out.mp4", "run.json"]


@pytest.mark.parametrize("after_s", [0.3, 0.4, 0.5, 0.7])
def test_ctrl_c_while_it_starts_is_never_lost(bundle: str, tmp_path: Path, after_s: float) -> None:
    words = ["run", bundle, "test://drive?frames=1000000&size=96x144", "--out", f"{tmp_path}/out.mp4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pixelrt", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT), problems
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".tmp"]
