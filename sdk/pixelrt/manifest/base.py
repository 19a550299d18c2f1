"""What the manifests of all bundles have in common."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

SCHEMA = 1
"""Number of the manifest's format. It is part of every cache key; another number is refused."""

Task = Literal["segmentation", "generation"]
PrecisionType = Literal["fp32", "fp16", "bf16"]
ColorOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The range of a dynamic axis: what the engine must accept, and what it is tuned for."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(
                f"min {self.min}, opt {self.opt}, max {self.max}: expected 1 <= min <= opt <= max"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of `model.onnx` and of every engine built from it."""

    name: str
    dtype: str
    """NumPy's name: uint8, float32, ..."""
    shape: tuple[int | str, ...]
    """Numbers, and names of `Manifest.axes` where the size is dynamic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """What the graph does to a frame before the network sees it; for people, and for resizing on the CPU."""

    size: tuple[int, int]
    """Height and width of the network's input."""
    channels: int
    mean: tuple[float, ...]
    """Per channel, of 0..1 pixels."""
    std: tuple[float, ...]
    color: ColorOrder
    """Order of the frame's first three channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInfo:
    """One class of a mask. The id is its position in the list."""

    name: str
    color: tuple[int, int, int]
    """RGB, 0..255, for drawing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Island:
    """A layer that stays in FP32 in a network of lower precision."""

    layer: str
    max_abs: float
    """Largest magnitude seen on the calibration images."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What was asked for and what the ONNX holds."""

    requested: PrecisionType
    layers: dict[str, int]
    """Number of network layers per type, read from the ONNX."""
    islands: tuple[Island, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file of the bundle. Its SHA-256 is checked before it is used: an engine is native code."""

    file: str
    kind: Literal["onnx", "engine"]
    sha256: str
    size_bytes: int
    flavour: str = ""
    """`tensorrt` or `tensorrt_rtx`; empty for ONNX."""
    version: str = ""
    """Version of TensorRT that built it."""
    targets: tuple[str, ...] = ()
    """Compute capabilities it runs on: sm86, ..."""
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    build_seconds: float = 0.0
    layers: dict[str, int] = field(default_factory=dict)
    """Number of layers per type that they compute in: fp16, fp32, ..."""
    layers_from: Literal["engine", "onnx", ""] = ""
    """What they were counted in: the engine as TensorRT built it, or the ONNX that it was built from."""
    fallback: tuple[str, ...] = ()
    """Layers that run on the GPU, of an engine for a deep learning accelerator; as told by the engine, or by
    TensorRT before it built where `layers_from` is not `engine`."""

    @property
    def layers_text(self) -> str:
        """`91 fp16, 1 fp32`, and where they were counted if not in the engine."""
        counts = ", ".join(f"{number} {kind}" for kind, number in self.layers.items())
        return counts + (" in the ONNX" if counts and self.layers_from == "onnx" else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One contender measured against PyTorch in FP32."""

    backend: str
    """openvino, onnxruntime, tensorrt, ..."""
    device: str
    precision: str
    """How the backend computed: float32, bfloat16, float16."""
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What was demanded of the export and what was measured."""

    skipped: bool
    """True after `--no-gate`: nothing below was demanded."""
    images: str
    """Where the images came from; empty for a generator that needs none."""
    num_images: int
    checks: tuple[Check, ...] = ()

    def passed(self, backend: str, precision: str, device: str = "cpu") -> bool | None:
        """Whether everything passed on this backend and device in this precision; None if not measured."""
        asked = (backend, precision, device)
        verdicts = [
            check.passed for check in self.checks if (check.backend, check.precision, check.device) == asked
        ]
        return all(verdicts) if verdicts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the network came from."""

    model: str
    """Entry point, file name or class name."""
    checkpoint_sha256: str = ""
    recipe: str = ""
    """The recipe's text, for exports from a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a runtime needs to know about any bundle; what a bundle is read as depends on its task."""

    schema: int
    name: str
    task: Task
    created: str
    """UTC, ISO 8601."""
    tools: dict[str, str]
    """Versions of what wrote the bundle: pixelrt, torch, onnx, ..."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    axes: dict[str, Axis]
    precision: Precision
    artifacts: tuple[Artifact, ...]
    gate: Gate
    source: Source

    @property
    def network_sizes(self) -> dict[str, int]:
        """The size of each spatial axis at which the network itself works: inputs of it are not resized."""
        return {}

    def to_json(self) -> str:
        """The text of manifest.json."""
        data = dataclasses.asdict(self)
        if not data.get("smaller"):  # what was written before there were any has no such key
            data.pop("smaller", None)
        return json.dumps(data, indent=2, allow_nan=False) + "\n"
