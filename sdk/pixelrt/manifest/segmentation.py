"""The manifest of a bundle that reads frames into masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixelrt.manifest.base import Check, ClassInfo, Gate, Manifest, Preprocess
from pixelrt.manifest.smaller import Smaller, check_smaller

Emit = Literal["mask", "confidence", "grid", "logits"]
Activation = Literal["softmax", "sigmoid", "none"]


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
