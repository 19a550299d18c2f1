"""From the options of `pixelrt generate` to what is drawn, without a network; for whatever people type."""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from generator_contract import bundles as bundles
from generators import FILTER, GAN, LABELS, PAINTER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelrt.cli.entry import build_parser
from pixelrt.cli.generate_files import open_writer
from pixelrt.cli.generate_inputs import Inputs, opened_inputs
from pixelrt.cli.generate_options import check_options, read_latents
from pixelrt.cli.generate_plan import Plan, planned
from pixelrt.cli.options import count, grid
from pixelrt.errors import InputError, SourceError
from pixelrt.generation import Drawn
from pixelrt.manifest import GenerationManifest

SMALL = st.integers(1, 12)
FAST = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def gan(bundles) -> GenerationManifest:  # type: ignore[no-untyped-def]
    manifest = bundles[GAN].generation
    assert isinstance(manifest, GenerationManifest)
    return manifest


def parsed(*words: str) -> argparse.Namespace:
    parser, _ = build_parser(only="generate")
    return parser.parse_args(["generate", "a-bundle", "--out", "a.png", *words])


def plan_of(manifest: GenerationManifest, *words: str) -> Plan:
    arguments = parsed(*words)
    check_options(arguments, manifest)
    return planned(arguments, manifest, Inputs())


def drawn(plan: Plan, manifest: GenerationManifest, indices: range) -> Drawn:
    assert plan.strategy is not None
    return plan.strategy.draw(manifest, indices)


@given(labels=st.lists(st.sampled_from(LABELS), min_size=1, max_size=5), number=SMALL)
@FAST
def test_labels_come_in_turn(gan: GenerationManifest, labels: list[str], number: int) -> None:
    words = [word for label in labels for word in ("--label", label)]
    plan = plan_of(gan, "--count", str(number), *words)
    assert plan.total == number
    found = drawn(plan, gan, range(number)).labels
    assert found is not None
    assert [LABELS[index] for index in found] == [labels[i % len(labels)] for i in range(number)]


@given(text=st.text(max_size=8))
@FAST
def test_other_labels_are_refused(gan: GenerationManifest, text: str) -> None:
    if text in LABELS:
        return
    with pytest.raises(InputError, match="there is no label"):
        check_options(parsed(f"--label={text}"), gan)


@given(rows=SMALL, columns=SMALL, span=st.floats(0.1, 9))
@FAST
def test_a_grid_has_its_corners(gan: GenerationManifest, rows: int, columns: int, span: float) -> None:
    words = ["--grid", f"{rows}x{columns}", "--axes", "3", "1", "--span", str(span), "--label", "cat"]
    plan = plan_of(gan, *words)
    assert plan.total == rows * columns
    latents = drawn(plan, gan, range(rows * columns)).latents
    assert latents is not None
    grid_of = latents.reshape(rows, columns, 5)
    np.testing.assert_allclose(grid_of[:, 0, 3], np.linspace(-span, span, rows) if rows > 1 else [0])
    np.testing.assert_allclose(grid_of[0, :, 1], np.linspace(-span, span, columns) if columns > 1 else [0])
    assert not grid_of[..., [0, 2, 4]].any()


@given(latents=st.integers(1, 9), seed=st.integers(0, 2**40), suffix=st.sampled_from([".npy", ".npz"]))
@FAST
def test_latents_of_files(
    gan: GenerationManifest, latents: int, seed: int, suffix: str, tmp_path: Path
) -> None:
    array = np.random.default_rng(seed).normal(size=(latents, 5)).astype(np.float32)
    file = tmp_path / f"z{suffix}"
    np.save(file, array) if suffix == ".npy" else np.savez(file, latents=array, x=np.ones(3))
    plan = plan_of(gan, "--latents", str(file), "--label", "dog", "--seed", str(seed))
    assert plan.total == latents
    np.testing.assert_array_equal(drawn(plan, gan, range(latents)).latents, array)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")  # of NumPy, about what it finds in damaged files
def test_damaged_latents_are_explained(suffix: str, data: st.DataObject, tmp_path: Path) -> None:
    whole = io.BytesIO()
    array = np.zeros((3, 5), np.float32)
    np.save(whole, array) if suffix == ".npy" else np.savez_compressed(whole, latents=array)
    content = bytearray(whole.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        content = content or bytearray(b"x")
    file = tmp_path / f"z{suffix}"
    file.write_bytes(content)
    try:
        found = read_latents(file)
    except InputError as problem:
        assert str(file) in str(problem)
    else:
        assert isinstance(found, np.ndarray)


@pytest.mark.parametrize("parse", [count, grid])
@given(text=st.text(st.sampled_from("0123456789x-+ ."), max_size=6))
@FAST
def test_numbers_are_read_or_refused(parse: Callable[[str], Any], text: str) -> None:
    try:
        found = parse(text)
    except argparse.ArgumentTypeError as problem:
        assert repr(text) in str(problem)
    else:
        assert min(found if isinstance(found, tuple) else (found,)) >= 1


def test_what_is_asked_for_by_default(gan: GenerationManifest) -> None:
    assert plan_of(gan).total == 16
    assert plan_of(gan, "--labels").total == 8 * len(LABELS)
    assert plan_of(gan, "--interpolate", "0", "1", "--label", "cat").total == 30


class TestGreyImages:
    """What takes one channel gets it, of images that are grey."""

    @pytest.fixture
    def manifest(self, bundles) -> GenerationManifest:  # type: ignore[no-untyped-def]
        found: GenerationManifest = bundles[FILTER].generation
        assert found.image is not None
        return dataclasses.replace(found, image=dataclasses.replace(found.image, channels=1))

    def test_are_taken_as_they_are(self, manifest: GenerationManifest, tmp_path: Path) -> None:
        image = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
        cv2.imwrite(str(tmp_path / "a.png"), image)
        with opened_inputs(parsed("--image", str(tmp_path / "a.png")), manifest) as inputs:
            (given,) = inputs.frames(manifest)["image"]
        assert given.name == "a"
        np.testing.assert_array_equal(given.value, image[..., np.newaxis])

    def test_colours_are_refused(self, manifest: GenerationManifest, tmp_path: Path) -> None:
        image = np.full((6, 9, 3), 80, np.uint8)
        image[2, 3, 1] = 81
        cv2.imwrite(str(tmp_path / "a.png"), image)
        arguments = parsed("--image", str(tmp_path / "a.png"))
        with (
            opened_inputs(arguments, manifest) as inputs,
            pytest.raises(SourceError, match="the image a is in colour, and this generator takes grey ones"),
        ):
            planned(arguments, manifest, inputs)

    def test_other_channels_are_for_python(self, manifest: GenerationManifest) -> None:
        assert manifest.image is not None
        four = dataclasses.replace(manifest, image=dataclasses.replace(manifest.image, channels=4))
        with pytest.raises(
            InputError, match=r"takes images of 4 channels, and files and cameras give 1 \(grey"
        ):
            check_options(parsed("--image", "a.png"), four)


def test_odd_sides_of_a_video_are_told(bundles) -> None:  # type: ignore[no-untyped-def]
    manifest = bundles[PAINTER].generation
    output = dataclasses.replace(manifest.output, size=(7, 12))
    arguments = parsed("--mask", "m.png", "--out", "a.mp4")
    writer = open_writer(arguments, dataclasses.replace(manifest, output=output), Inputs(), 1)
    assert writer.note == "a.mp4: H.264 needs even sides; 7x12 became 8x12 by repeating the border"
