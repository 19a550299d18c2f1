"""What PixelRT costs on top of the bare network, and what it saves against what people write today.

Contenders take turns, each in a process of its own (ONNX Runtime's spinning threads and a second OpenVINO
would distort each other in one), with the same number of threads, for several rounds:

  bare             OpenVINO alone on the bare network, from a ready float32 tensor to logits
  pixelrt          segmenter(frame), from a 720x1280 frame to mask, confidence and grid
  handwritten      OpenCV resize, numpy normalise, ONNX Runtime, numpy softmax and argmax: mask and confidence
  model_api        OpenVINO Model API's SegmentationModel on the same network, as it comes: mask only
  model_api_soft   the same with its probabilities, at the size of the frame

python benchmarks/cpu_overhead.py [--rounds 5] [--frames 60] [--threads 2]
needs: pip install -e '.[cpu,export,onnxruntime,bench]', pixelrt export engines/road-unet/recipe.toml
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Setting
from numpy.typing import NDArray

import pixelrt
from pixelrt.backends.openvino import core
from pixelrt.bundle import Bundle
from pixelrt.machine import processor
from pixelrt.terminal import complain, say, say_table

_WARMUP = 10
_OVERHEAD_LIMIT = 1.10
_SPEEDUP_LIMIT = 1.8

Frame = NDArray[np.uint8]
Step = Callable[[Frame], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A way to segment a frame."""

    step: Step
    """What is measured."""
    mask: Callable[[Any], NDArray[np.integer[Any]]]
    """The mask in the result of a step; not measured."""
    version: str
    precision: str
    """As the library says."""


def main() -> int:
    """Prepare the bare network, let the contenders take turns, judge."""
    arguments = _arguments()
    if arguments.contender:
        return harness.answer(_contend(arguments))
    if arguments.prepare:
        _prepare(arguments.recipe, Bundle.open(arguments.bundle), arguments.folder)
        return harness.answer({})
    return _compare(arguments)


def _arguments() -> argparse.Namespace:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=60, help="measured per round, after a warm-up")
    parser.add_argument("--threads", type=int, default=processor().cores)
    harness.add_result_file(parser, "cpu_overhead")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="default", help=argparse.SUPPRESS)
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------- the parent


def _compare(arguments: argparse.Namespace) -> int:
    before = harness.quiet_or_warn()
    with tempfile.TemporaryDirectory() as folder:
        shared = ["--bundle", str(arguments.bundle), "--folder", folder, "--threads", str(arguments.threads)]
        say("writing the bare network")
        harness.child("cpu_overhead.py", "--prepare", "--recipe", str(arguments.recipe), *shared)
        turns = _turns()
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in turns}
        for number in range(arguments.rounds):
            for name in _order(list(turns), number):
                contender, precision = turns[name]
                options = ["--contender", contender, "--precision", precision]
                frames = ["--frames", str(arguments.frames)]
                results[name].append(harness.child("cpu_overhead.py", *options, *frames, *shared))
                complain(f"round {number + 1}: {name}: {results[name][-1]['median_ms']:.1f} ms")
        agreement = _agreement(Path(folder), turns)
    medians = {
        name: statistics.median(each["median_ms"] for each in rounds) for name, rounds in results.items()
    }
    _show(results, medians, agreement)
    default = results["pixelrt default"][0]["precision"]
    figures = {
        "bundle": harness.about(arguments.bundle),
        "threads": arguments.threads,
        "frame_size": harness.SIZE,
        "default_precision": default,
        "medians_ms": {name: round(value, 3) for name, value in medians.items()},
        "mask_agreement_with_pixelrt": agreement,
        "rounds": results,
    }
    return harness.finish("cpu_overhead", figures, _bars(medians), before, arguments.out)


def _turns() -> dict[str, tuple[str, str]]:
    """Who takes part, by name: contender and precision."""
    turns = {"bare float32": ("bare", "float32"), "pixelrt float32": ("pixelrt", "float32")}
    if processor().bfloat16:
        turns["bare bfloat16"] = ("bare", "bfloat16")
        turns["pixelrt bfloat16"] = ("pixelrt", "bfloat16")
    turns["pixelrt default"] = ("pixelrt", "default")
    turns["handwritten"] = ("handwritten", "default")
    try:
        importlib.metadata.version("openvino-model-api")
    except importlib.metadata.PackageNotFoundError:
        complain("warning: without model_api, which is not installed: pip install 'pixelrt[bench]'")
        return turns
    turns["model_api"] = ("model_api", "default")
    turns["model_api_soft"] = ("model_api_soft", "default")
    return turns


