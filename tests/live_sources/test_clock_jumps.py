"""The wall clock of a process jumps by a day and more, to and fro, while it streams and records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import clock_jumper
import needs
import pytest
import stamped
from live import UNDER_WAY
from live_server import LiveServer
from rtsp_server import RtspServer
from witness import Missing, check_missing

from pixelrt.video.sources import open_source

JUMPS, FRAMES = len(clock_jumper.JUMPS), clock_jumper.FRAMES


@contextmanager
def rtsp() -> Iterator[str]:
    """It tells its own clock, which does not jump."""
    needs.gst_rtsp_server()
    with RtspServer(fps=20, gop=10, every=True) as server:
        yield server.url


@contextmanager
def http() -> Iterator[str]:
    """It has no clock: that of this machine counts."""
    with LiveServer("http", fps=20, every=True) as server:
        yield f"{server.url}/mjpeg"


def streamed(url: str, folder: Path) -> dict[str, Any]:
    """What the child process saw; it records to out.mp4 and out.mcap."""
    clock = folder / "clock"
    clock.write_text("+0")
    settings = {"url": url, "clock": str(clock), "sinks": [f"{folder}/out.mp4", f"{folder}/out.mcap"]}
    done = subprocess.run(
        [sys.executable, clock_jumper.__file__, json.dumps(settings)],
        env=needs.faketime(clock),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("camera", [rtsp, http])
def test_jumps_of_the_wall_clock_change_nothing(
    tmp_path: Path, camera: Callable[[], AbstractContextManager[str]]
) -> None:
    with camera() as url:
        told = streamed(f"{url}#connect=30", tmp_path)
    rows = told["rows"]
    offsets = [row["wall_s"] - row["steady_s"] for row in rows]
    assert max(offsets) - min(offsets) > 1.9 * 86400, "the clock did jump"
    assert min(offsets) - offsets[0] < -86000

    assert len(rows) == JUMPS * FRAMES
    for name in ("index", "stamp", "time_s"):
        assert all(before[name] < after[name] for before, after in pairwise(rows)), name
    assert min(row["stamp"] for row in rows) >= 0, "none is damaged"
    assert all(0 <= row["age_ms"] < 5000 for row in rows)
    assert not told["barks"]
    assert "stalled" not in told["events"]
    assert "reconnecting" not in told["events"]
    check_accounts_of(told)
    steady_s = rows[-1]["steady_s"] - rows[0]["steady_s"]
    assert steady_s - 1 < told["seconds"] < steady_s + 20
    assert 0 < told["fps"] < 25
    assert all(0 <= p50 <= most < 20_000 for p50, most in told["stages"].values())

    film, log = tmp_path / "out.mp4", tmp_path / "out.mcap"
    assert sorted(tmp_path.glob("out*")) == [log, film], "one file each: none was split"
    for path, written in (
        (film, told["written"][0]),
        (f"{log}?topic={camera_topic(log)}", told["written"][1]),
    ):
        with open_source(path) as recorded:
            frames = list(recorded)
        assert len(frames) == written
        assert all(before.time_s < after.time_s for before, after in pairwise(frames))
        assert frames[-1].time_s < told["seconds"] + 20
    stamps = [stamped.read(frame.image) for frame in frames]
    assert None not in stamps
    assert all(before.index < after.index for before, after in pairwise(filter(None, stamps)))


def check_accounts_of(told: dict[str, Any]) -> None:
    """The figures are what the source gave, the program took, and the camera drew."""
    rows, dropped = told["rows"], told["dropped"]
    assert told["delivered"] == len(rows)
    assert told["captured"] == told["given"] > rows[-1]["index"]
    assert dropped.get("stopped", 0) <= UNDER_WAY
    (missing,) = [Missing(**each) for each in told["missing"]]
    check_missing(missing)
    results = told["delivered"] + dropped.get("consumer", 0)
    for written, left_out in zip(told["written"], told["sink_drops"], strict=True):
        assert results <= written + left_out <= results + dropped.get("stopped", 0)


def camera_topic(log: Path) -> str:
    from mcap.reader import make_reader

    with log.open("rb") as stream:
        summary = make_reader(stream).get_summary()
        assert summary is not None
        (topic,) = [c.topic for c in summary.channels.values() if c.topic.endswith("/camera")]
    return topic
