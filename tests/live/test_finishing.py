"""Sinks that take long to finish: as long as their file changes they are waited for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from live import Camera, Notes, network, until

from pixelrt.encoding import Draft
from pixelrt.video.sinks import open_sinks

PATIENCE_S = 0.5
"""Six times that may a sink take to finish without getting on."""
LONG_S = 6.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelrt.video.live.loop._PATIENCE_S", PATIENCE_S)


class Long(Notes):
    """Takes its time to finish.

    Args:
        gets_on: Whether it shows that it gets on.
    """

    def __init__(self, gets_on: bool) -> None:
        super().__init__()
        self.gets_on, self.steps, self.go_on = gets_on, 0, threading.Event()

    def close(self) -> tuple[Path, ...]:
        end_s = time.monotonic() + LONG_S
        while time.monotonic() < end_s and not self.go_on.wait(0.01):
            self.steps += 1
        return super().close()

    def progress(self) -> object:
        return self.steps if self.gets_on else None


def test_a_sink_that_gets_on_is_waited_for() -> None:
    sink = Long(gets_on=True)
    stream = network().stream(Camera(None, 0.001), sinks=[sink])
    next(stream)
    stream.close()
    assert sink.ends == ["closed"]
    assert stream.outputs == (Path("notes"),)


class Silent(Long):
    """Its disk does not answer."""

    def progress(self) -> object:
        self.go_on.wait()
        return None


class Broken(Long):
    """Nobody can tell how it gets on."""

    def progress(self) -> object:
        raise OSError("the folder has gone")


@pytest.mark.parametrize("kind", [Long, Silent, Broken])
def test_a_sink_that_does_not_is_left_behind(kind: type[Long]) -> None:
    sink = kind(gets_on=False)
    stream = network().stream(Camera(None, 0.001), sinks=[sink])
    next(stream)
    began_s = time.monotonic()
    stream.close()
    assert time.monotonic() - began_s < LONG_S
    assert sink.ends == []
    sink.go_on.set()
    until(lambda: sink.ends == ["closed"])


@pytest.mark.parametrize(("target", "cameras"), [("out.jsonl", 1), ("{source}.mkv", 2)])
def test_a_recording_whose_file_grows_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, cameras: int
) -> None:
    """Also those of several cameras, of which each has its own."""

    def slowly(draft: Draft) -> None:
        for _ in range(round(LONG_S / 0.05)):
            with draft.hidden.open("ab") as stream:
                stream.write(b"\n")
            time.sleep(0.05)
        finish(draft)

    finish = Draft.finish
    monkeypatch.setattr(Draft, "finish", slowly)
    sources = [Camera(None, 0.01, name=f"camera-{number}") for number in range(cameras)]
    stream = network().stream(sources, sinks=open_sinks([tmp_path / target], *sources))
    taken: set[str] = set()
    while len(taken) < cameras:
        taken.add(next(stream).frame.source)
    stream.close()
    assert len(stream.outputs) == cameras
    assert sorted(stream.outputs) == sorted(tmp_path.iterdir())