def _order(names: list[str], number: int) -> list[str]:
    """Another contender begins each round, so that none is always the one that follows the slowest."""
    start = (number * 3) % len(names)
    return names[start:] + names[:start]


def _agreement(folder: Path, turns: dict[str, tuple[str, str]]) -> dict[str, float]:
    """Share of pixels in which each contender's mask is that of PixelRT in float32: all do the same work."""
    masks = {name: np.load(folder / f"{who}-{precision}.npy") for name, (who, precision) in turns.items()}
    ours = masks["pixelrt float32"]
    shares = {}
    for name, mask in masks.items():
        rows = np.arange(mask.shape[0]) * ours.shape[0] // mask.shape[0]
        cols = np.arange(mask.shape[1]) * ours.shape[1] // mask.shape[1]
        shares[name] = round(float((ours[np.ix_(rows, cols)] == mask).mean()), 5)
    return shares


def _show(
    results: dict[str, list[dict[str, Any]]], medians: dict[str, float], agreement: dict[str, float]
) -> None:
    say()
    rows = []
    for name, rounds in results.items():
        each = [one["median_ms"] for one in rounds]
        peak = max(one["peak_bytes"] or 0 for one in rounds) / 1e6
        spread = f"{min(each):.1f} to {max(each):.1f}"
        about = f"{rounds[0]['version']}, {rounds[0]['precision']}"
        cpu = statistics.median(one["cpu_ms_per_frame"] for one in rounds)
        figures = (f"{medians[name]:.2f}", spread, f"{cpu:.1f}", f"{agreement[name]:.4f}", f"{peak:.0f}")
        rows.append((name, *figures, about))
    columns = (">median ms", ">rounds", ">CPU ms", ">same mask", ">peak MB")
    say_table(("contender", *columns, "library, precision"), rows)


def _bars(medians: dict[str, float]) -> list[harness.Bar]:
    def ratio(over: str, under: str) -> float | None:
        return round(medians[over] / medians[under], 4) if over in medians and under in medians else None

    no_bfloat16 = "" if processor().bfloat16 else "this CPU has no bfloat16"
    no_model_api = "" if "model_api" in medians else "openvino-model-api is not installed"
    speedup = ratio("handwritten", "pixelrt default") if not no_bfloat16 else None
    overheads = [
        harness.Bar(
            f"pixelrt / bare in {precision}",
            ratio(f"pixelrt {precision}", f"bare {precision}"),
            _OVERHEAD_LIMIT,
            at_most=True,
            why_not=no_bfloat16 if precision == "bfloat16" else "",
        )
        for precision in ("float32", "bfloat16")
    ]
    return [
        *overheads,
        harness.Bar(
            "handwritten / pixelrt default", speedup, _SPEEDUP_LIMIT, at_most=False, why_not=no_bfloat16
        ),
        harness.Bar(
            "model_api / pixelrt default",
            ratio("model_api", "pixelrt default"),
            1.0,
            at_most=False,
            why_not=no_model_api,
        ),
    ]


# ----------------------------------------------------------------------------------------------- the children


def _prepare(recipe_file: Path, bundle: Bundle, folder: Path) -> None:
    """Write the bare network of the bundle's first head, FP32, with one frame per batch."""
    import onnx
    import openvino

    from pixelrt_export.network import HeadOutput, NetworkSpec, open_network
    from pixelrt_export.recipe import SegmentationRecipe, read_recipe

    recipe = read_recipe(recipe_file)
    if not isinstance(recipe, SegmentationRecipe):
        raise SystemExit(f"{recipe_file} is for generation, a recipe of segmentation was expected")
    network = open_network(recipe.model)
    if network.checkpoint_sha256 != bundle.manifest.source.checkpoint_sha256:
        raise SystemExit(
            f"{bundle.path} was made from another checkpoint than {recipe_file} names; export it"
        )
    head = recipe.head[0]
    size, channels = recipe.input.size, recipe.input.channels
    spec = NetworkSpec.of_image(size, channels, (HeadOutput(name=head.name, output=head.output),))
    onnx.save(network.to_onnx(spec), folder / "bare.onnx")
    model = core().read_model(folder / "bare.onnx")
    model.reshape([1, channels, *size])
    openvino.save_model(model, folder / "bare.xml", compress_to_fp16=False)


