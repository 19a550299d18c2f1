"""`pixelrt generate`, as a person or a script uses it: what it writes is read back and compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from disks import full_disk
from generator_contract import bundles as bundles
from generators import ALL, CLASSES, FILTER, GAN, LABELS, PAINTER, SIZE, Kind
from numpy.typing import NDArray

import pixelrt
from pixelrt import Conditional, Generator, Grid, Interpolate, Labels, Random
from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.encoding import write_video
from pixelrt.generation import Strategy

Bytes = NDArray[np.uint8]
Bundles = Mapping[Kind, Bundle]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def opened(bundles: Bundles) -> Iterator[Mapping[Kind, Generator]]:
    made = {kind: pixelrt.load(bundle, task="generation", color="rgb") for kind, bundle in bundles.items()}
    yield made
    for generator in made.values():
        generator.close()


@pytest.fixture
def masks(tmp_path: Path) -> list[Bytes]:
    """Five masks of 16x24, also as masks/0.png, ... 4.png."""
    random = np.random.default_rng(0)
    made = [random.integers(0, len(CLASSES), (4, 6)).astype(np.uint8) for _ in range(5)]
    made = [mask.repeat(4, axis=0).repeat(4, axis=1) for mask in made]
    (tmp_path / "masks").mkdir()
    for index, mask in enumerate(made):
        cv2.imwrite(f"masks/{index}.png", mask)
    return made


@pytest.fixture
def photos(tmp_path: Path) -> list[Bytes]:
    """Three images of 16x24, RGB, also as photos/0.png, ... 2.png."""
    made = list(np.random.default_rng(1).integers(0, 256, (3, 16, 24, 3), np.uint8))
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(made):
        cv2.imwrite(f"photos/{index}.png", image[..., ::-1])
    return made


def generate(bundle: Bundle, *words: str) -> None:
    assert main(["generate", str(bundle.path), *words]) == 0


def picture(name: str) -> Bytes:
    """RGB."""
    return np.asarray(cv2.imread(name, cv2.IMREAD_COLOR)[..., ::-1])


def film(name: str) -> Bytes:
    with av.open(name) as opened:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)])


def enlarged(images: Bytes, scale: int) -> Bytes:
    return images.repeat(scale, axis=-3).repeat(scale, axis=-2)


def left() -> list[str]:
    """Everything in the folder, hidden files included."""
    return sorted(os.listdir())


class TestStrategies:
    """Each way to say what is drawn gives the bytes that the same strategy gives in Python."""

    @pytest.mark.parametrize(
        ("words", "strategy", "count"),
        [
            ("--count 6", Random(), 6),
            ("--count 6 --seed 9 --truncation 0.5", Random(seed=9, truncation=0.5), 6),
            ("--label 3 --count 7 --seed 5", Conditional("3", seed=5), 7),
            ("--label cat --label 3 --count 5", Conditional(["cat", "3"]), 5),
            ("--labels --columns 5 --seed 2", Labels(5, seed=2), None),
            ("--grid 2x3 --label dog --axes 4 1 --span 3", Grid(2, 3, (4, 1), 3.0, label="dog"), None),
            ("--grid 3x2 --label dog --seed 0", Grid(3, 2, seed=0, label="dog"), None),
            ("--interpolate 3 8 --label 3 --steps 9", Interpolate(3, 8, 9, label="3"), None),
            ("--interpolate 3 8 --label 3 --mode lerp", Interpolate(3, 8, 30, "lerp", label="3"), None),
        ],
    )
    def test_a_sheet(
        self,
        bundles: Bundles,
        opened: Mapping[Kind, Generator],
        words: str,
        strategy: Strategy,
        count: int | None,
    ) -> None:
        generate(bundles[GAN], *words.split(), "--out", "sheet.png")
        wanted = opened[GAN].sample(count, strategy=strategy)
        np.testing.assert_array_equal(picture("sheet.png"), wanted.sheet())
        assert left() == ["sheet.png"]

    def test_sixteen_by_default(self, bundles: Bundles, opened: Mapping[Kind, Generator]) -> None:
        generate(bundles[GAN], "--out", "many/")
        wanted = opened[GAN].sample(16).images
        assert sorted(os.listdir("many")) == [f"{index:05d}.png" for index in range(16)]
        for index, image in enumerate(wanted):
            np.testing.assert_array_equal(picture(f"many/{index:05d}.png"), image)

    def test_arrays_and_latents_of_ones_own(self, bundles: Bundles) -> None:
        """What was written is made again from its latents."""
        generate(bundles[GAN], "--count", "11", "--label", "dog", "--seed", str(2**70), "--out", "data.npz")
        with np.load("data.npz") as data:
            first = dict(data)
        assert first["images"].shape == (11, *SIZE, 3) and first["images"].dtype == np.uint8
        assert first["latents"].shape == (11, 5) and first["latents"].dtype == np.float32
        assert first["color"].item() == "rgb"
        assert first["labels"].tolist() == ["dog"] * 11 and int(first["seed"].item()) == 2**70
        np.save("z.npy", first["latents"])
        for latents in ("data.npz", "z.npy"):
            generate(bundles[GAN], "--latents", latents, "--label", "dog", "--out", "again.npz")
            with np.load("again.npz") as again:
                np.testing.assert_array_equal(again["images"], first["images"])
        assert left() == ["again.npz", "data.npz", "z.npy"]

    def test_a_label_for_each_latent(self, bundles: Bundles, opened: Mapping[Kind, Generator]) -> None:
        z = np.linspace(-1, 1, 15).reshape(3, 5)
        np.save("z.npy", z)
        words = [word for label in LABELS for word in ("--label", label)]
        generate(bundles[GAN], "--latents", "z.npy", *words, "--columns", "3", "--out", "s.png")
        wanted = opened[GAN](latent=z.astype(np.float32), label=list(LABELS))
        np.testing.assert_array_equal(picture("s.png"), wanted.sheet(3))


class TestFiles:
    def test_one_image_stands_alone(self, bundles: Bundles, opened: Mapping[Kind, Generator]) -> None:
        generate(bundles[GAN], "--count", "1", "--scale", "3", "--out", "one.png")
        np.testing.assert_array_equal(picture("one.png"), enlarged(opened[GAN].sample(1).image, 3))

    @pytest.mark.parametrize("suffix", ["gif", "mp4", "mov", "mkv"])
    def test_a_walk(self, bundles: Bundles, opened: Mapping[Kind, Generator], suffix: str) -> None:
        name = f"walk.{suffix}"
        words = ["--interpolate", "3", "8", "--label", "3", "--steps", "7", "--scale", "8", "--fps", "10"]
        generate(bundles[GAN], *words, "--out", name)
        wanted = opened[GAN].sample(strategy=Interpolate(3, 8, 7, label="3")).images
        found = film(name)
        assert found.shape == (7, 8 * SIZE[0], 8 * SIZE[1], 3)
        if suffix == "gif":  # 96 pixels have at most 96 colours, and the palette is rounded a little
            assert np.abs(found.astype(int) - enlarged(wanted, 8)).max() <= 2
        else:
            assert np.abs(found.mean(axis=3) - enlarged(wanted, 8).mean(axis=3)).mean() < 8
        with av.open(name) as opened_film:
            assert opened_film.streams.video[0].average_rate == pytest.approx(10)
        assert left() == [name]

    def test_even_sides_say_nothing(self, bundles: Bundles, masks: list[Bytes], capsys: Capture) -> None:
        words = ["--mask", "masks", "--pairs", "--scale", "1", "--limit", "2", "--out"]
        generate(bundles[PAINTER], *words, "pairs.mp4")  # 12 + 2 + 12 wide: even
        assert "even sides" not in capsys.readouterr().err
        assert film("pairs.mp4").shape == (2, 8, 26, 3)

    def test_existing_files_are_replaced(self, bundles: Bundles) -> None:
        Path("a.png").write_bytes(b"old")
        generate(bundles[GAN], "--count", "2", "--out", "a.png")
        assert picture("a.png").shape == (8, 26, 3)

    def test_nothing_is_written_to_null(self, bundles: Bundles, capsys: Capture) -> None:
        generate(bundles[GAN], "--count", "20", "--out", "null:")
        shown = capsys.readouterr().out
        assert "20 images of 8x12 in" in shown
        assert "Written" not in shown
        assert not left()

    def test_figures(self, bundles: Bundles, capsys: Capture) -> None:
        words = ["--label", "cat", "--label", "dog", "--count", "5", "--seed", "3", "--out", "a.gif"]
        generate(bundles[GAN], *words, "--json", "-")
        shown = capsys.readouterr()
        found = json.loads(shown.out)
        assert (found["images"], found["image_size"], found["channels"]) == (5, [8, 12], 3)
        assert found["labels"] == ["cat", "dog", "cat", "dog", "cat"]
        assert (found["seed"], found["outputs"], found["interrupted"]) == (3, ["a.gif"], False)
        assert found["images_per_s"] == pytest.approx(5 / found["seconds"])
        assert list(found["stages"]) == ["prepare", "network", "write", "end to end"]
        assert found["session"]["device"] == "cpu" and found["machine"]["processor"]["cores"] >= 1
        assert "gan on openvino" in shown.err

    def test_for_people(self, bundles: Bundles, masks: list[Bytes], capsys: Capture) -> None:
        words = ["--mask", "masks/0.png", "--out", "a.png", "--json", "a.json"]
        generate(bundles[PAINTER], *words)
        shown = capsys.readouterr()
        assert "1 image of 8x12 in " in shown.out
        for row in ("read", "prepare", "network", "write", "end to end", "a.png", "a.json"):
            assert f"\n  {row}" in shown.out
        assert "0.png: 16x24, 1 frame\n" in shown.err
        assert json.loads(Path("a.json").read_text())["labels"] is None


class TestSources:
    def test_a_mask(self, bundles: Bundles, opened: Mapping[Kind, Generator], masks: list[Bytes]) -> None:
        generate(bundles[PAINTER], "--mask", "masks/2.png", "--seed", "6", "--out", "one/")
        assert os.listdir("one") == ["2.png"]
        np.testing.assert_array_equal(picture("one/2.png"), opened[PAINTER](masks[2], seed=6).image)

    def test_a_mask_in_many_ways(
        self, bundles: Bundles, opened: Mapping[Kind, Generator], masks: list[Bytes]
    ) -> None:
        words = ["--mask", "masks/1.png", "--count", "6", "--no-pairs", "--out", "many.png"]
        generate(bundles[PAINTER], *words)
        wanted = opened[PAINTER].sample(6, mask=masks[1])
        assert len(np.unique(wanted.images, axis=0)) == 6
        np.testing.assert_array_equal(picture("many.png"), wanted.sheet())

    def test_a_folder_of_masks(
        self, bundles: Bundles, opened: Mapping[Kind, Generator], masks: list[Bytes]
    ) -> None:
        generate(bundles[PAINTER], "--mask", "masks", "--limit", "4", "--out", "painted/")
        assert sorted(os.listdir("painted")) == [f"{index}.png" for index in range(4)]
        for index in range(4):
            wanted = opened[PAINTER](masks[index]).image
            np.testing.assert_array_equal(picture(f"painted/{index}.png"), wanted)

    def test_a_sheet_of_pairs(
        self, bundles: Bundles, opened: Mapping[Kind, Generator], masks: list[Bytes]
    ) -> None:
        """Each mask in its classes' colours, a gap, the image; below them the legend."""
        generate(bundles[PAINTER], "--mask", "masks", "--columns", "1", "--out", "pairs.png")
        page = picture("pairs.png")
        assert page.shape[1] == 12 + 2 + 12
        assert page.shape[0] > 5 * 8 + 4 * 8
        for index, mask in enumerate(masks):
            row = page[index * 16 : index * 16 + 8]
            colours = np.array([(9 * one, 0, 0) for one in range(len(CLASSES))], np.uint8)
            np.testing.assert_array_equal(row[:, :12], colours[mask[1::2, 1::2]])
            np.testing.assert_array_equal(row[:, 14:], opened[PAINTER](mask).image)

    def test_images(self, bundles: Bundles, opened: Mapping[Kind, Generator], photos: list[Bytes]) -> None:
        generate(bundles[FILTER], "--image", "photos", "--out", "out/")
        for index, image in enumerate(photos):
            np.testing.assert_array_equal(picture(f"out/{index}.png"), opened[FILTER](image).image)

    def test_a_video_keeps_its_rate(
        self, bundles: Bundles, opened: Mapping[Kind, Generator], photos: list[Bytes]
    ) -> None:
        write_video("in.mp4", photos, 20)
        generate(bundles[FILTER], "--image", "in.mp4", "--pairs", "--out", "out.mp4")
        assert film("out.mp4").shape == (3, 8, 26, 3)
        with av.open("out.mp4") as found:
            assert found.streams.video[0].average_rate == 20

    def test_everything_at_once(
        self,
        bundles: Bundles,
        opened: Mapping[Kind, Generator],
        masks: list[Bytes],
        photos: list[Bytes],
    ) -> None:
        words = ["--mask", "masks", "--image", "photos/1.png", "--label", "dog", "--seed", "2"]
        generate(bundles[ALL], *words, "--truncation", "0.3", "--out", "all.npz")
        with np.load("all.npz") as data:
            images, latents = data["images"], data["latents"]
        assert np.abs(latents).max() <= 0.3 and len(np.unique(latents, axis=0)) == 1
        for mask, image in zip(masks, images, strict=True):
            wanted = opened[ALL](mask, image=photos[1], label="dog", latent=latents[0], seed=2)
            np.testing.assert_array_equal(image, wanted.image)
        one = ["--mask", "masks/0.png", "--image", "photos/1.png", "--labels", "--columns", "2"]
        generate(bundles[ALL], *one, "--no-pairs", "--out", "labels.png")
        wanted = opened[ALL].sample(strategy=Labels(2), mask=masks[0], image=photos[1])
        np.testing.assert_array_equal(picture("labels.png"), wanted.sheet())

    def test_a_source_that_breaks(self, bundles: Bundles, masks: list[Bytes], capsys: Capture) -> None:
        """What came before is whole, the figures are shown, and it is an error."""
        Path("masks/3.png").write_bytes(b"no image")
        code = main(["generate", str(bundles[PAINTER].path), "--mask", "masks", "--out", "out.gif"])
        shown = capsys.readouterr()
        assert code == 1
        assert len(film("out.gif")) == 3
        assert "3 images of 8x12" in shown.out and "then interrupted" in shown.out
        assert "masks/3.png (8 bytes) cannot be decoded" in shown.err
        assert left() == ["masks", "out.gif"]

    def test_a_source_that_breaks_at_once(
        self, bundles: Bundles, masks: list[Bytes], capsys: Capture
    ) -> None:
        cv2.imwrite("masks/0.png", np.full((8, 12), 9, np.uint8))
        for mask in ("masks", "masks/0.png"):
            code = main(["generate", str(bundles[PAINTER].path), "--mask", mask, "--out", "out.gif"])
            shown = capsys.readouterr()
            assert (code, shown.out) == (1, "")
            assert "the mask 0 holds the ids 9, which are no classes here, expected 0 to 2" in shown.err
            assert left() == ["masks"]


