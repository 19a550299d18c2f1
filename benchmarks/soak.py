"""Half an hour of live video through the real loop: does memory stay, do latencies, does anything leak?

A process watches a camera (`live_camera.py`, 360x640, 30 frames a second of H.264 over TCP, without end) with
road-unet at 176x240, and records the overlays in parts of a minute. It is looked at from outside once a
second: memory, threads, file descriptors. Memory is all that is resident (RSS), and what of it is the
program's own (anonymous): PSS would change with the other programs that use the same libraries. The age of
each result is what the camera and the program note of the number in its pixels; by the same numbers, nothing
may come twice, out of order or be missing without being counted. After two minutes, in which heaps take the
size that they keep, the minutes count, and the first one is compared with the last one.

A p99 of a minute is made by its 18 oldest results, so half a second in which the machine did something else
decides it. What the machine did is seen by a thread of the watching process that sleeps for 5 ms again and
again: `late` is how much longer it slept than it asked for, p99 and longest, in the same minute.

python benchmarks/soak.py [--minutes 30] [--json FILE]
needs: pip install -e '.[cpu,video,export]', Linux
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import harness
import live_camera
import numpy as np
from numpy.typing import NDArray

from pixelrt.terminal import complain, say, say_table

FRAME_SIZE = (360, 640)
NETWORK_SIZE = (176, 240)
_FILM_FRAMES = 20 * live_camera.FPS
_MEMORY_LIMIT = 0.02
_LATENCY_LIMIT = 1.10
_NAP_S = 0.005
_LEAST_DELIVERED = 0.99
"""Of the frames of a minute: the machine has time for each of them."""
_MOST_UNDER_WAY = 4
"""Frames that the program stops in the end: waiting, computed, and one result for it and one for the sink."""

Found = dict[str, Any]


def main() -> int:
    """Export the network, watch the watcher, judge."""
    arguments = _arguments()
    if arguments.watch:
        sys.stdout.write(json.dumps(_watch(arguments)) + "\n")
        return 0
    return _soak(arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--bundle", type=Path, help="another network (road-unet, exported small)")
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    harness.add_result_file(parser, "soak")
    parser.add_argument("--watch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.minutes < 0.1:
        parser.error(f"--minutes {arguments.minutes}: expected at least 0.1")
    return arguments


def _span_s(minutes: float) -> float:
    """A minute, or less where the whole is short, so that there are four of these."""
    return min(60.0, 60 * minutes / 4)


def _warm_up_s(minutes: float) -> float:
    """How long nothing counts in the beginning: the network, the encoder and their memory set up."""
    return 2 * _span_s(minutes)


# ------------------------------------------------------------------------------------------------- the parent


def _soak(arguments: argparse.Namespace) -> int:
    before = harness.quiet_or_warn()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = (arguments.bundle or _exported(folder)).resolve()
        say("drawing the film")
        live_camera.make_film(folder / "film.flv", _FILM_FRAMES, FRAME_SIZE)
        options = ["--bundle", str(bundle), "--threads", str(arguments.threads)]
        script = str(Path(__file__).resolve())
        command = [sys.executable, script, "--watch", name, "--minutes", str(arguments.minutes), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as watcher:
            try:
                with _Sleeper() as sleeper:
                    samples = list(_samples(watcher))
                said, _ = watcher.communicate()
            finally:
                watcher.kill()
        if watcher.returncode:
            raise harness.ChildError(f"the program exited with {watcher.returncode}")
        found: Found = json.loads(said.splitlines()[-1])
        about = harness.about(bundle)
    span_s = _span_s(arguments.minutes)
    rows = _by_minute(samples, found["minutes"], found["began_s"], span_s)
    for row in rows:
        row |= sleeper.late_ms(found["began_s"] + (row["minute"] - 1) * span_s, span_s)
    _show(rows)
    figures = {
        "bundle": about,
        "frame_size": FRAME_SIZE,
        "fps": live_camera.FPS,
        "minutes": arguments.minutes,
        "warm_up_s": _warm_up_s(arguments.minutes),
        "by_minute": rows,
        "last_against_first": _last_against_first(rows),
        "stream": found["stream"],
        "order": found["order"],
    }
    return harness.finish("soak", figures, _bars(rows, found, span_s), before, arguments.out)


def _show(rows: Sequence[Found]) -> None:
    say_table(
        tuple(name if name == "minute" else f">{name.replace('_', ' ')}" for name in rows[0]),
        [
            [f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()]
            for row in rows
        ],
    )
    figures = ", ".join(f"{name} {figure:.3f}" for name, figure in _last_against_first(rows).items())
    say(f"last minute / first: {figures}")


def _last_against_first(rows: Sequence[Found]) -> dict[str, float]:
    """Of figures that grow where something piles up, and of the machine's own."""
    names = ("p50_ms", "p99_ms", "rss_mb", "anonymous_mb", "late_p99_ms")
    return {name: round(rows[-1][name] / rows[0][name], 5) for name in names}