def _contend(arguments: argparse.Namespace) -> dict[str, Any]:
    from pixelrt.machine import peak_memory_bytes

    frames = harness.drive(8)
    setting = Setting.of(arguments)
    contender = _CONTENDERS[arguments.contender](setting)
    mask = contender.mask(contender.step(frames[0]))
    np.save(arguments.folder / f"{arguments.contender}-{arguments.precision}.npy", mask)
    for index in range(_WARMUP):
        contender.step(frames[index % len(frames)])
    durations_ms = []
    cpu_began = time.process_time()
    for index in range(arguments.frames):
        began = time.perf_counter()
        contender.step(frames[index % len(frames)])
        durations_ms.append((time.perf_counter() - began) * 1e3)
    return {
        "median_ms": statistics.median(durations_ms),
        "mean_ms": statistics.fmean(durations_ms),
        "max_ms": max(durations_ms),
        "cpu_ms_per_frame": (time.process_time() - cpu_began) * 1e3 / len(durations_ms),
        "frames": len(durations_ms),
        "version": contender.version,
        "precision": contender.precision,
        "peak_bytes": peak_memory_bytes(),
    }


def _bare(setting: Setting) -> Contender:
    """OpenVINO as its documentation has it for low latency, without copies of input or output."""
    import openvino

    config = {**setting.plugin, "NUM_STREAMS": 1}
    compiled = core().compile_model(setting.folder / "bare.xml", "CPU", config)
    request = compiled.create_infer_request()
    ready = _tensor(setting, harness.drive(1)[0])

    def step(frame: Frame) -> Any:
        request.infer([ready], share_inputs=True, share_outputs=True)
        return request.get_output_tensor(0).data

    found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return Contender(
        step=step,
        mask=lambda logits: logits[0].argmax(axis=0),
        version=f"openvino {openvino.__version__.split('-')[0]}",
        precision=found,
    )


def _pixelrt(setting: Setting) -> Contender:
    precision: Any = None if setting.precision == "default" else setting.precision
    segmenter = pixelrt.load(setting.bundle, device="cpu", precision=precision, threads=setting.threads)
    info = segmenter.session.info
    return Contender(
        step=segmenter,
        mask=lambda result: result.mask,
        version=f"pixelrt {pixelrt.__version__} on {info.backend} {info.version}",
        precision=info.precision,
    )


def _handwritten(setting: Setting) -> Contender:
    """As found in most projects that run an exported segmentation network."""
    import cv2
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    session = onnxruntime.InferenceSession(
        setting.folder / "bare.onnx", options, providers=["CPUExecutionProvider"]
    )
    height, width = setting.size
    mean, std = setting.mean, setting.std

    def step(frame: Frame) -> Any:
        image = cv2.resize(frame, (width, height)).astype(np.float32) / 255.0
        image = (image - mean) / std
        logits = session.run(None, {"image": image.transpose(2, 0, 1)[None]})[0][0]
        exponentials = np.exp(logits - logits.max(axis=0))
        probabilities = exponentials / exponentials.sum(axis=0)
        return probabilities.argmax(axis=0).astype(np.uint8), probabilities.max(axis=0)

    version = f"onnxruntime {onnxruntime.__version__}"
    return Contender(step=step, mask=lambda result: result[0], version=version, precision="float32")


def _model_api(setting: Setting, *, soft: bool = False) -> Contender:
    from model_api.adapters import OpenvinoAdapter
    from model_api.models import SegmentationModel

    adapter = OpenvinoAdapter(
        core(), str(setting.folder / "bare.xml"), device="CPU", plugin_config=setting.plugin
    )
    configuration = {
        "mean_values": (setting.mean * 255).tolist(),
        "scale_values": (setting.std * 255).tolist(),
        "return_soft_prediction": soft,
    }
    model = SegmentationModel(adapter, configuration, preload=True)
    found = adapter.compiled_model.get_property("INFERENCE_PRECISION_HINT").to_string()
    return Contender(
        step=model,
        mask=lambda result: np.asarray(result.resultImage if soft else result),
        version=f"openvino-model-api {importlib.metadata.version('openvino-model-api')}",
        precision=found,
    )


def _model_api_soft(setting: Setting) -> Contender:
    return _model_api(setting, soft=True)


def _tensor(setting: Setting, frame: Frame) -> NDArray[np.float32]:
    import cv2

    height, width = setting.size
    image = cv2.resize(frame, (width, height)).astype(np.float32) / 255
    normalised = (image - setting.mean) / setting.std
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[np.newaxis], np.float32)


_CONTENDERS: dict[str, Callable[[Setting], Contender]] = {
    "bare": _bare,
    "pixelrt": _pixelrt,
    "handwritten": _handwritten,
    "model_api": _model_api,
    "model_api_soft": _model_api_soft,
}

if __name__ == "__main__":
    sys.exit(main())
