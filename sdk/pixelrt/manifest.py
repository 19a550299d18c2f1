"""What a bundle says about itself: `manifest.json`, read strictly and written as a whole."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pixelrt.errors import ManifestError
from pixelrt.strict import SurpriseError, decode

SCHEMA = 1
"""Number of the manifest's format. It is part of every cache key; another number is refused."""

SIZES = "sizes"
"""Folder in a bundle, for the bundles of smaller inputs."""

Task = Literal["segmentation", "generation"]
Emit = Literal["mask", "confidence", "grid", "logits"]
Activation = Literal["softmax", "sigmoid", "none"]
PrecisionType = Literal["fp32", "fp16", "bf16"]
ColorOrder = Literal["rgb", "bgr"]
Distribution = Literal["normal", "uniform"]
NoiseDistribution = Literal["normal", "unit"]
ValueRange = Literal["tanh", "sigmoid", "none"]
Form = Literal["index", "one_hot"]
"""What a network takes for a label or a mask: ids int64, or float32 with a channel per class."""
OutputActivation = Literal["none", "tanh", "sigmoid"]


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
class Head:
    """One network output that matters, and the graph outputs made from it."""

    name: str
    classes: tuple[ClassInfo, ...]
    activation: Activation
    outputs: dict[str, str]
    """From an `Emit` kind to the name of the graph output that carries it."""
    grid: tuple[int, int] | None = None
    """Rows and columns of the grid, where one is emitted."""
    threshold: float = 0.5
    """Probability from which a pixel of a sigmoid head belongs to class 1 (it is part of the graph)."""


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
class SegmentationCheck(Check):
    """A contender on the gate's images, at one head."""

    head: str
    agreement: float
    """Share of pixels with the same class, 0..1."""
    miou_drop: float | None
    """mIoU of PyTorch minus mIoU of the contender against the labels, where there are labels."""
    miou: float | None
    """mIoU of the contender against the labels, 0..1."""
    max_logit_difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationCheck(Check):
    """A contender's images against PyTorch's, from the same inputs."""

    psnr: float | None
    """Of the worst image, dB, over bytes 0..255; None where every byte of every image is the same."""
    mean_psnr: float | None
    """Of all images together; None likewise."""
    ssim: float
    """Of the worst image, at most 1."""
    max_difference: int
    """Largest difference of a byte, 0..255."""


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
class SegmentationGate(Gate):
    """Limits for masks."""

    agreement: float
    """Least share of pixels with the same class."""
    miou_drop: float
    """Largest loss of mIoU."""
    checks: tuple[SegmentationCheck, ...] = ()

    def least(self, head: str, figure: Literal["agreement", "miou"]) -> float | None:
        """The lowest figure of a head, of all that passed; None where it was not measured."""
        passed = [getattr(one, figure) for one in self.checks if one.head == head and one.passed]
        return min((value for value in passed if value is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationGate(Gate):
    """Limits for generated images. Each holds for the worst image."""

    psnr: float
    """Least peak signal-to-noise ratio, dB."""
    ssim: float
    """Least structural similarity."""
    max_difference: int
    """Largest difference of a byte."""
    seed: int
    """Of the latents and the noise that the images were made from."""
    checks: tuple[GenerationCheck, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentInfo:
    """The latent that a generator takes: the graph's input `latent`, float32[batch, *size]."""

    size: tuple[int, ...]
    """One number for a vector, or channels, height and width."""
    distribution: Distribution
    """`normal`: mean 0, variance 1; `uniform`: from -1 to 1."""

    def __post_init__(self) -> None:
        _check_sides("size", self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseInfo:
    """Randomness inside a network, made an input of the graph: `noise_0`, ... float32[batch, *size]."""

    name: str
    size: tuple[int, ...]
    distribution: NoiseDistribution
    """`normal`: mean 0, variance 1; `unit`: uniform from 0 (included) to 1 (excluded)."""
    what: str = ""
    """What it was in the network: `dropout (p = 0.5)`, `randn_like`, ..."""

    def __post_init__(self) -> None:
        _check_sides("size", self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelInfo:
    """The classes of a conditional generator: the graph's input `label`, int32[batch]."""

    names: tuple[str, ...]
    """The id is the position."""

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names are {list(self.names)}; one or more different names were expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskInfo:
    """The mask that a generator paints: the graph's input `mask`, uint8[batch, mask_height, mask_width]."""

    size: tuple[int, int]
    """Height and width at which the network takes it."""
    classes: tuple[ClassInfo, ...]
    form: Form = "one_hot"
    """What the network takes. With `one_hot`, ids that are no class are painted as nothing: unlabelled. With
    `index` they have no meaning; the graph takes the last class for them."""

    def __post_init__(self) -> None:
        _check_sides("size", self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputInfo:
    """What a generator gives: the graph's output `generated`, uint8[batch, H, W, C]."""

    size: tuple[int, int]
    """Height and width."""
    channels: Literal[1, 3]
    range: ValueRange
    """Of the network's values: `tanh` -1..1, `sigmoid` 0..1, `none` 0..255."""
    activation: OutputActivation = "none"
    """What the graph applies to the network's output first."""
    color: ColorOrder = "rgb"
    """Order of three channels as they leave the graph."""

    def __post_init__(self) -> None:
        _check_sides("size", self.size)


def _check_sides(what: str, sides: tuple[int, ...]) -> None:
    if not sides or min(sides) < 1:
        raise ValueError(f"{what} is {list(sides)}; whole numbers of at least 1 were expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the network came from."""

    model: str
    """Entry point, file name or class name."""
    checkpoint_sha256: str = ""
    recipe: str = ""
    """The recipe's text, for exports from a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Smaller:
    """The same network for a smaller input: a whole bundle of its own, inside this one."""

    size: tuple[int, int]
    """Height and width of the network's input."""
    sha256: str
    """Of its manifest.json."""
    becoming: str = ""
    """While an engine is added to it: what that SHA-256 is about to be. Either is right then."""

    def __post_init__(self) -> None:
        _check_sides("size", self.size)
        for name, value in (("sha256", self.sha256), ("becoming", self.becoming or "0" * 64)):
            if not re.fullmatch(r"[0-9a-f]{64}", value):
                raise ValueError(f"{name} is {value!r}; 64 hexadecimal digits were expected")

    @property
    def folder(self) -> str:
        """Its place in the bundle."""
        return smaller_folder(self.size)


def smaller_folder(size: tuple[int, int]) -> str:
    """Where in a bundle the bundle for a smaller input lies: `sizes/256x352`."""
    return f"{SIZES}/{size_name(size)}"


def size_name(size: tuple[int, int]) -> str:
    """`256x352`: height, then width."""
    return f"{size[0]}x{size[1]}"


def check_smaller(size: tuple[int, int], smaller: Sequence[tuple[int, int]]) -> None:
    """Refuse smaller sizes that are none, or not from large to small.

    Raises:
        ValueError: Saying which, and what was expected.
    """
    known = [size]
    for each in smaller:
        called, largest = size_name(each), size_name(size)
        if min(each) < 1:
            raise ValueError(f"the smaller size {called} has a side below 1")
        if each in known:
            raise ValueError(f"the size {called} is there twice; each was expected once")
        if each[0] > size[0] or each[1] > size[1]:
            raise ValueError(
                f"the smaller size {called} is higher or wider than the size {largest}; size is the largest "
                "(height x width)"
            )
        if each[0] * each[1] > known[-1][0] * known[-1][1]:
            raise ValueError(f"the smaller size {called} comes late; from large to small was expected")
        known.append(each)


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

    @staticmethod
    def from_json(text: str) -> SegmentationManifest | GenerationManifest:
        """Read a manifest.

        Raises:
            ManifestError: If the text is no JSON, has another schema number, an unknown or missing key, or a
                value of another type; the message names the key.
        """
        try:
            data = json.loads(text)
        except ValueError as problem:
            raise ManifestError(
                f"manifest.json is not JSON ({problem}); export the bundle again"
            ) from problem
        data = data if isinstance(data, dict) else {}
        if (found := data.get("schema")) != SCHEMA:
            raise ManifestError(
                f"manifest.json has schema {found!r}, this PixelRT reads schema {SCHEMA}; "
                "export the bundle again, or use the PixelRT that wrote it"
            )
        try:
            kind = decode(_Kind, {"task": data["task"]} if "task" in data else {})
            if kind.task == "generation":
                return decode(GenerationManifest, data)
            return decode(SegmentationManifest, data)
        except SurpriseError as problem:
            raise ManifestError(f"manifest.json: {problem}; export the bundle again") from problem

    def to_json(self) -> str:
        """The text of manifest.json."""
        data = dataclasses.asdict(self)
        if not data.get("smaller"):  # what was written before there were any has no such key
            data.pop("smaller", None)
        return json.dumps(data, indent=2, allow_nan=False) + "\n"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What decides how the rest of a manifest is read."""

    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationManifest(Manifest):
    """A bundle that reads frames into masks."""

    task: Literal["segmentation"] = "segmentation"
    preprocess: Preprocess
    heads: tuple[Head, ...]
    gate: SegmentationGate
    smaller: tuple[Smaller, ...] = ()
    """The same network for smaller inputs, from large to small."""

    def __post_init__(self) -> None:
        check_smaller(self.preprocess.size, [entry.size for entry in self.smaller])

    @property
    def network_sizes(self) -> dict[str, int]:
        """See `Manifest.network_sizes`."""
        height, width = self.preprocess.size
        return {"height": height, "width": width}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationManifest(Manifest):
    """A bundle that writes images, from any combination of these inputs, each at most once."""

    task: Literal["generation"] = "generation"
    output: OutputInfo
    gate: GenerationGate
    latent: LatentInfo | None = None
    label: LabelInfo | None = None
    mask: MaskInfo | None = None
    image: Preprocess | None = None
    noise: tuple[NoiseInfo, ...] = ()

    @property
    def network_sizes(self) -> dict[str, int]:
        """See `Manifest.network_sizes`."""
        sizes: dict[str, int] = {}
        if self.mask is not None:
            sizes["mask_height"], sizes["mask_width"] = self.mask.size
        if self.image is not None:
            sizes["height"], sizes["width"] = self.image.size
        return sizes
