"""Classes and colours."""

from __future__ import annotations

from itertools import combinations

import pytest

from pixelrt.errors import RecipeError
from pixelrt.manifest import ClassInfo
from pixelrt_export.palettes import PALETTES, ClassEntry, class_infos, distinct_colors


def test_camvid_is_in_the_order_of_the_procedural_drive() -> None:
    names = " ".join(entry.name for entry in class_infos("camvid11"))
    assert names == "sky building pole road pavement tree sign fence car pedestrian bicyclist"
    assert class_infos("camvid11")[3] == ClassInfo(name="road", color=(128, 64, 128))


def test_cityscapes_is_in_the_order_of_train_ids() -> None:
    classes = class_infos("cityscapes19")
    assert len(classes) == 19
    assert (classes[0].name, classes[10].name, classes[13].name) == ("road", "sky", "car")


@pytest.mark.parametrize("palette", sorted(PALETTES))
def test_colours_of_a_palette_differ(palette: str) -> None:
    colors = [entry.color for entry in class_infos(palette)]
    assert len(set(colors)) == len(colors)


def test_missing_colours_are_chosen_and_given_ones_kept() -> None:
    first = distinct_colors(1)[0]
    classes = class_infos(["road", ClassEntry(name="car", color=first), ClassEntry(name="sky")])
    assert [entry.name for entry in classes] == ["road", "car", "sky"]
    assert classes[1].color == first
    assert len({entry.color for entry in classes}) == 3
    assert classes == class_infos(["road", ClassEntry(name="car", color=first), "sky"])


@pytest.mark.parametrize(("count", "distance"), [(8, 80), (24, 30), (256, 1)])
def test_automatic_colours_are_far_apart(count: int, distance: int) -> None:
    colors = distinct_colors(count)
    assert (
        min(sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in combinations(colors, 2))
        >= distance
    )
    assert distinct_colors(3) == colors[:3]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            "camvid12",
            r"no palette 'camvid12' \(did you mean 'camvid11'\?\); known are camvid11, cityscapes19",
        ),
        ([], r"classes are \[\]"),
        (["road", "car", "road"], r"'road' stands there twice"),
        (["road", ""], r"one or more names"),
    ],
)
def test_bad_classes_are_explained(classes: str | list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        class_infos(classes)


def test_a_colour_is_bytes() -> None:
    with pytest.raises(ValueError, match=r"color \[0, 0, 256\] of class 'car'"):
        ClassEntry(name="car", color=(0, 0, 256))