ERRORS: list[tuple[Kind, str, str]] = [
    (GAN, "--out a.png --label Cat", "there is no label 'Cat' (did you mean 'cat'?); there are cat, dog, 3"),
    (GAN, "--out a.png --seed -1", "seed is -1, expected a whole number of at least 0"),
    (GAN, "--out a.png --truncation 0", "truncation is 0.0, expected a number above 0"),
    (GAN, "--out a.png --truncation nan", "truncation is nan, expected a number above 0"),
    (GAN, "--out a", "a has no suffix; expected a sheet (.png)"),
    (GAN, "--out a.pgn", "a.pgn ends in .pgn (did you mean '.png'?); expected a sheet"),
    (GAN, "--out web://a", "web://a: unknown scheme web://; expected a sheet"),
    (GAN, "--out nul:", "unknown scheme nul: (did you mean 'null:'?)"),
    (GAN, "--out=", "--out is empty; expected a sheet"),
    (GAN, "--out no/a.png", "no/a.png cannot be written: there is no folder no; make it first"),
    (GAN, "--out no/a.npz", "no/a.npz cannot be written: there is no folder no; make it first"),
    (GAN, "--out no/a.gif", "no/a.gif cannot be written: there is no folder no; make it first"),
    (GAN, "--out no/a/", "no/a/ cannot be made: there is no folder no; make it first"),
    (GAN, "--out two.npy/", "two.npy is a file, expected a folder; choose another name"),
    (GAN, "--out a.png --json no/a", "no/a cannot be written: there is no folder no; make it first"),
    (GAN, "--out a.png --json a.png", "a.png was asked for twice"),
    (GAN, "--out a.mp4 --fps 0", "a.mp4 cannot have 0 frames per second, expected 0.01 to 1000"),
    (GAN, "--out a.gif --fps 60", "a.gif cannot have 60 frames per second, expected 0.01 to 50"),
    (GAN, "--out a.png --fps 9", "--fps is for films, and a.png is none; leave it out"),
    (GAN, "--out a.gif --columns 3", "--columns is for sheets, and a.gif is none; leave it out"),
    (GAN, "--out a.npz --scale 2", "--scale is for pictures, and a.npz holds none; leave it out"),
    (GAN, "--out a.png --pairs", "--pairs is for --mask and --image, and none was given; leave it out"),
    (GAN, "--out a.mp4 --scale 9999", "--scale 9999 makes pictures of 79992x119988"),
    (GAN, "--out a.png --count 10000000", "a.png would have more than 100 million pixels; write a film"),
    (GAN, "--out a.png --limit 3", "--limit is for --mask and --image; --count N makes N images"),
    (GAN, "--out a.png --steps 3", "--steps belongs to --interpolate, which was not given"),
    (GAN, "--out a.png --axes 0 1", "--axes belongs to --grid, which was not given"),
    (GAN, "--out a.png --labels --count 3", "--count does not go with --labels: --columns C makes C for"),
    (GAN, "--out a.png --labels --label cat", "--labels shows all labels, and --label names one"),
    (GAN, "--out a.gif --interpolate 1 2", "with --interpolate add --label L, L one of cat, dog, 3"),
    (GAN, "--out a.gif --interpolate 1 2 --label cat --label dog", "--interpolate has one label for all"),
    (GAN, "--out a.gif --interpolate 1 2 --label cat --seed 1", "whose ends are seeds; leave --seed out"),
    (GAN, "--out a.gif --interpolate 1 2 --label cat --steps 1", "steps is 1, expected a whole number of"),
    (GAN, "--out a.gif --interpolate 1 -2 --label cat", "b is -2, expected a seed"),
    (
        GAN,
        "--out a.png --grid 2x2 --label cat --axes 0 9",
        "axes is (0, 9), the latent has the coordinates 0",
    ),
    (GAN, "--out a.png --grid 2x2 --label cat --axes 1 1", "expected two different positions in the latent"),
    (GAN, "--out a.png --grid 2x2 --label cat --span 0", "span is 0.0, expected a number above 0"),
    (GAN, "--out a.png --latents no.npy --label cat", "no.npy cannot be read (No such file or directory)"),
    (
        GAN,
        "--out a.png --latents no.txt --label cat",
        "no.txt ends in .txt, expected latents as .npy or .npz",
    ),
    (GAN, "--out a.png --latents two.npy --label cat", "latent is float64[2, 4], expected float32[5]"),
    (GAN, "--out a.png --latents nan.npy --label cat", "latent holds numbers that are not finite"),
    (GAN, "--out a.png --latents other.npz --label cat", "other.npz holds x, expected an array `latents`"),
    (GAN, "--out a.png --latents five.npy --label cat --label dog --label 3", "3 labels came for 5 latents"),
    (
        GAN,
        "--out a.png --mask m.png",
        "--mask is for generators that take a mask, and gan takes latent, label",
    ),
    (PAINTER, "--out a.png", "painter works on a mask, and none was given; add --mask SOURCE"),
    (PAINTER, "--out a.png --mask no.png", "no.png does not exist"),
    (PAINTER, "--out a.png --mask m --label cat", "--label is for generators that take a label, and painter"),
    (PAINTER, "--out a.png --mask m --image m", "--image is for generators that take an image, and painter"),
    (PAINTER, "--out a.png --mask m --truncation 1", "--truncation is for generators that take a latent"),
    (PAINTER, "--out a.png --mask colour.png", "expected labels of one byte a pixel"),
    (PAINTER, "--out a.png --mask a.mp4", "pixelrt run BUNDLE drive.mp4 --out masks/"),
    (PAINTER, "--out a.png --mask 0", "0 has no ground truth, so it has no masks"),
    (PAINTER, "--out a.gif --mask test://drive?frames=3&size=96x144", "painter paints road, car, tree: give"),
    (PAINTER, "--out a.png --mask two/ --count 3", "--count is for one mask or image, and two has more"),
    (PAINTER, "--out two/ --mask two/", "two/ is where two is read from; write somewhere else"),
    (FILTER, "--out a.png --image colour.png --count 3", "filter takes image alone: all would be the same"),
    (FILTER, "--out a.png --image colour.png --seed 3", "--seed is for what is random, and filter takes"),
    (ALL, "--out a.gif --mask two --image colour.png", "one label for all, and none was given; give one"),
    (ALL, "--out a.gif --mask two --image two --label cat", "one image for all, and two has more; give"),
]

