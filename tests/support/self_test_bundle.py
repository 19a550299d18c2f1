"""Makes the bundle of `pixelrt doctor --self-test`.

    python tests/support/self_test_bundle.py

A U-Net in small: convolutions, a stride, a transposed convolution, a skip connection, FP16. Weights and
pixels are such that every value in it is a small whole number, so that no order of adding up, and no half
precision, changes a mask. The expected masks are PyTorch's, in float64, of the same weights: another tool
than those under test.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pixelrt.bundle import MANIFEST, MODEL, sha256
from pixelrt.manifest import (
    SCHEMA,
    Artifact,
    Axis,
    ClassInfo,
    Head,
    Precision,
    Preprocess,
    SegmentationGate,
    SegmentationManifest,
    Source,
)
from pixelrt_export.fuse import FuseSpec, HeadSpec, fuse
from pixelrt_export.precision import to_precision

SIZE = (48, 64)
BLOCK = 8
NUM_FRAMES = 3
STEP = 51
"""Pixels are its multiples: 0, 0.2 ... 1, which the normalisation turns into 0, 1 ... 5."""
COLORS = {"floor": (128, 64, 128), "wall": (70, 70, 70), "person": (220, 20, 60)}
SEED = 154
"""Of 400, one whose masks have every class in a quarter of the pixels, and differ in half of them."""

Weights = dict[str, NDArray[np.float32]]


def weights(seed: int = SEED) -> Weights:
    """Ones and minus ones, few of them in a row, so that sums stay small."""
    random = np.random.default_rng(seed)

    def sparse(shape: tuple[int, ...], nonzero: int) -> NDArray[np.float32]:
        flat = np.zeros((shape[0], int(np.prod(shape[1:]))), np.float32)
        for row in flat:
            chosen = random.choice(row.size, nonzero, replace=False)
            row[chosen] = random.permutation([1, -1, 1, 1, -1, 1][:nonzero])
        return flat.reshape(shape)

    classes = len(COLORS)
    return {
        "first": sparse((8, 3, 3, 3), 3),
        "down": sparse((12, 8, 3, 3), 3),
        "deep": sparse((12, 12, 3, 3), 2),
        "up": np.ascontiguousarray(sparse((8, 12, 2, 2), 3).transpose(1, 0, 2, 3)),
        "join": sparse((8, 16, 3, 3), 2),
        "head": sparse((classes, 8, 1, 1), 2),
        "bias": (np.arange(classes) / classes).astype(np.float32),
    }


def network(parts: Weights) -> onnx.ModelProto:
    """The network alone, float32."""
    height, width = SIZE
    nodes = [
        _convolution("image", "first", "a"),
        helper.make_node("Relu", ["a"], ["b"], name="relu_first"),
        _convolution("b", "down", "c", strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"], name="relu_down"),
        _convolution("d", "deep", "e"),
        helper.make_node("Relu", ["e"], ["f"], name="relu_deep"),
        helper.make_node("ConvTranspose", ["f", "up"], ["g"], name="up", strides=[2, 2]),
        helper.make_node("Concat", ["b", "g"], ["h"], name="skip", axis=1),
        _convolution("h", "join", "i"),
        helper.make_node("Relu", ["i"], ["j"], name="relu_join"),
        helper.make_node("Conv", ["j", "head", "bias"], ["head_scene"], name="head"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, height, width])
    logits = helper.make_tensor_value_info(
        "head_scene", TensorProto.FLOAT, ["batch", len(COLORS), height, width]
    )
    constants = [numpy_helper.from_array(value, name) for name, value in parts.items()]
    graph = helper.make_graph(nodes, "self-test", [image], [logits], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _convolution(source: str, name: str, target: str, strides: list[int] | None = None) -> onnx.NodeProto:
    return helper.make_node(
        "Conv", [source, name], [target], name=name, pads=[1, 1, 1, 1], strides=strides or [1, 1]
    )


def frames(seed: int = SEED) -> NDArray[np.uint8]:
    """Blocks of plain colours, uint8[N, H, W, 3]."""
    random = np.random.default_rng(seed)
    height, width = SIZE
    blocks = random.integers(0, 6, (NUM_FRAMES, height // BLOCK, width // BLOCK, 3)) * STEP
    return blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2).astype(np.uint8)


def logits_of(parts: Weights, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float]:
    """What PyTorch says in float64, [N, K, H, W], and the largest value that occurs on the way."""
    torch_parts = {name: torch.from_numpy(value).double() for name, value in parts.items()}
    functional = torch.nn.functional
    image = torch.from_numpy(pixels // STEP).permute(0, 3, 1, 2).double()
    first = functional.conv2d(image, torch_parts["first"], padding=1).relu()
    down = functional.conv2d(first, torch_parts["down"], stride=2, padding=1).relu()
    deep = functional.conv2d(down, torch_parts["deep"], padding=1).relu()
    up = functional.conv_transpose2d(deep, torch_parts["up"], stride=2)
    joined = functional.conv2d(torch.cat([first, up], dim=1), torch_parts["join"], padding=1).relu()
    logits = functional.conv2d(joined, torch_parts["head"], torch_parts["bias"])
    largest = max(float(part.abs().max()) for part in (first, down, deep, up, joined, logits))
    return logits.numpy(), largest


def golden(parts: Weights, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The masks, uint8[N, H, W]."""
    logits, _ = logits_of(parts, pixels)
    masks: NDArray[np.uint8] = logits.argmax(axis=1).astype(np.uint8)
    return masks