class _Sleeper:
    """Notes for how much longer than asked a thread that does nothing else sleeps."""

    def __init__(self) -> None:
        self._late_s: list[tuple[float, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sleep)

    def __enter__(self) -> _Sleeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def late_ms(self, begin_s: float, span_s: float) -> Found:
        """p99 and longest of a part of the time."""
        late_ms = [1e3 * late_s for at_s, late_s in self._late_s if begin_s <= at_s < begin_s + span_s]
        return {"late_p99_ms": float(np.percentile(late_ms, 99)), "late_max_ms": max(late_ms)}

    def _sleep(self) -> None:
        while not self._stopped.is_set():
            began_s = time.monotonic()
            time.sleep(_NAP_S)
            self._late_s.append((began_s, time.monotonic() - began_s - _NAP_S))


def _exported(folder: Path) -> Path:
    """road-unet at a size for which this machine has time 30 times a second."""
    say(f"exporting road-unet at {NETWORK_SIZE[0]}x{NETWORK_SIZE[1]}")
    changes = {
        r"size = \[\d+, \d+\]": f"size = [{NETWORK_SIZE[0]}, {NETWORK_SIZE[1]}]",
        r'checkpoint = "([\w./-]+)"': f'checkpoint = "{harness.RECIPE.parent}/\\1"',
        r"frames=\d+&size=\d+x\d+": f"frames=6&size={NETWORK_SIZE[0]}x{NETWORK_SIZE[1]}",
    }
    text = harness.RECIPE.read_text(encoding="utf-8")
    for pattern, other in changes.items():
        text = re.sub(pattern, other, text)
    recipe = folder / harness.RECIPE.parent.name / harness.RECIPE.name  # a bundle is called after its folder
    recipe.parent.mkdir()
    recipe.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pixelrt", "export", str(recipe), "--no-engines", "--quiet"]
    subprocess.run([*command, "--out", str(folder / "bundle")], check=True, stdout=subprocess.DEVNULL)
    return folder / "bundle"


def _samples(watcher: subprocess.Popen[str]) -> Iterator[Found]:
    """What the process is like, once a second until it ends."""
    while watcher.poll() is None:
        try:
            sample = _sample(Path(f"/proc/{watcher.pid}"))
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            return
        yield sample
        time.sleep(1 - time.monotonic() % 1)


def _sample(process: Path) -> Found:
    rollup = (process / "smaps_rollup").read_text()
    kilobytes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", rollup, re.MULTILINE)}
    return {
        "at_s": time.monotonic(),
        "rss_bytes": 1024 * kilobytes["Rss"],
        "anonymous_bytes": 1024 * kilobytes["Anonymous"],
        "threads": len(list((process / "task").iterdir())),
        "descriptors": len(list((process / "fd").iterdir())),
    }


def _by_minute(
    samples: Sequence[Found], minutes: Sequence[Found], began_s: float, span_s: float
) -> list[Found]:
    rows = []
    for number, minute in enumerate(minutes, 1):
        begin_s = began_s + (number - 1) * span_s
        inside = [sample for sample in samples if begin_s <= sample["at_s"] < begin_s + span_s]
        if not inside:
            complain(f"minute {number} has no sample")
            continue
        row = {"minute": number, **minute}
        row |= {f"{name}_mb": _median(inside, f"{name}_bytes") / 1e6 for name in ("rss", "anonymous")}
        rows.append(row | {name: int(_median(inside, name)) for name in ("threads", "descriptors")})
    return rows


def _median(samples: Sequence[Found], name: str) -> float:
    return float(np.median([sample[name] for sample in samples]))


def _bars(rows: Sequence[Found], found: Found, span_s: float) -> list[harness.Bar]:
    first, last = rows[0], rows[-1]
    source, order = found["stream"]["sources"][0], found["order"]
    against = _last_against_first(rows)
    memory = max(abs(against[name] - 1) for name in ("rss_mb", "anonymous_mb"))
    fewest = min(row["frames"] for row in rows) / (live_camera.FPS * span_s)
    lost = order["sent"] - order["captured"] - sum(source["lost"].values())
    stopped = source["dropped"].get("stopped", 0)

    def at_most(name: str, value: float, limit: float) -> harness.Bar:
        return harness.Bar(name, round(value, 5), limit, at_most=True)

    return [
        at_most(
            "memory, last minute against the first; resident and its own part, the worse",
            memory,
            _MEMORY_LIMIT,
        ),
        at_most("p99, last minute / the first", against["p99_ms"], _LATENCY_LIMIT),
        at_most("more threads", last["threads"] - first["threads"], 0),
        at_most("more file descriptors", last["descriptors"] - first["descriptors"], 0),
        harness.Bar(
            "results of the worst minute / frames of a minute",
            round(fewest, 5),
            _LEAST_DELIVERED,
            at_most=False,
        ),
        at_most("results that came twice or out of order", order["disordered"], 0),
        at_most("frames that the camera sent, and that were neither captured nor counted as lost", lost, 0),
        at_most("results counted and not taken", source["delivered"] - order["delivered"], 0),
        at_most(
            "frames under way when it was stopped, and all that got lost inside", stopped, _MOST_UNDER_WAY
        ),
    ]


# ------------------------------------------------------------------------------------------------ the program


def _watch(arguments: argparse.Namespace) -> Found:
    import pixelrt
    from pixelrt.video.sinks import open_sinks
    from pixelrt.video.sources import open_source

    folder: Path = arguments.watch
    film, times = live_camera.Film(folder / "film.flv"), folder / "times.npy"
    seconds, span_s = 60 * arguments.minutes, _span_s(arguments.minutes)
    ages, order = _Ages(span_s, round(seconds / span_s)), _Order(film.frames)
    with (
        pixelrt.load(
            arguments.bundle, task="segmentation", device="cpu", threads=arguments.threads, color="rgb"
        ) as segmenter,
        live_camera.camera(film, times, endless=True) as address,
        open_source(address) as source,
    ):
        sent_s = np.load(times, mmap_mode="r")
        sinks = open_sinks([f"run.mp4?segment={span_s:g}"], source)
        stream = segmenter.stream(source, sinks=sinks)
        begin_s = None
        for delivery in stream:
            now_s = time.monotonic()
            number = live_camera.number_of(delivery.frame.image)
            order.add(number, delivery.frame.index)
            begin_s = begin_s or now_s + _warm_up_s(arguments.minutes)
            if now_s < begin_s:
                continue
            ages.add(now_s, now_s - sent_s[number])
            if now_s - ages.began_s >= seconds:
                break
        stream.close()
    return {
        "began_s": ages.began_s,
        "minutes": ages.minutes(),
        "order": order.figures(),
        "stream": dataclasses.asdict(stream.statistics()),
    }


class _Ages:
    """Ages of results, minute by minute, in memory that does not grow.

    Args:
        span_s: How long a minute is.
        minutes: How many there are.
    """

    def __init__(self, span_s: float, minutes: int) -> None:
        self._span_s, self._minutes = span_s, minutes
        most = round(2 * live_camera.FPS * span_s * minutes)
        self._at_s, self._ages_ms = np.full(most, -1.0), np.full(most, -1.0)
        self._count = 0
        self.began_s = time.monotonic()

    def add(self, now_s: float, age_s: float) -> None:
        """Note a result."""
        if not self._count:
            self.began_s = now_s
        self._at_s[self._count], self._ages_ms[self._count] = now_s, 1e3 * age_s
        self._count += 1

    def minutes(self) -> list[Found]:
        """All of them; before the first one are places that were not needed."""
        places = (self._at_s - self.began_s) // self._span_s
        return [_figures(self._ages_ms[places == minute]) for minute in range(self._minutes)]


class _Order:
    """Whether each frame came once, one after another, by the numbers in their pixels.

    Args:
        numbers: The camera counts that far, and begins again.
    """

    def __init__(self, numbers: int) -> None:
        self._numbers = numbers
        self._sent = self._captured = self._delivered = self._disordered = 0

    def add(self, number: int, index: int) -> None:
        """Note a result.

        Args:
            number: In its pixels.
            index: Of its frame in the source.
        """
        ahead = (number + 1 - self._sent) % self._numbers
        if not 0 < ahead < self._numbers / 2:
            self._disordered += 1
        self._sent += ahead
        self._captured = index + 1
        self._delivered += 1

    def figures(self) -> dict[str, int]:
        """Up to the last result: frames sent, captured and delivered, and results in the wrong place."""
        return {
            "sent": self._sent,
            "captured": self._captured,
            "delivered": self._delivered,
            "disordered": self._disordered,
        }


def _figures(ages_ms: NDArray[np.float64]) -> Found:
    if not ages_ms.size:
        raise harness.ChildError("a minute passed without any result")
    p50, p99 = np.percentile(ages_ms, (50, 99))
    return {"frames": ages_ms.size, "p50_ms": float(p50), "p99_ms": float(p99)}


if __name__ == "__main__":
    sys.exit(main())
