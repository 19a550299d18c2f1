"""Classes and their colours: published palettes by name, and distinct colours for any list of names."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from pixelrt.errors import RecipeError
from pixelrt.manifest import ClassInfo
from pixelrt.strict import suggestion

Color = tuple[int, int, int]
"""RGB, 0..255."""

_GOLDEN_ANGLE = 0.618033988749895
_TONES = ((0.72, 0.95), (0.95, 0.62), (0.42, 1.0))
"""Saturation and value; the next pair after each round of hues."""
_HUES_PER_TONE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassEntry:
    """A class as a recipe writes it: `{ name = "road", color = [128, 64, 128] }`."""

    name: str
    color: Color | None = None
    """RGB, 0..255; one is chosen where it is left out."""

    def __post_init__(self) -> None:
        if self.color is not None and not all(0 <= value <= 255 for value in self.color):
            raise ValueError(f"color {list(self.color)} of class {self.name!r}: 0..255 was expected")


CAMVID_11: tuple[tuple[str, Color], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (0, 0, 192)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)
"""The 11 classes of SegNet's split of CamVid, in the colours of the data set's own `label_colors.txt`.

Source: Brostow, Fauqueur and Cipolla, "Semantic object classes in video: a high-definition ground truth
database", 2009 (mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid); class order: Badrinarayanan et al.,
"SegNet", 2015.
"""

CITYSCAPES_19: tuple[tuple[str, Color], ...] = (
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)
"""The 19 training classes of Cityscapes in the order of their train ids.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", 2016;
`cityscapesscripts/helpers/labels.py`.
"""

PALETTES: dict[str, tuple[tuple[str, Color], ...]] = {
    "camvid11": CAMVID_11,
    "cityscapes19": CITYSCAPES_19,
}


def class_infos(classes: str | Sequence[str | ClassEntry]) -> tuple[ClassInfo, ...]:
    """Classes with a colour each; the id of a class is its position.

    Args:
        classes: Name of a palette (`camvid11`, `cityscapes19`), or the classes themselves, with or without a
            colour. Colours that are left out are chosen: as far apart as their number allows, and the same
            ones every time.

    Raises:
        RecipeError: If the palette is unknown, a list is empty, or two classes have the same name.
    """
    if isinstance(classes, str):
        return tuple(ClassInfo(name=name, color=color) for name, color in _palette(classes))
    entries = [ClassEntry(name=entry) if isinstance(entry, str) else entry for entry in classes]
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or not all(names) or twice:
        raise RecipeError(
            f"classes are {names}, one or more names were expected, each once"
            + (f"; {', '.join(map(repr, twice))} stands there twice" if twice else "")
        )
    taken = {entry.color for entry in entries if entry.color}
    free = [color for color in distinct_colors(len(entries) + len(taken)) if color not in taken]
    return tuple(
        ClassInfo(name=entry.name, color=entry.color or color)
        for entry, color in zip(entries, free, strict=False)
    )


def distinct_colors(count: int) -> tuple[Color, ...]:
    """The first `count` colours of an endless series in which neighbours differ in hue.

    The golden angle spreads the hues; after twelve hues another saturation and brightness begins.
    """
    return tuple(map(_color, range(count)))


def _color(index: int) -> Color:
    saturation, value = _TONES[index // _HUES_PER_TONE % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN_ANGLE % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _palette(name: str) -> tuple[tuple[str, Color], ...]:
    if name not in PALETTES:
        raise RecipeError(
            f"there is no palette {name!r}{suggestion(name, list(PALETTES))}; known are "
            f"{', '.join(PALETTES)}, or give a list of names"
        )
    return PALETTES[name]
