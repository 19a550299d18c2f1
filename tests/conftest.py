"""Bundles for tests: real ones, of a network whose answer is known without running it."""

from __future__ import annotations

import gc
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from signal_stack import signal_stack

from pixelrt.bundle import MANIFEST, MODEL, Bundle, sha256, write_folder
from pixelrt.manifest import (
    SCHEMA,
    Artifact,
    ClassInfo,
    Head,
    Precision,
    PrecisionType,
    Preprocess,
    SegmentationCheck,
    SegmentationGate,
    SegmentationManifest,
    Smaller,
    Source,
)
from pixelrt_export.fuse import FuseSpec, HeadSpec, fuse
from pixelrt_export.precision import to_precision

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
SIZE = (32, 48)
WIDTH = 32
"""Channels of the layers that take time."""

MakeBundle = Callable[..., Bundle]


def pytest_configure() -> None:
    """A background job ignores Ctrl-C, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Let `gc.collect` look at what comes from here on alone: hundreds of tests call it to find leaks.

    Every test module has been imported, with all libraries, and it would look at their million objects each
    time, for most of the time of all tests. This is done once: garbage is not found where something that was
    set aside is part of it, such as the objects of an earlier test.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def kept_signal_stack() -> Iterator[None]:
    """No library takes the main thread's signal stack: once it is freed, the next signal ends the process."""
    before = signal_stack()
    yield
    assert signal_stack() == before, "an OpenVINO core of its own? (pixelrt.backends.openvino.core)"


def color_network(size: tuple[int, int] = SIZE, layers: int = 0) -> onnx.ModelProto:
    """The class of a pixel is its strongest colour; `lane` is the red channel's logit alone.

    Args:
        size: Height and width.
        layers: Convolutions before that change no colour and take their time.
    """
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, *size])
    scene = helper.make_tensor_value_info("head_scene", TensorProto.FLOAT, ["batch", 3, *size])
    lane = helper.make_tensor_value_info("head_lane", TensorProto.FLOAT, ["batch", 1, *size])
    rng, nodes, constants = np.random.default_rng(0), [], []
    before, channels = "image", 3
    for layer in range(layers):
        weights = rng.uniform(-1e-3, 1e-3, (WIDTH, channels, 3, 3)).astype(np.float32)
        weights[:3] = 0
        weights[[0, 1, 2], [0, 1, 2], 1, 1] = 1
        constants.append(numpy_helper.from_array(weights, f"weights_{layer}"))
        nodes.append(
            helper.make_node(
                "Conv", [before, f"weights_{layer}"], [f"busy_{layer}"], name=f"busy_{layer}", pads=[1] * 4
            )
        )
        before, channels = f"busy_{layer}", WIDTH
    pick = np.eye(3, channels, dtype=np.float32).reshape(3, channels, 1, 1) * 20
    nodes += [
        helper.make_node("Conv", [before, "pick"], ["head_scene"], name="pick"),
        helper.make_node("Conv", [before, "red"], ["head_lane"], name="red"),
    ]
    constants += [numpy_helper.from_array(pick, "pick"), numpy_helper.from_array(pick[:1], "red")]
    graph = helper.make_graph(nodes, "colors", [image], [scene, lane], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> MakeBundle:
    """Return a factory of bundles that tell red, green and blue apart, at 32x48 unless told otherwise."""

    def make(
        heads: tuple[str, ...] = ("scene",),
        emit: tuple[str, ...] = ("mask", "confidence", "grid", "logits"),
        precision: PrecisionType = "fp32",
        passed: dict[tuple[str, str], bool] | None = None,
        size: tuple[int, int] = SIZE,
        layers: int = 0,
        smaller: tuple[tuple[int, int], ...] = (),
    ) -> Bundle:
        folder = tmp_path_factory.mktemp("bundle") / "colors"
        inside = [make(heads, emit, precision, passed, each, layers) for each in smaller]
        activations = {"scene": "softmax", "lane": "sigmoid"}
        specs = tuple(
            HeadSpec(name=name, activation=activations[name], emit=emit, grid=(2, 3))  # type: ignore[arg-type]
            for name in heads
        )
        calibration = [{"image": np.ones((1, 3, *size), np.float32)}]
        typed, _ = to_precision(color_network(size, layers), calibration, precision)
        model, inputs, outputs, axes = fuse(
            typed, FuseSpec(heads=specs, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        )
        content = model.SerializeToString()
        classes = {
            "scene": tuple(ClassInfo(name=name, color=color) for name, color in COLORS.items()),
            "lane": (ClassInfo(name="none", color=(0, 0, 0)), ClassInfo(name="lane", color=(255, 0, 0))),
        }
        names = iter(outputs)
        manifest = SegmentationManifest(
            schema=SCHEMA,
            name="colors",
            task="segmentation",
            created="2026-01-01T00:00:00Z",
            tools={"pixelrt": "0"},
            inputs=inputs,
            outputs=outputs,
            axes=axes,
            preprocess=Preprocess(
                size=size, channels=3, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), color="rgb"
            ),
            heads=tuple(
                Head(
                    name=name,
                    classes=classes[name],
                    activation=activations[name],  # type: ignore[arg-type]
                    outputs={kind: next(names).name for kind in emit},
                    grid=(2, 3),
                )
                for name in heads
            ),
            precision=Precision(requested=precision, layers={precision: 2}),
            artifacts=(Artifact(file=MODEL, kind="onnx", sha256=sha256(content), size_bytes=len(content)),),
            gate=gate(passed),
            source=Source(model="colors"),
            smaller=tuple(
                Smaller(
                    size=each.segmentation.preprocess.size,
                    sha256=sha256((each.path / MANIFEST).read_bytes()),
                )
                for each in inside
            ),
        )

        def fill(path: Path) -> None:
            for entry, each in zip(manifest.smaller, inside, strict=True):
                shutil.copytree(each.path, path / entry.folder)
            (path / MODEL).write_bytes(content)
            (path / MANIFEST).write_text(manifest.to_json())

        write_folder(folder, fill)
        return Bundle.open(folder)

    return make


def gate(passed: dict[tuple[str, str], bool] | None) -> SegmentationGate:
    """A gate with the given verdicts per (backend, precision); None for one that was skipped."""
    checks = tuple(
        SegmentationCheck(
            backend=backend,
            device="cpu",
            precision=precision,
            passed=verdict,
            head="scene",
            agreement=1.0 if verdict else 0.5,
            miou_drop=None,
            miou=None,
            max_logit_difference=0.0,
        )
        for (backend, precision), verdict in (passed or {}).items()
    )
    return SegmentationGate(
        skipped=passed is None,
        agreement=0.999,
        miou_drop=0.002,
        images="",
        num_images=len(checks),
        checks=checks,
    )