MISSPELT = ("--out a.pgn", "--out web://a", "--out nul:", "--out=")


@pytest.mark.parametrize(("kind", "words", "message"), ERRORS, ids=[words for _, words, _ in ERRORS])
def test_errors_are_one_message(
    bundles: Bundles, capsys: Capture, kind: Kind, words: str, message: str
) -> None:
    """And nothing is loaded or written before they are found out."""
    np.save("two.npy", np.zeros((2, 4)))
    np.save("five.npy", np.zeros((5, 5)))
    np.save("nan.npy", np.array([[0.0] * 5, [np.nan] * 5]))
    np.savez("other.npz", x=np.zeros(3))
    cv2.imwrite("colour.png", np.zeros((8, 12, 3), np.uint8))
    Path("a.mp4").write_bytes(b"")
    Path("two").mkdir()
    for name in ("1", "2"):
        cv2.imwrite(f"two/{name}.png", np.zeros((8, 12), np.uint8))
    before = left()
    code = 2 if words in MISSPELT else 1
    assert main(["generate", str(bundles[kind].path), *words.split()]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert shown.out == ""
    assert left() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--count 0", "error: --count: '0' is no whole number of at least 1"),
        ("--grid 3", "error: --grid: '3' is no grid; give rows x columns, such as 6x8"),
        ("--grid 0x3", "error: --grid: '0x3' is no grid"),
        ("--labels --grid 2x2", "error: --grid: not allowed with argument --labels"),
        ("--mode slurp", "error: --mode cannot be 'slurp' (did you mean 'slerp'?)"),
        ("--backend openvin", "error: --backend cannot be 'openvin' (did you mean 'openvino'?)"),
        ("--colums 3", "error: unknown option --colums (did you mean '--columns'?)"),
    ],
)
def test_wrong_arguments(bundles: Bundles, capsys: Capture, words: str, message: str) -> None:
    assert main(["generate", str(bundles[GAN].path), "--out", "a.png", *words.split()]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(message)
    assert shown.endswith("try: pixelrt generate --help\n")


def test_bundles_of_the_other_task(bundles: Bundles, make_bundle: Any, capsys: Capture) -> None:
    assert main(["generate", str(make_bundle().path), "--out", "a.png"]) == 1
    assert "is a bundle for segmentation, expected generation; for frames" in capsys.readouterr().err
    assert main(["run", str(bundles[GAN].path), "test://drive?frames=2", "--out", "a.mp4"]) == 1
    assert "generators are for pixelrt.load(...).sample and pixelrt generate" in capsys.readouterr().err
    assert not left()


@pytest.mark.parametrize(
    "out", ["--out {}/", "--out {}/x.png", "--out {}/x/y.gif", "--out null: --json {}/x"]
)
def test_nothing_is_written_into_the_bundle(bundles: Bundles, capsys: Capture, out: str) -> None:
    bundle = bundles[GAN]
    before = {file: file.read_bytes() for file in bundle.path.iterdir()}
    words = [*out.format(bundle.path).split(), "--count", "1"]
    assert main(["generate", str(bundle.path), *words]) == 1
    assert f"is in the bundle {bundle.path}; write somewhere else" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in bundle.path.iterdir()}


