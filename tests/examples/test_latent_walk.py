"""The walk from its command line to the film, with generators whose images NumPy computes too."""

from __future__ import annotations

import dataclasses
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx.parser
import pytest
from generators import ALL, FILTER, GAN, SIZE, Kind, make_generator_bundle, reference, write_generator
from numpy.typing import NDArray

from pixelrt.generation.drawing import draw_latents, draw_noise
from pixelrt.manifest import LatentInfo, OutputInfo, Preprocess
from pixelrt_export.fuse_generator import GeneratorSpec, generator_axes

SCRIPT = Path(__file__).parents[2] / "examples" / "latent_walk.py"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    folder = tmp_path_factory.mktemp("walks")
    return {kind: make_generator_bundle(folder, kind).path for kind in (GAN, ALL, FILTER)}


def walk(bundle: Path, out: Path, *arguments: str | Path) -> NDArray[np.uint8]:
    """The film's images, uint8[N, H, W, 3]."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(SCRIPT), str(bundle), "--out", str(out), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    with av.open(str(out)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


def test_the_walk_ends_where_it_began_and_keeps_an_even_pace(
    bundles: dict[Kind, Path], tmp_path: Path
) -> None:
    words = ("--stops", "3", "--steps", "8", "--seed", "5", "--label", "dog", "--scale", "8")
    frames = walk(bundles[GAN], tmp_path / "walk.mp4", *words)
    assert frames.shape == (24, 8 * SIZE[0], 8 * SIZE[1], 3)
    seen = frames[:, 4::8, 4::8].astype(float)
    steps = [np.abs(after - before).mean() for before, after in pairwise([*seen, seen[0]])]
    assert min(steps) > 0.05
    assert steps[-1] < 2 * np.median(steps)
    assert np.abs(seen[8] - seen[0]).mean() > steps[-1]


def test_every_stop_is_the_image_of_its_latent_and_label(bundles: dict[Kind, Path], tmp_path: Path) -> None:
    words = ("--stops", "4", "--steps", "2", "--seed", "9", "--label", "cat", "--label", "2", "--fps", "10")
    frames = walk(bundles[GAN], tmp_path / "walk.gif", *words)
    assert len(frames) == 8
    info = GAN.manifest_parts()["latent"]
    wanted = reference(latent=draw_latents(info, 9, range(4)), label=np.array([0, 2, 0, 2]))
    assert np.abs(frames[::2] - wanted).max() < 8  # a palette of its own for each image
    other = walk(bundles[GAN], tmp_path / "other.gif", *words[:4], "--label", "cat", "--seed", "10")
    assert np.abs(other[0].astype(int) - frames[0]).max() > 8


def test_mask_and_image_are_given_once(
    bundles: dict[Kind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB", raising=False)  # OpenCV 4.10 has none
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 3, SIZE).astype(np.uint8)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    inputs = ("--mask", tmp_path / "mask.png", "--image", tmp_path / "image.png", "--label", "3")
    frames = walk(bundles[ALL], tmp_path / "walk.gif", "--stops", "2", "--steps", "1", *inputs)
    parts: dict[str, Any] = ALL.manifest_parts()
    wanted = reference(
        latent=draw_latents(parts["latent"], 0, range(2)),
        label=np.array([2, 2]),
        mask=mask[None],
        image=image[None].astype(float),
        noise_0=draw_noise(parts["noise"][0], 0, [0]),
    )
    assert frames.shape == (2, *SIZE, 3)
    assert np.abs(frames - wanted).max() < 8


def test_the_picture_for_a_generator_of_one_channel_is_read_grey(tmp_path: Path) -> None:
    """Its network adds the picture and the mean of the latent; the film is grey."""
    bare = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20]>
        net (float[batch,2] latent, float[batch,1,8,12] image) => (float[batch,1,8,12] head_generated)
        <float[1] scale = {50}, int64[2] axes = {2, 3}, int64[1] numbers = {1}>
        {
            mean = ReduceMean(latent, numbers)
            level = Unsqueeze(mean, axes)
            sum = Add(image, level)
            head_generated = Mul(sum, scale)
        }""")
    latent = LatentInfo(size=(2,), distribution="normal")
    grey = Preprocess(size=SIZE, channels=1, mean=(0.0,), std=(0.25,), color="rgb")
    axes = {name: dataclasses.replace(axis, min=1) for name, axis in generator_axes(2).items()}
    spec = GeneratorSpec(latent=latent, image=grey, range="none", axes=axes)
    output = OutputInfo(size=SIZE, channels=1, range="none")
    bundle = write_generator(tmp_path, "grey", bare, spec, output).path
    colored = np.random.default_rng(2).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "colored.png"), colored)
    words = ("--stops", "2", "--steps", "1", "--image", tmp_path / "colored.png")
    frames = walk(bundle, tmp_path / "walk.gif", *words)
    picture = cv2.cvtColor(colored, cv2.COLOR_BGR2GRAY) / 255 / 0.25
    wanted = 50 * (picture + draw_latents(latent, 0, range(2)).mean(axis=1)[:, None, None])
    assert frames.shape == (2, *SIZE, 3)
    assert np.abs(frames - wanted.clip(0, 255)[..., None]).max() < 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fps", "0"], "--fps 0.0: expected more than 0"),
        (["--seed", "-1"], "--seed -1: expected at least 0"),
        (["--stops", "1"], "--stops 1: expected at least 2"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        walk(tmp_path / "bundle", tmp_path / "walk.gif", *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (FILTER, [], "takes image; a walk needs a generator with a latent"),
        (GAN, [], "takes a label, none came"),
        (GAN, ["--label", "cow"], "there is no label 'cow'"),
        (GAN, ["--label", "cat", "--out", "walk.txt"], "walk.txt ends in .txt, expected a film"),
        (GAN, ["--mask", "nothing.png"], "--mask nothing.png cannot be read"),
        (ALL, ["--image", "nothing.png"], "--image nothing.png cannot be read"),
        (
            GAN,
            ["--label", "cat", "--device", "nowhere"],
            "device is 'nowhere', expected one of auto, cpu, cuda",
        ),
    ],
)
def test_what_cannot_be_walked_is_explained(
    bundles: dict[Kind, Path], tmp_path: Path, kind: Kind, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        walk(bundles[kind], tmp_path / "walk.gif", "--stops", "2", "--steps", "1", *arguments)
    assert not list(tmp_path.iterdir())
