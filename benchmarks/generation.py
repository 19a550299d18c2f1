"""Images per second of generators, one at a time and sixteen at once, and what PixelRT costs and saves.

Contenders take turns, each in a process of its own, with the same number of threads, for several rounds; who
they are stands in generation_contenders.py. All make the same images of the same inputs, which is checked.
PixelRT and the bare network run in float32, and in the precision that `pixelrt.load` takes by default.

python benchmarks/generation.py [--recipes RECIPE ...] [--rounds 5] [--threads 2] [--device cuda]
needs: pip install -e '.[cpu,export,onnxruntime]', and the bundles beside the recipes (pixelrt export RECIPE)
       On a GPU PyTorch and ONNX Runtime must be built for CUDA; the bare network runs on the CPU alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np
from generation_contenders import BARE, CONTENDERS, Setting, read

from pixelrt.machine import processor
from pixelrt.terminal import complain, say, say_table

NAMES = ("street-painter", "digits-cgan", "digits-vae")
BATCHES = (1, 16)
_SPEEDUP_LIMIT, _OVERHEAD_LIMIT = 1.3, 1.10
_DISTINCT = 4
_LEAST_CALLS = 5
_REFERENCE = "pixelrt float32"

Turns = dict[str, tuple[str, str]]
"""Who takes part, by name: contender and precision."""
Results = dict[str, list[dict[str, Any]]]
"""What each contender measured, round by round."""


def main() -> int:
    """Let the contenders take turns at each network, judge."""
    arguments = _arguments()
    if arguments.prepare:
        sys.stdout.write(json.dumps(_prepare(arguments)) + "\n")
        return 0
    if arguments.contender:
        sys.stdout.write(json.dumps(_contend(arguments)) + "\n")
        return 0
    before = harness.quiet_or_warn()
    networks, bars = {}, []
    for recipe in arguments.recipes:
        name = read(recipe)[1].manifest.name
        networks[name], judged = _measure(name, recipe, arguments)
        bars += judged
    setting = {"threads": arguments.threads, "device": arguments.device, "networks": networks}
    return harness.finish("generation", setting, bars, before, arguments.out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recipes = [harness.ROOT / "engines" / name / "recipe.toml" for name in NAMES]
    parser.add_argument("--recipes", type=Path, nargs="+", default=recipes, help=f"({', '.join(NAMES)})")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="measured per turn and batch")
    parser.add_argument("--threads", type=int, default=processor().cores)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    harness.add_result_file(parser, "generation")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contender", choices=tuple(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------- the parent


def _measure(
    name: str, recipe: Path, arguments: argparse.Namespace
) -> tuple[dict[str, Any], list[harness.Bar]]:
    with tempfile.TemporaryDirectory() as folder:
        shared = ["--recipes", str(recipe), "--folder", folder, "--device", arguments.device]
        shared += ["--threads", str(arguments.threads), "--seconds", str(arguments.seconds)]
        complain(f"{name}: writing the bare network")
        prepared = harness.child("generation.py", "--prepare", *shared)
        turns = _turns(prepared, arguments.device)
        results: Results = {each: [] for each in turns}
        for number in range(arguments.rounds):
            for each in _order(list(turns), number):
                contender, precision = turns[each]
                options = ["--contender", contender, "--precision", precision]
                results[each].append(harness.child("generation.py", *options, *shared))
            complain(f"{name}: round {number + 1} of {arguments.rounds} is done")
        differences = _differences(Path(folder), turns)
    figures = {each: _figures(rounds) for each, rounds in results.items()}
    _show(name, figures, differences)
    about = {"bundle": harness.about(recipe.with_name("bundle")), **prepared}
    network = {**about, "largest_byte_difference": differences, "contenders": figures, "rounds": results}
    return network, _bars(name, figures, str(prepared["default_precision"]))


def _turns(prepared: dict[str, Any], device: str) -> Turns:
    turns = {"torch": ("torch", "float32"), "torch-nhwc": ("torch-nhwc", "float32")}
    turns["onnxruntime"] = ("onnxruntime", "float32")
    for precision in dict.fromkeys(("float32", str(prepared["default_precision"]))):
        for contender in ("bare", "bare-batch") if device == "cpu" else ():
            turns[f"{contender} {precision}"] = (contender, precision)
        turns[f"pixelrt {precision}"] = ("pixelrt", precision)
        if prepared["draws"]:
            turns[f"pixelrt-drawing {precision}"] = ("pixelrt-drawing", precision)
    return turns


def _order(names: list[str], number: int) -> list[str]:
    """Another contender begins each round, so that none is always the one that follows the slowest."""
    start = (number * 3) % len(names)
    return names[start:] + names[:start]


def _figures(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of the rounds' medians, and how far those lie apart."""
    found: dict[str, Any] = {key: rounds[0][key] for key in ("version", "precision")}
    for batch in map(str, BATCHES):
        each_ms = [one["median_ms"][batch] for one in rounds]
        median_ms = statistics.median(each_ms)
        found[batch] = {
            "median_ms": round(median_ms, 4),
            "rounds_ms": [round(min(each_ms), 4), round(max(each_ms), 4)],
            "images_per_s": round(1e3 * int(batch) / median_ms, 2),
        }
    return found