@pytest.mark.parametrize("out", ["a.png", "a.gif", "a.mp4", "a.npz", "a/", "there/"])
def test_a_folder_that_is_read_only(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, out: str
) -> None:
    """Asked of the system, because nothing is read only to root; found out before anything is loaded."""
    Path("there").mkdir()
    asked: list[Path] = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(Path(path).absolute()))
    assert main(["generate", str(bundles[GAN].path), "--out", out]) == 1
    place = tmp_path / "there" if out == "there/" else tmp_path
    assert capsys.readouterr().err == (
        f"error: {Path(out)} cannot be written: this user may not write to {place}; choose another place\n"
    )
    assert asked == [place]


@pytest.mark.parametrize("out", ["a.png", "a.gif", "a.mp4", "a.npz", "a/"])
def test_a_full_disk_leaves_nothing(bundles: Bundles, capsys: Capture, out: str) -> None:
    words = ["--count", "300", "--out", out, *(["--scale", "9"] if out[-4:] in (".mp4", "a/") else [])]
    with full_disk():
        code = main(["generate", str(bundles[GAN].path), *words])
    assert code == 1
    assert "cannot be written (File too large)" in capsys.readouterr().err
    assert not left()


class TestInterruption:
    @pytest.mark.parametrize(
        ("out", "number", "code"),
        [("a.mp4", signal.SIGINT, 130), ("a/", signal.SIGTERM, 143), ("a.npz", signal.SIGINT, 130)],
    )
    def test_what_there_is_is_whole(
        self, bundles: Bundles, tmp_path: Path, out: str, number: signal.Signals, code: int
    ) -> None:
        """A billion images: they are made as they are written, and a signal ends that."""
        words = ["generate", str(bundles[GAN].path), "--count", "1000000000", "--out", out]
        command = [sys.executable, "-m", "pixelrt", *words, "--json", "-"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert "gan on" in process.stderr.readline()
        time.sleep(0.4)
        process.send_signal(number)
        output, problems = process.communicate(timeout=60)
        assert process.returncode == code, problems
        assert "Traceback" not in problems
        found = json.loads(output)
        assert found["interrupted"] and found["images"] > 0
        assert left() == [out.removesuffix("/")]
        if out == "a.mp4":
            assert len(film(out)) == found["images"]
        elif out == "a/":
            assert len(os.listdir("a")) == found["images"]
        else:
            with np.load(out) as data:
                assert len(data["images"]) == len(data["labels"]) == found["images"]

    @pytest.mark.parametrize("after_s", [0.3, 0.6])
    def test_while_it_starts(self, bundles: Bundles, after_s: float) -> None:
        words = ["generate", str(bundles[GAN].path), "--count", "1000000000", "--out", "a.mp4"]
        process = subprocess.Popen(
            [sys.executable, "-m", "pixelrt", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, problems = process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGINT), problems
        assert left() in ([], ["a.mp4"])