def deployed(parts: Weights) -> tuple[bytes, SegmentationManifest]:
    """The ONNX of the bundle, and its manifest."""
    calibration = [{"image": (frames()[:1] // STEP).transpose(0, 3, 1, 2).astype(np.float32)}]
    typed, report = to_precision(network(parts), calibration, "fp16")
    emit = ("mask", "confidence")
    head = HeadSpec(name="scene", activation="softmax", emit=emit)
    ranges = {
        "batch": Axis(min=1, opt=1, max=4),
        "height": Axis(min=16, opt=48, max=256),
        "width": Axis(min=16, opt=64, max=256),
    }
    spec = FuseSpec(heads=(head,), mean=(0.0,) * 3, std=(0.2,) * 3, axes=ranges)
    model, inputs, outputs, axes = fuse(typed, spec)
    content = model.SerializeToString()
    classes = tuple(ClassInfo(name=name, color=color) for name, color in COLORS.items())
    manifest = SegmentationManifest(
        schema=SCHEMA,
        name="self-test",
        task="segmentation",
        created="2026-01-01T00:00:00Z",
        tools={},
        inputs=inputs,
        outputs=outputs,
        axes=axes,
        preprocess=Preprocess(size=SIZE, channels=3, mean=(0.0,) * 3, std=(0.2,) * 3, color="rgb"),
        heads=(
            Head(name="scene", classes=classes, activation="softmax", outputs={kind: kind for kind in emit}),
        ),
        precision=Precision(requested="fp16", layers=dict(report.counts)),
        artifacts=(Artifact(file=MODEL, kind="onnx", sha256=sha256(content), size_bytes=len(content)),),
        gate=SegmentationGate(skipped=True, agreement=0.999, miou_drop=0.002, images="", num_images=0),
        source=Source(model="tests/support/self_test_bundle.py"),
    )
    return content, manifest


def files() -> dict[str, bytes]:
    """Everything that the package holds, by file name."""
    parts = weights()
    model, manifest = deployed(parts)
    packed = io.BytesIO()
    np.savez_compressed(packed, frames=frames(), masks=golden(parts, frames()))
    return {MODEL: model, MANIFEST: manifest.to_json().encode(), "golden.npz": packed.getvalue()}


if __name__ == "__main__":
    folder = Path(__file__).parents[2] / "sdk" / "pixelrt" / "self_test" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)
