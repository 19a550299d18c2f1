"""How fast a film goes through a contender, against the network alone on the same machine at the same time.

A machine drifts by more than what is asked here, within minutes. So every film (a few seconds) is measured
between two runs of the network alone on ready frames, in the same process, again and again:

  network  film  network  film  network ...

and a film's ratio is its rate over that of its two neighbours taken together. The figure is the median of
these ratios.

The control does the same with the network alone in the place of the film, while another process decodes and
draws the same film at the rate of the network and nothing else: no queue, no lock and no interpreter is
shared. What it loses is what the memory and the second core of this machine cost; what a film loses on top
of that is the contender's.

python benchmarks/live_film.py FILM BUNDLE FPS     decodes and draws at that rate, without end
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import live_camera
import live_contenders
from harness import Setting
from live_contenders import Contender

from pixelrt.bundle import Bundle

_NETWORK_FRAMES = 20
"""Of each run of the network alone."""
_WARMUP = 5
"""First frames of a film that do not count: queues fill."""

Found = dict[str, Any]


def between_networks(arguments: argparse.Namespace) -> Found:
    """Films through a contender (`arguments.contender`), each between two runs of the network alone."""
    contender = live_contenders.CONTENDERS[arguments.contender](Setting.of(arguments))
    film = arguments.folder / "file.flv"

    def played(_: float) -> Found:
        fps = _film_fps(contender, film, arguments.frames)
        return {"fps": fps, "profile": contender.profile()}

    return _compared(played, _network(arguments), arguments.pairs)


def beside_decoding(arguments: argparse.Namespace) -> Found:
    """The control: the network alone while another process decodes and draws."""
    network, film = _network(arguments), arguments.folder / "file.flv"

    def disturbed(network_ms: float) -> Found:
        with _decoding(film, arguments.bundle, 1e3 / network_ms):
            times = network()
        return {"fps": 1e3 / times["mean_ms"], "profile": {"network": times["median_ms"]}}

    return _compared(disturbed, network, arguments.pairs)


def _network(arguments: argparse.Namespace) -> Callable[[], Found]:
    """Some frames through the network, which are ready, and nothing else."""
    segmenter = live_contenders.segmenter_of(Setting.of(arguments))
    frames, count = itertools.cycle(harness.drive(4)), min(arguments.frames, _NETWORK_FRAMES)
    return lambda: harness.timed(lambda: segmenter(next(frames)), count)


def _compared(measure: Callable[[float], Found], network: Callable[[], Found], pairs: int) -> Found:
    """What `measure` finds, given the milliseconds of the network just before, against its neighbours."""
    alone, measured = [network()], []
    for _ in range(pairs):
        found = measure(alone[-1]["mean_ms"])
        alone.append(network())
        neighbours_ms = (alone[-2]["mean_ms"] + alone[-1]["mean_ms"]) / 2
        measured.append({**found, "network_ms": neighbours_ms, "ratio": found["fps"] * neighbours_ms / 1e3})
    return {
        "fps": statistics.median(pair["fps"] for pair in measured),
        "ratio": statistics.median(pair["ratio"] for pair in measured),
        "network_ms": statistics.median(times["median_ms"] for times in alone),
        "profile": _medians([pair["profile"] for pair in measured]),
        "pairs": measured,
    }


def _medians(profiles: list[dict[str, float]]) -> dict[str, float]:
    return {stage: statistics.median(each[stage] for each in profiles) for stage in profiles[0]}


def _film_fps(contender: Contender, film: Path, frames: int) -> float:
    numbers, delivered_s = [], []
    for frame, _ in contender.open(str(film)):
        delivered_s.append(time.perf_counter())
        numbers.append(live_camera.number_of(frame))
    if numbers != list(range(frames)):
        raise SystemExit(f"{len(numbers)} of {frames} frames came")
    skipped = min(_WARMUP, frames - 2)
    return (frames - 1 - skipped) / (delivered_s[-1] - delivered_s[skipped])


# ----------------------------------------------------------------------------------------- the other process


@contextlib.contextmanager
def _decoding(film: Path, bundle: Path, fps: float) -> Iterator[None]:
    """A process that decodes and draws, which has begun."""
    command = [sys.executable, __file__, str(film), str(bundle), f"{fps:.3f}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise harness.ChildError("the process that decodes did not start")
            yield
            if process.poll() is not None:
                raise harness.ChildError(f"the process that decodes ended with {process.returncode}")
        finally:
            process.kill()


def _decode_for_ever(film: Path, bundle: Path, fps: float) -> None:
    from pixelrt.video.sources import open_source

    _, result = live_contenders.scene(Bundle.open(bundle).segmentation, harness.SIZE)
    due_s = time.monotonic()
    for play in itertools.count():
        with open_source(str(film)) as source:
            for frame in source:
                result.overlay(frame.image, live_contenders.ALPHA)
                if play == 0 and frame.index == 0:
                    sys.stdout.write("begun\n")
                    sys.stdout.flush()
                due_s = max(due_s + 1 / fps, time.monotonic())
                time.sleep(max(due_s - time.monotonic(), 0))


if __name__ == "__main__":
    _decode_for_ever(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
