"""From a frame on the host to its mask on the host, on a GPU: PixelRT, PyTorch and ONNX Runtime in turns.

Two networks at 512x1024, road-unet and the classic full-width U-Net (untrained), on frames of 1080x1920. All
contenders are open at once and take short turns, for several rounds, each round begun by another one; frames
before each turn are not counted. Every mask has the network's size.

  pixelrt/BACKEND/...   call, 1-slot, 2-slots, 3-slots, batch-4, batch-8, without graphs, from ordinary memory
  torch/...             FP16: eager, eager in channels_last, compiled with max-autotune, the network alone
  onnxruntime/...       the bare network in FP32 and FP16, with NumPy before and after
  cameras/BACKEND/...   2, 4 and 8 cameras: a slot each, one batch, or a thread and a session each

What each of them does exactly stands in benchmarks/gpu/*.py. Whoever cannot take part is listed, with the
reason. Figures follow trtexec's definitions (benchmarks/gpu/summary.py).

python benchmarks/gpu_pipeline.py [--quick] [--models road-unet] [--contenders 'pixelrt/*' torch/eager]
needs: an NVIDIA GPU, pip install -e '.[cuda,export]', PyTorch built for CUDA, and TensorRT or onnxruntime-gpu
       (in place of onnxruntime); whatever is missing of the last three is named and left out
       The export of the networks takes a minute or two; --bundles keeps it for the next time.
exit codes: 0 done, 1 a bar was missed, 2 nothing can be measured here, or wrong arguments
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import harness
from gpu import cameras, onnxruntime_contenders, pixelrt_contenders, torch_contenders
from gpu.bars import Results, bars
from gpu.contender import Bytes
from gpu.models import MODELS, SIZE, Model, Prepared, frames_of, prepare
from gpu.platform import CudaPlatform, Platform
from gpu.rounds import Plan, Race, race
from gpu.setting import Entry, Setting
from gpu.state import CopyRate, copy_rate, git_state, gpu_state, rate_json, state_text
from gpu.summary import Summary, as_json, summarize
from gpu.table import show

from pixelrt.errors import PixelRTError
from pixelrt.terminal import complain, say

_FULL = Plan(rounds=5, frames_per_turn=100, warmup_frames=24)
_QUICK = Plan(rounds=2, frames_per_turn=24, warmup_frames=24)
"""In 24 frames the ring of eight slots comes round three times: its graphs are captured by then."""
_UNUSABLE = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is measured."""

    models: tuple[Model, ...]
    plan: Plan
    patterns: tuple[str, ...] = ("*",)
    """Names of contenders, with `*` and `?`."""
    frame_size: tuple[int, int] = (1080, 1920)
    network_size: tuple[int, int] = SIZE
    num_frames: int = 8
    """Different ones, through which everybody goes round."""
    bundles: Path | None = None
    """Where bundles are exported to, or taken from; None for a folder that is removed in the end."""
    out: Path | None = None
    """Result file; None for one in benchmarks/results that is called like the GPU."""


def main(argv: Sequence[str] | None = None) -> int:
    """Find out whether there is a GPU, and measure."""
    task = _task(argv)
    if problem := CudaPlatform.problem():
        complain(f"gpu_pipeline.py measures on an NVIDIA GPU, and cannot use one here: {problem}")
        return _UNUSABLE
    try:
        return measure(task, CudaPlatform())
    except PixelRTError as problem:
        complain(f"gpu_pipeline.py: {problem}")
        return _UNUSABLE


