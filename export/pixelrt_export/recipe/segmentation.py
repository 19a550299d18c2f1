"""Recipes of segmentation: frames in, masks out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pixelrt.manifest import Activation, Emit, check_smaller
from pixelrt_export.recipe.sections import (
    Classes,
    ModelSection,
    PixelsSection,
    PrecisionSection,
    Recipe,
    TargetSection,
    check_batch,
    check_classes,
    check_max_images,
)

_HEAD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSection(PixelsSection):
    """What the network takes."""

    batch: int = 4
    """Largest number of frames at once."""
    smaller: tuple[tuple[int, int], ...] = ()
    """Heights and widths of further inputs that the bundle shall have, from large to small."""

    def __post_init__(self) -> None:
        PixelsSection.__post_init__(self)  # super() does not find the class that slots made anew
        check_batch(self.batch)
        check_smaller(self.size, self.smaller)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSection:
    """One output of the network, and what to make of it."""

    classes: Classes
    """A named palette, or the classes."""
    name: str = "scene"
    output: int | str | None = None
    """Index, key or attribute of the network's output; may be left out where there is only one."""
    activation: Activation = "softmax"
    emit: tuple[Emit, ...] = ("mask", "confidence", "grid")
    grid: tuple[int, int] | None = None
    """Rows and columns; one cell per 32 pixels where it is left out."""
    threshold: float = 0.5
    """Probability from which a pixel of a sigmoid head belongs to the class."""

    def __post_init__(self) -> None:
        if not _HEAD_NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; letters, digits, '_' and '-' were expected")
        if not self.emit or len(set(self.emit)) < len(self.emit):
            raise ValueError(f"emit is {list(self.emit)}; one or more different kinds were expected")
        if self.grid is not None and min(self.grid) < 1:
            raise ValueError(f"grid is {list(self.grid)}; rows and columns of at least 1 were expected")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; between 0 and 1 was expected")
        check_classes(self.classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSection:
    """What the converted network must do as well as the original."""

    images: str | None = None
    """Folder of images, or another source of frames (`test://drive`); they are resized to `size`."""
    labels: str | None = None
    """Folder of label PNGs with the same names; `labels` beside a folder of images where that exists."""
    agreement: float = 0.999
    """Least share of pixels with the same class."""
    miou_drop: float = 0.002
    """Largest loss of mIoU against the labels."""
    max_images: int = 64
    skip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.agreement <= 1:
            raise ValueError(f"agreement is {self.agreement}; a share from 0 to 1 was expected")
        if not 0 <= self.miou_drop <= 1:
            raise ValueError(f"miou_drop is {self.miou_drop}; from 0 to 1 was expected")
        check_max_images(self.max_images)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationRecipe(Recipe):
    """A recipe of a network that reads frames into masks."""

    input: InputSection
    head: tuple[HeadSection, ...]
    gate: GateSection = GateSection()


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationFile:
    """What may stand in the file, but for `task`."""

    model: ModelSection
    input: InputSection
    head: tuple[HeadSection, ...]
    precision: PrecisionSection = field(default_factory=PrecisionSection)
    gate: GateSection = GateSection()
    target: tuple[TargetSection, ...] = ()

    def __post_init__(self) -> None:
        names = [head.name for head in self.head]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"the [[head]] sections are called {names}; one or more were expected, each with its own name"
            )
