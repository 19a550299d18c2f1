"""What the benchmarks share: child processes, the state of the machine, frames, result files."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle, write_file
from pixelrt.machine import Load, describe, load
from pixelrt.manifest import SegmentationManifest
from pixelrt.terminal import complain, say

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
RECIPE = ROOT / "engines" / "road-unet" / "recipe.toml"
BUNDLE = ROOT / "engines" / "road-unet" / "bundle"
SIZE = (720, 1280)
"""Height and width of the frames."""

_CHILD_LIMIT_S = 600
_WARMUP = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """A figure and what it must be."""

    name: str
    value: float | None
    """None where it was not measured."""
    limit: float
    at_most: bool
    """Whether the limit is the largest value allowed, or the smallest."""
    why_not: str = ""
    """Why it was not measured."""

    @property
    def verdict(self) -> str:
        """`met`, `MISSED` or `not measured`."""
        if self.value is None:
            return "not measured"
        return "met" if (self.value <= self.limit if self.at_most else self.value >= self.limit) else "MISSED"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a contender that runs the network of a bundle gets."""

    bundle: Path
    folder: Path
    """Holds the bare network, `bare.onnx` and `bare.xml`."""
    precision: Any
    """`float32`, `bfloat16`, or `default`, which leaves it to the contender."""
    threads: int

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Setting:
        """From the command line."""
        return cls(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(cls)})

    @property
    def manifest(self) -> SegmentationManifest:
        """Of the bundle."""
        return Bundle.open(self.bundle).segmentation

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network."""
        return self.manifest.preprocess.size

    @property
    def mean(self) -> NDArray[np.float32]:
        """Per channel, of 0..1 pixels."""
        return np.array(self.manifest.preprocess.mean, np.float32)

    @property
    def std(self) -> NDArray[np.float32]:
        """Per channel, of 0..1 pixels."""
        return np.array(self.manifest.preprocess.std, np.float32)

    @property
    def plugin(self) -> dict[str, Any]:
        """How OpenVINO is set up for low latency."""
        precision = {"float32": "f32", "bfloat16": "bf16"}.get(self.precision)
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            **({"INFERENCE_PRECISION_HINT": precision} if precision else {}),
        }


class ChildError(Exception):
    """A child process failed; the message ends with what it said."""


def child(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of this folder in its own process; what it prints last is its JSON result.

    Raises:
        ChildError: If it fails.
    """
    command = [sys.executable, str(Path(__file__).parent / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_CHILD_LIMIT_S, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["(nothing)"]
        raise ChildError(f"{' '.join(arguments)} exited with {done.returncode}: {said[0]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def parser(description: str | None) -> argparse.ArgumentParser:
    """With the bundle that is measured, and what a child is told about its work."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--bundle", type=Path, default=BUNDLE)
    made.add_argument("--recipe", type=Path, default=RECIPE, help="what the bundle was exported from")
    made.add_argument("--contender", help=argparse.SUPPRESS)
    made.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return made


def add_result_file(parser: argparse.ArgumentParser, name: str) -> None:
    """Add where the figures go, as `arguments.out`."""
    parser.add_argument(
        "--json",
        dest="out",
        type=Path,
        metavar="FILE",
        help=f"where the figures go ({RESULTS.relative_to(ROOT)}/{name}.json)",
    )


def answer(result: dict[str, Any]) -> int:
    """Tell `child` what was found.

    Returns:
        The exit code.
    """
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def timed(step: Callable[[], Any], times: int) -> dict[str, float]:
    """How long a step takes, in milliseconds, after a warm-up: median, mean, p99 and maximum."""
    for _ in range(_WARMUP):
        step()
    durations_ms = []
    for _ in range(times):
        began = time.perf_counter()
        step()
        durations_ms.append(1e3 * (time.perf_counter() - began))
    return {
        "median_ms": statistics.median(durations_ms),
        "mean_ms": statistics.fmean(durations_ms),
        "p99_ms": float(np.percentile(durations_ms, 99)),
        "max_ms": max(durations_ms),
    }


def drive(count: int, size: tuple[int, int] = SIZE) -> list[NDArray[np.uint8]]:
    """Frames of the procedural drive, the same at every call."""
    from pixelrt.video.drive import Drive, DriveOptions

    film = Drive(DriveOptions(frames=10 * count, size=size, seed=7))
    return [film.frame(10 * index)[0] for index in range(count)]


def quiet_or_warn() -> Load:
    """The load of the machine now, with a warning if something else runs."""
    now = load()
    if now.busy:
        complain(
            f"warning: {now.busy_share or 0:.0%} of all cores are in use by something else "
            f"(load average {now.average_1min}); these are not figures to publish"
        )
    return now


def about(path: Path) -> dict[str, str]:
    """Which bundle was measured."""
    bundle = Bundle.open(path)
    return {
        "name": bundle.manifest.name,
        "onnx_sha256": bundle.model.sha256,
        "precision": bundle.manifest.precision.requested,
    }


def finish(name: str, figures: dict[str, Any], bars: Sequence[Bar], before: Load, out: Path | None) -> int:
    """Print the bars and write everything to a file.

    Returns:
        The exit code: 1 if a bar was missed.
    """
    say()
    for bar in bars:
        value = "-" if bar.value is None else f"{bar.value:.3g}"
        sign = "<=" if bar.at_most else ">="
        say(f"  {bar.verdict:12}  {bar.name}: {value} {sign} {bar.limit:g}  {bar.why_not}".rstrip())
    report = {
        "benchmark": name,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "bars": [{**dataclasses.asdict(bar), "verdict": bar.verdict} for bar in bars],
        **figures,
        "load_before": {**dataclasses.asdict(before), "busy": before.busy},
        "load_after": dataclasses.asdict(load()),
        "machine": _short(dataclasses.asdict(describe())),
    }
    file = out or RESULTS / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, (json.dumps(report, indent=2) + "\n").encode())
    say(f"\nwritten to {file}")
    return int(any(bar.verdict == "MISSED" for bar in bars))


def _short(machine: dict[str, Any]) -> dict[str, Any]:
    """The machine with its libraries as names and versions."""
    versions = {item["library"]["module"]: item["version"] for item in machine.pop("libraries")}
    return {**machine, "libraries": {name: version for name, version in versions.items() if version}}