def _differences(folder: Path, turns: Turns) -> dict[str, int]:
    """Largest difference of a byte from PixelRT's images in float32: all do the same work."""
    files = {name: folder / f"{'-'.join(turn)}.npy" for name, turn in turns.items()}
    images = {name: np.load(file).astype(int) for name, file in files.items() if file.is_file()}
    ours = images[_REFERENCE] if _REFERENCE in images else next(iter(images.values()))
    return {name: int(np.abs(image - ours).max()) for name, image in images.items()}


def _show(name: str, figures: dict[str, Any], differences: dict[str, int]) -> None:
    say()
    rows = []
    for who, found in figures.items():
        cells = []
        for batch in map(str, BATCHES):
            low, high = found[batch]["rounds_ms"]
            cells += [f"{found[batch]['median_ms']:.3f}", f"{low:.3f} to {high:.3f}"]
            cells.append(f"{found[batch]['images_per_s']:.1f}")
        rows.append((who, *cells, str(differences.get(who, "-")), found["version"]))
    columns = [f">{what}" for batch in BATCHES for what in (f"batch {batch}: ms", "rounds", "images/s")]
    say_table((name, *columns, ">max diff", "library"), rows)


def _bars(name: str, figures: dict[str, Any], default: str) -> list[harness.Bar]:
    def ratio(over: str, under: str, batch: int) -> float | None:
        if over not in figures or under not in figures:
            return None
        above, below = (float(figures[who][str(batch)]["median_ms"]) for who in (over, under))
        return round(above / below, 4)

    torch = min(("torch", "torch-nhwc"), key=lambda who: figures[who]["1"]["median_ms"])
    bars = []
    for precision in dict.fromkeys((default, "float32")):
        ours, bare = f"pixelrt {precision}", f"bare {precision}"
        speedup = ratio(torch, ours, 1)
        bars.append(harness.Bar(f"{name}: {torch} / {ours}, batch 1", speedup, _SPEEDUP_LIMIT, at_most=False))
        for batch in BATCHES:
            overhead = ratio(ours, bare, batch)
            why_not = "" if overhead else "the bare network runs on the CPU alone"
            title = f"{name}: {ours} / {bare}, batch {batch}"
            bars.append(harness.Bar(title, overhead, _OVERHEAD_LIMIT, at_most=True, why_not=why_not))
    return bars


# ----------------------------------------------------------------------------------------------- the children


def _prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the bare network, FP32; say what is measured."""
    import dataclasses

    import onnx

    import pixelrt
    from pixelrt_export.convert import generation
    from pixelrt_export.network import open_network
    from pixelrt_export.progress import Steps
    from pixelrt_export.recipe import PrecisionSection

    recipe, bundle = read(arguments.recipes[0])
    network = open_network(recipe.model)
    if network.checkpoint_sha256 != bundle.manifest.source.checkpoint_sha256:
        raise SystemExit(f"{bundle.path} was made from another checkpoint than its recipe names; export it")
    plain = dataclasses.replace(recipe, precision=PrecisionSection(type="fp32"))
    conversion, _, _ = generation.convert(plain, network, None, Steps(quiet=True))
    onnx.save(conversion.plain, arguments.folder / BARE)
    with pixelrt.load(bundle, task="generation", device=arguments.device) as generator:
        default = generator.session.info.precision
        draws = any(name not in ("mask", "image") for name in generator.takes)
    output = bundle.generation.output
    return {"default_precision": default, "draws": draws, "image_size": [*output.size, output.channels]}


def _contend(arguments: argparse.Namespace) -> dict[str, Any]:
    from pixelrt.machine import peak_memory_bytes

    recipe, bundle = read(arguments.recipes[0])
    medians_ms, calls, images = {}, {}, []
    for batch in BATCHES:
        setting = Setting(
            recipe=recipe,
            bundle=bundle,
            folder=arguments.folder,
            batch=batch,
            precision=arguments.precision,
            threads=arguments.threads,
            device=arguments.device,
        )
        contender = CONTENDERS[arguments.contender](setting)
        given = [contender.ready(setting.feeds(seed)) for seed in range(_DISTINCT)]
        if contender.images is not None:
            images.append(np.array(contender.images(given[0])))
        durations_ms = _timed(contender.step, given, arguments.seconds)
        medians_ms[batch], calls[batch] = statistics.median(durations_ms), len(durations_ms)
    if images:
        name = f"{arguments.contender}-{arguments.precision}.npy"
        np.save(arguments.folder / name, np.concatenate(images))
    return {
        "median_ms": medians_ms,
        "calls": calls,
        "version": contender.version,
        "precision": contender.precision,
        "peak_bytes": peak_memory_bytes(),
    }


def _timed(step: Any, given: list[Any], seconds: float) -> list[float]:
    """Milliseconds of each call, after as many that are not counted as there are inputs."""
    for each in given:
        step(each)
    durations_ms: list[float] = []
    ends = time.perf_counter() + seconds
    while len(durations_ms) < _LEAST_CALLS or time.perf_counter() < ends:
        began = time.perf_counter()
        step(given[len(durations_ms) % len(given)])
        durations_ms.append((time.perf_counter() - began) * 1e3)
    return durations_ms


if __name__ == "__main__":
    sys.exit(main())