def _task(argv: Sequence[str] | None) -> Task:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that everything runs")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS), metavar="MODEL")
    parser.add_argument("--contenders", nargs="+", default=("*",), metavar="PATTERN", help="with * and ?")
    parser.add_argument("--rounds", type=_at_least_one, metavar="N", help=f"({_FULL.rounds})")
    parser.add_argument(
        "--frames", type=_at_least_one, metavar="N", help=f"per turn ({_FULL.frames_per_turn})"
    )
    parser.add_argument(
        "--bundles", type=Path, metavar="FOLDER", help="export the networks into it, or take them from it"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="result file (benchmarks/results/gpu_pipeline-GPU.json)"
    )
    arguments = parser.parse_args(argv)
    plan = _QUICK if arguments.quick else _FULL
    if arguments.rounds:
        plan = dataclasses.replace(plan, rounds=arguments.rounds)
    if arguments.frames:
        plan = dataclasses.replace(plan, frames_per_turn=arguments.frames)
    return Task(
        models=tuple(MODELS[name] for name in dict.fromkeys(arguments.models)),
        plan=plan,
        patterns=tuple(arguments.contenders),
        bundles=arguments.bundles,
        out=arguments.json,
    )


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def measure(task: Task, platform: Platform) -> int:
    """Measure, print and write everything.

    Returns:
        The exit code.

    Raises:
        PixelRTError: If a network cannot be exported, or the GPU is lost.
    """
    chosen = select(entries(platform.backends), task.patterns)
    before, state_before = harness.quiet_or_warn(), gpu_state()
    frames = frames_of(task.frame_size, task.num_frames)
    with platform.driver() as driver:
        name = driver.device.name
        rate = copy_rate(driver, frames[0].nbytes)
    say(f"{name}: {state_text(state_before)}")
    say(f"bus: {rate.up_gb_per_s:.1f} GB/s up, {rate.down_gb_per_s:.1f} GB/s down, page-locked, per frame")
    models, judged = {}, []
    with _folder(task.bundles) as folder:
        for model in task.models:
            complain(f"{model.name}: exporting")
            prepared = prepare(model, task.network_size, folder)
            measured = _measure_model(task, platform, prepared, chosen, frames)
            results = measured.results(rate, frames[0].nbytes)
            models[model.name] = measured.as_json()
            judged += [bar for backend in platform.backends for bar in bars(results, backend)]
    state_after = gpu_state()
    say(f"\nafterwards: {state_text(state_after)}")
    figures = {
        "gpu": name,
        "task": _task_json(task),
        "versions": dict(platform.versions()),
        "git": git_state(),
        "gpu_state_before": state_before,
        "gpu_state_after": state_after,
        "bus": rate_json(rate),
        "models": models,
    }
    return harness.finish(f"gpu_pipeline-{_slug(name)}", figures, judged, before, task.out)


@dataclasses.dataclass(frozen=True, slots=True)
class _Raced:
    """A race and its figures."""

    race: Race
    summaries: Mapping[str, Summary]

    def as_json(self) -> dict[str, Any]:
        measured = self.race.measured
        return {
            "contenders": {
                name: {"about": measured[name].about, "same_mask": measured[name].same_mask, **as_json(each)}
                for name, each in self.summaries.items()
            },
            "not_measured": self.race.not_measured,
            "masks_compared_with": self.race.reference,
            "gpu_state_after_rounds": self.race.states,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class _Measured:
    """A network and its figures."""

    prepared: Prepared
    one_camera: _Raced
    several_cameras: _Raced
    """On their own, after the sessions of the others are closed: they would not all fit on every GPU."""

    def results(self, rate: CopyRate, frame_bytes: int) -> Results:
        height, width = self.prepared.form.size
        return Results(
            model=self.prepared.model.name,
            summaries=self.one_camera.summaries,
            not_measured=self.one_camera.race.not_measured,
            rate=rate,
            frame_bytes=frame_bytes,
            mask_bytes=height * width,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "bundle": harness.about(self.prepared.bundle.path),
            "one_camera": self.one_camera.as_json(),
            "several_cameras": self.several_cameras.as_json(),
        }


def _measure_model(
    task: Task, platform: Platform, prepared: Prepared, chosen: Sequence[Entry], frames: list[Bytes]
) -> _Measured:
    raced = []
    for title, several in (("one camera", False), ("several cameras", True)):
        group = [entry for entry in chosen if entry.name.startswith(cameras.PREFIX) == several]
        with contextlib.closing(Setting(prepared, platform)) as setting:
            result = race(group, setting, frames, task.plan, _teller(prepared.model.name))
        raced.append(_Raced(result, {name: summarize(each.turns) for name, each in result.measured.items()}))
        if group:
            show(f"{prepared.model.name}, {title}", result, raced[-1].summaries)
    return _Measured(prepared, *raced)


def entries(backends: Sequence[str]) -> list[Entry]:
    """Everybody, with the backends of PixelRT that are to be measured."""
    ours = [entry for backend in backends for entry in pixelrt_contenders.entries(backend)]
    several = [entry for backend in backends for entry in cameras.entries(backend)]
    return [*ours, *torch_contenders.entries(), *onnxruntime_contenders.entries(), *several]


def select(everybody: Sequence[Entry], patterns: Sequence[str]) -> list[Entry]:
    """Those whose names fit one of the patterns.

    Raises:
        PixelRTError: If a pattern fits nobody.
    """
    for pattern in patterns:
        if not any(fnmatch(entry.name, pattern) for entry in everybody):
            names = "\n  ".join(entry.name for entry in everybody)
            raise PixelRTError(f"no contender is called {pattern!r}; there are\n  {names}")
    return [entry for entry in everybody if any(fnmatch(entry.name, pattern) for pattern in patterns)]


def _teller(model: str) -> Callable[[str], None]:
    return lambda line: complain(f"{model}: {line}")


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _task_json(task: Task) -> dict[str, Any]:
    return {
        "frame_size": task.frame_size,
        "network_size": task.network_size,
        "num_frames": task.num_frames,
        "contenders": task.patterns,
        **dataclasses.asdict(task.plan),
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
