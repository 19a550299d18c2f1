"""Shapes from the manifest and from the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from pixelrt.bundle import Bundle
from pixelrt.errors import InputError
from pixelrt.manifest import Manifest
from pixelrt.trt import ShapeRange, profile_of
from pixelrt.trt.profiles import parse_shapes, profile_options


@pytest.fixture(scope="module")
def manifest(make_bundle: Callable[..., Bundle]) -> Manifest:
    return make_bundle(emit=("mask",)).manifest


def test_from_the_axes(manifest: Manifest) -> None:
    profile = profile_of(manifest)
    assert profile == {"frame": ShapeRange(min=(1, 16, 16, 3), opt=(1, 720, 1280, 3), max=(4, 2160, 3840, 3))}
    assert profile_options(profile) == {
        "minShapes": "frame:1x16x16x3",
        "optShapes": "frame:1x720x1280x3",
        "maxShapes": "frame:4x2160x3840x3",
    }


def test_changes(manifest: Manifest) -> None:
    profile = profile_of(manifest, {"opt": {"frame": (2, 480, 640, 3)}, "min": {"frame": (2, 16, 16, 3)}})
    assert profile["frame"] == ShapeRange(min=(2, 16, 16, 3), opt=(2, 480, 640, 3), max=(4, 2160, 3840, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max": {"fram": (1, 2, 3, 3)}}, r"--maxShapes names the input 'fram' \(did you mean 'frame'\?\)"),
        ({"opt": {"frame": (1, 720, 1280, 4)}}, "does not fit the input, batchxheightxwidthx3 was expected"),
        ({"opt": {"frame": (720, 1280, 3)}}, "--optShapes=frame:720x1280x3 does not fit"),
        ({"opt": {"frame": (8, 720, 1280, 3)}}, "opt 8x720x1280x3, max 4x2160x3840x3: expected .*min <= opt"),
        ({"min": {"frame": (0, 16, 16, 3)}}, "1 <= min"),
    ],
)
def test_changes_that_do_not_fit(manifest: Manifest, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        profile_of(manifest, changes)  # type: ignore[arg-type]


def test_axis_without_a_range(manifest: Manifest) -> None:
    with pytest.raises(InputError, match=r"dynamic axis 'batch', .* \['height'\]; export the bundle again"):
        profile_of(dataclasses.replace(manifest, axes={"height": manifest.axes["height"]}))


def test_shapes_as_trtexec_takes_them() -> None:
    assert parse_shapes("frame:1x720x1280x3") == {"frame": (1, 720, 1280, 3)}
    assert parse_shapes("'a:0':1x2,b:3") == {"a:0": (1, 2), "b": (3,)}


@pytest.mark.parametrize(
    "text", ["", "frame", "frame:", ":1x2", "frame:1x", "frame:1xb", "a:1,a:2", "a:-1x3"]
)
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected name:1x720x1280x3"):
        parse_shapes(text)
