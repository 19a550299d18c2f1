"""A generator on functions: what it takes and refuses, and what its result can do."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from generators import GAN, make_generator_bundle
from numpy.typing import NDArray

import pixelrt
from pixelrt import Conditional, Generated, Generator, Grid, Interpolate, Labels, Latency, Latents, Random
from pixelrt.bundle import Bundle
from pixelrt.errors import DeviceError, InputError, SinkError
from pixelrt.frames import nearest
from pixelrt.generation import Drawn
from pixelrt.generation.values import check_mask
from pixelrt.manifest import GenerationManifest
from pixelrt.pipeline.options import GpuOptions
from pixelrt.testing import FakeCuda, fake_generator, fake_segmenter

SIZE = (6, 8, 3)
CLASSES = ("road", "car")
MASK = (np.arange(48).reshape(6, 8) % 2).astype(np.uint8)
LATENCY = Latency(prepare_ms=0.0, network_ms=1.0, total_ms=1.0)


def of_latent(given: dict[str, Any]) -> NDArray[np.uint8]:
    shade = 128 + 40 * given["latent"][:3] + 30 * given.get("label", 0)
    return np.broadcast_to(shade.clip(0, 255).astype(np.uint8), SIZE).copy()


def of_mask(given: dict[str, Any]) -> NDArray[np.uint8]:
    return np.eye(256, 3, dtype=np.uint8)[given["mask"]] * np.uint8(200)


def negative(given: dict[str, Any]) -> NDArray[np.uint8]:
    return 255 - given["image"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def gan() -> Generator:
    return fake_generator(of_latent, SIZE, latent=5, labels=("cat", "dog", "3"))


@pytest.fixture(scope="module")
def painter() -> Generator:
    return fake_generator(of_mask, SIZE, classes=CLASSES)


@pytest.fixture(scope="module")
def editor() -> Generator:
    return fake_generator(negative, SIZE, image=SIZE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_generator_bundle(tmp_path_factory.mktemp("load"), GAN)


class TestInputs:
    def test_labels_in_every_form(self, gan: Generator) -> None:
        wanted = gan(label="dog").images
        for label in (1, np.int64(1), np.array(1), ["dog"], (1,), np.array([1])):
            assert (gan(label=label).images == wanted).all()
        assert gan(label="3").labels == ("3",)
        assert gan(label=["cat", 2, "dog"]).labels == ("cat", "3", "dog")

    def test_latents_in_every_form(self, gan: Generator) -> None:
        z = [0.5, -0.5, 1.0, 0.0, 0.0]
        wanted = gan(np.array(z, np.float32), label=0).images
        for latent in (z, [z], np.array([z]), np.array(z, np.float16)):
            assert (gan(latent=latent, label=0).images == wanted).all()
        assert (gan(z, label=[0, 1, 2]).images[0] == wanted).all()
        assert len(gan([z] * 20, label=0)) == 20

    def test_the_main_input(self, gan: Generator, painter: Generator, editor: Generator) -> None:
        assert [each.main for each in (gan, painter, editor)] == ["latent", "mask", "image"]
        both = fake_generator(of_mask, SIZE, classes=CLASSES, latent=2)
        assert (both.main, both.takes) == ("mask", ("latent", "mask"))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "takes a label, none came; give it label='cat'"),
            ({"labl": 1}, r"takes no 'labl' \(did you mean 'label'\?\); it takes latent, label"),
            ({"mask": MASK}, "takes no 'mask'; it takes latent, label"),
            ({"label": []}, "no labels came"),
            ({"label": 1.0}, r"label is 1.0, expected a name \(cat, .*\) or an id: 1, not 1.0$"),
            ({"label": np.float32([2])}, "or an id: 2, not 2.0$"),
            ({"label": 1.5}, r"label is 1.5, expected a name \(cat, .*\) or an id$"),
            ({"label": "Dog"}, r"there is no label 'Dog' \(did you mean 'dog'\?\)"),
            (
                {"label": 0, "latent": np.zeros(4)},
                r"latent is float64\[4\], expected float32\[5\], or several",
            ),
            ({"label": 0, "latent": "z"}, "latent is <U1"),
            ({"label": 0, "latent": [[0], [0, 1]]}, "latent is no array"),
            ({"label": 0, "latent": [np.inf] * 5}, "not finite"),
            ({"label": 0, "latent": [1e300] * 5}, "not finite, or too large for float32"),
            ({"label": [0, 1], "latent": np.zeros((3, 5))}, r"\(label: 2, latent: 3\)"),
            ({"label": 0, "seed": -1}, "seed is -1"),
        ],
    )
    def test_refused(self, gan: Generator, given: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            gan(**given)

    def test_given_twice(self, gan: Generator) -> None:
        with pytest.raises(InputError, match="latent came twice"):
            gan(np.zeros(5), latent=np.zeros(5), label=0)

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (None, "takes a mask, none came"),
            (MASK.tolist(), "the mask is a list"),
            (MASK[..., None].repeat(3, axis=2), "coloured picture of a mask must be turned into ids"),
            (MASK[..., None], r"the mask is uint8\[6, 8, 1\], .* take the last axis away: mask\[..., 0\]"),
            (MASK.astype(bool), r"the mask is bool\[6, 8\], .* mask.astype\(np.uint8\)"),
            (MASK / 2, r"the mask is float64\[6, 8\], expected uint8"),
            (
                np.zeros((0, 8), np.uint8),
                r"uint8\[0, 8\], expected .* ids, at least one pixel",
            ),
            (np.full((6, 8), 255, np.uint8), r"holds no ids but 0 and 255, .*; \(mask > 127\)"),
            (MASK * 255, r"if 255 is unlabelled here, use the id 2 for it$"),
            (
                MASK + 2,
                r"the ids 3, .* expected 0 to 1 for road, car, and 2 or 255 for unlabelled pixels; give",
            ),
            (np.where(np.arange(48).reshape(6, 8) == 5, np.uint8(200), MASK), "the mask holds the ids 200, "),
            ([], "nothing came"),
        ],
    )
    def test_masks_refused(self, painter: Generator, mask: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            painter(mask)

    def test_unlabelled_pixels(self, painter: Generator) -> None:
        """Ids of a network that takes one-hot; one that takes ids alone would look them up."""
        mask = MASK.copy()
        mask[0, :3] = 2, 255, 1
        assert (painter(mask).image[..., 0] == of_mask({"mask": mask})[..., 0]).all()
        info = painter.bundle.generation.mask
        assert info is not None
        of_ids = dataclasses.replace(info, form="index")
        check_mask(MASK, of_ids)
        with pytest.raises(
            InputError, match=r"the mask a.png has unlabelled pixels \(255\), .* class ids alone"
        ):
            check_mask(mask, of_ids, "a.png")
        with pytest.raises(
            InputError, match=r"the mask holds the ids 3, .* expected 0 to 1 for road, car; give"
        ):
            check_mask(MASK + 2, of_ids)
        with pytest.raises(InputError, match=r"makes ids 0 and 1$"):
            check_mask(MASK * 255, of_ids)

    def test_images_refused(self, editor: Generator) -> None:
        with pytest.raises(InputError, match="this generator takes an image, none came; give it image=array"):
            editor()
        with pytest.raises(InputError, match=r"the frame is uint8\[6, 8\], expected uint8\[H, W, 3\]"):
            editor(np.zeros((6, 8), np.uint8))
        grey = fake_generator(negative, (6, 8, 1), image=(6, 8, 1))
        with pytest.raises(InputError, match=r"with an axis for its channel it is frame\[..., None\]"):
            grey(np.zeros((6, 8), np.uint8))
        with pytest.raises(InputError, match="a frame in colour must be made grey first"):
            grey(np.zeros(SIZE, np.uint8))

    def test_the_mask_of_a_segmentation(self, painter: Generator) -> None:
        for names, message in (
            (("road", "car"), ""),
            (("car", "road"), r"in another order; give it ids in its own: np.array\(\[1, 0\]"),
            (("road", "van"), "it does not know 'van'"),
            (("road",), r"the mask lacks \['car'\]"),
        ):
            with fake_segmenter(lambda _: np.zeros((6, 8), np.uint8), names, (6, 8)) as segmenter:
                seen = segmenter(np.zeros(SIZE, np.uint8))
            if not message:
                assert (painter(seen).images == painter(seen.mask).images).all()
                assert len(painter([seen, seen])) == 2
                continue
            with pytest.raises(InputError, match=message):
                painter(seen)

    def test_on_the_gpu_for_the_cpu(self, painter: Generator) -> None:
        with fake_generator(of_mask, SIZE, classes=CLASSES, cuda=FakeCuda()) as there:
            kept = there.submit(MASK, on_device=True).result().device_images
            with pytest.raises(InputError, match="on a GPU, this generator runs on the CPU"):
                painter(kept)
            with pytest.raises(InputError, match="stay on the GPU, this session runs on cpu"):
                painter.submit(MASK, on_device=True)


def test_cloned_while_in_use() -> None:
    def compute(given: dict[str, Any]) -> NDArray[np.uint8]:
        with pytest.raises(DeviceError, match="in use by another thread; clone it before the threads start"):
            busy.clone()
        return of_latent(given)

    busy = fake_generator(compute, SIZE, latent=5)
    assert len(busy.sample(2)) == 2
    with busy.clone() as other:
        assert other is not busy


class TestSample:
    def test_numbers(self, gan: Generator, painter: Generator) -> None:
        assert len(gan.sample()) == 1
        assert len(gan.sample(20)) == 20
        assert len(gan.sample(strategy=Interpolate(1, 2, steps=7), label="cat")) == 7
        assert len(gan.sample(strategy=Labels(4))) == 12
        assert len(gan.sample(strategy=Latents(np.zeros((3, 5))), label=[0, 1, 2])) == 3
        assert len(painter.sample(mask=[MASK] * 3)) == 3

    def test_what_is_given_is_kept(self, gan: Generator) -> None:
        drawn, labelled = gan.sample(5, strategy=Random(3)), gan.sample(5, strategy=Random(3), label="dog")
        assert drawn.latents is not None and labelled.latents is not None
        np.testing.assert_array_equal(drawn.latents, labelled.latents)
        assert labelled.labels == ("dog",) * 5 and set(drawn.labels or ()) != {"dog"}
        assert (drawn.seed, gan(np.zeros(5), label=0).seed) == (3, None)

    @pytest.mark.parametrize(
        ("strategy", "seed"),
        [
            (Random(3), 3),
            (Conditional("cat", 3), 3),
            (Labels(2, 3), 3),
            (Interpolate(4, 5, 2, label="cat"), 4),
            (Interpolate(np.ones(5), 5, 2, label="cat"), 5),
            (Interpolate(np.ones(5), -np.ones(5), 2, label="cat"), None),
            (Grid(2, 2, seed=0, label="cat"), 0),
            (Grid(2, 2, label="cat"), None),
            (Latents(np.zeros((3, 5)), "cat", seed=6), None),
        ],
    )
    def test_no_seed_where_nothing_is_drawn(self, gan: Generator, strategy: Any, seed: int | None) -> None:
        assert gan.sample(strategy=strategy).seed == seed

    def test_a_seed_of_what_was_given_too(self, gan: Generator) -> None:
        assert gan.sample(strategy=Conditional("cat", 3), latent=np.zeros(5)).seed is None
        assert gan.sample(strategy=Random(3), latent=np.zeros(5)).seed == 3  # a label was drawn

    def test_a_call_draws_what_sample_draws(self, gan: Generator) -> None:
        sampled = gan.sample(3, strategy=Conditional("cat", seed=8))
        np.testing.assert_array_equal(gan(label=["cat"] * 3, seed=8).images, sampled.images)

    @pytest.mark.parametrize(
        ("count", "options", "message"),
        [
            (0, {}, "count is 0, expected a whole number of at least 1"),
            (2.0, {}, "count is 2.0"),
            (True, {}, "count is True"),
            (4, {"seed": 3}, r"stands in its strategy, as in strategy=pixelrt.Random\(seed=7\)"),
            (
                None,
                {"strategy": Random(truncation=0.5), "latent": [0] * 5},
                "truncation is for latents that are drawn, and latent=",
            ),
            (3, {"strategy": Grid(2, 2), "label": 0}, "count is 3, Grid makes 4 images here"),
            (5, {"strategy": Labels(2)}, "count is 5, Labels makes 6"),
            (None, {"strategy": Grid(2, 2)}, "takes a label, none came"),
            (None, {"strategy": Conditional("cat"), "label": 1}, "Conditional decides about the label"),
            (None, {"strategy": Random}, "expected one such as pixelrt.Random"),
            (None, {"strategy": "random"}, "strategy is 'random', expected one such as"),
            (3, {"label": [0, 1]}, r"\(count: 3, label: 2\)"),
        ],
    )
    def test_refused(self, gan: Generator, count: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            gan.sample(count, **options)

    @pytest.mark.parametrize(
        ("strategy", "what"),
        [
            (Conditional("cat"), "label"),
            (Labels(2), "label"),
            (Interpolate(1, 2), "latent"),
            (Grid(2, 2), "latent"),
            (Latents(np.zeros(5)), "latent"),
        ],
    )
    def test_strategies_for_others(self, painter: Generator, strategy: Any, what: str) -> None:
        kind = type(strategy).__name__
        with pytest.raises(InputError, match=f"{kind} is for generators that take a {what}, this one takes"):
            painter.sample(strategy=strategy, mask=MASK)

    def test_nothing_to_vary(self, painter: Generator) -> None:
        with pytest.raises(InputError, match="nothing in this generator is random: all would be the same"):
            painter.sample(3, mask=MASK)
        with pytest.raises(InputError, match="truncation is for latents"):
            painter.sample(1, strategy=Random(truncation=1.0), mask=MASK)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A strategy of a user's own, which draws what it was told to."""

    drawn: Any
    columns: int | None = None
    decides: frozenset[str] = frozenset()

    def count(self, manifest: GenerationManifest) -> int | None:
        return None

    def draw(self, manifest: GenerationManifest, indices: range) -> Any:
        return self.drawn


def two(**others: Any) -> Fixed:
    sound = {"noise_indices": [0, 1], "latents": np.zeros((2, 5), np.float32), "labels": np.int32([1, 2])}
    return Fixed(Drawn(seed=3, **{**sound, **others}))


class TestOwnStrategies:
    def test_sound(self, gan: Generator) -> None:
        found = gan.sample(2, strategy=two())
        np.testing.assert_array_equal(found.images, gan(np.zeros((2, 5)), label=[1, 2]).images)
        assert (found.labels, found.seed) == (("dog", "3"), 3)

    @pytest.mark.parametrize(
        ("strategy", "message"),
        [
            (Fixed(3), "Fixed.draw gave an int, expected a pixelrt.generation.Drawn"),
            (two(noise_indices=[0]), "gave 1 noise_indices for 2 samples"),
            (two(latents=[[0] * 5] * 2), r"gave latents as a list, expected an array float32\[2, 5\]"),
            (
                two(latents=np.zeros((3, 5), np.float32)),
                r"gave latents float32\[3, 5\], expected float32\[2, 5",
            ),
            (two(latents=np.zeros((2, 5))), r"gave latents float64\[2, 5\], expected float32\[2, 5"),
            (two(latents=np.full((2, 5), np.nan, np.float32)), "gave latents that are not finite"),
            (two(labels=np.int32([0, 3])), "gave labels from 0 to 3, expected ids from 0 to 2: cat, dog, 3"),
            (two(labels=np.int32([-1, 0])), "gave labels from -1 to 0"),
            (two(labels=np.array([0, 1, 2], np.int32)), r"gave labels int32\[3\], expected int32\[2\]"),
        ],
    )
    def test_that_draw_what_cannot_be(self, gan: Generator, strategy: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            gan.sample(2, strategy=strategy)

    def test_that_lack_something(self, gan: Generator) -> None:
        class Half:
            columns = None

            def draw(self, manifest: GenerationManifest, indices: range) -> None: ...

        with pytest.raises(InputError, match="strategy is a Half without count, decides; pixelrt"):
            gan.sample(2, strategy=Half())  # type: ignore[arg-type]


class TestStream:
    def test_keeps_the_gpu_busy(self) -> None:
        """The next mask is copied up while this one is painted, and nothing is taken too early."""
        cuda = FakeCuda(copy_gb_per_s=1e-4)
        taken: list[int] = []

        def source() -> Any:
            for index in range(6):
                taken.append(index)
                yield MASK

        options = GpuOptions(slots=3)
        with fake_generator(of_mask, SIZE, classes=CLASSES, cuda=cuda, gpu=options) as generator:
            seen = generator.stream(source())
            assert taken == []
            next(seen)
            assert taken == [0, 1, 2]
            assert len(list(seen)) == 5
            up = [span for span in cuda.timeline if span.engine == "up"]
            runs = [span for span in cuda.timeline if span.label == "run"]
            assert any(copy.overlap_ms(run) > 0 for copy in up for run in runs)
            driver = cuda
        gc.collect()
        assert not any(driver.live.values())

    def test_times_of_all_parts(self) -> None:
        """Forty masks go through in three runs of a millisecond each."""
        with fake_generator(of_mask, SIZE, classes=CLASSES, cuda=FakeCuda()) as generator:
            gpu = generator([MASK] * 40).latency.gpu
        assert gpu is not None and gpu.compute_ms == pytest.approx(3.0)

    def test_a_bad_mask_ends_it(self, painter: Generator) -> None:
        seen = painter.stream([MASK, MASK.astype(float), MASK])
        next(seen)
        with pytest.raises(InputError, match="the mask is float64"):
            next(seen)

    def test_latents_stay_the_same(self) -> None:
        both = fake_generator(
            lambda given: of_latent(given) + of_mask(given) // 4, SIZE, classes=CLASSES, latent=5
        )
        first, second = both.stream([MASK, MASK], seed=5)
        assert (first.images == second.images).all()
        assert (both.sample(2, strategy=Random(5), mask=MASK).images[0] == first.image).all()


class TestLoad:
    def test_by_the_manifest(self, bundle: Bundle) -> None:
        with pixelrt.load(bundle.path, device="cpu") as generator:
            assert isinstance(generator, Generator)
            assert generator.labels == ("cat", "dog", "3") and generator.classes == ()
            assert repr(generator).startswith("Generator('gan', Session(")

    def test_another_task(self, bundle: Bundle) -> None:
        message = "is a bundle for generation, task='segmentation' was asked for"
        with pytest.raises(InputError, match=message):
            pixelrt.load(bundle, task="segmentation")
        with pytest.raises(InputError, match="task is 'generate', expected one of segmentation, generation"):
            pixelrt.load(bundle, task="generate")  # type: ignore[call-overload]

    def test_colour_order(self, bundle: Bundle) -> None:
        with pytest.raises(InputError, match="color is 'gbr'"):
            pixelrt.load(bundle, color="gbr")  # type: ignore[call-overload]
        with pixelrt.load(bundle, task="generation") as rgb, pixelrt.load(bundle, color="bgr") as bgr:
            assert (rgb.sample(2).images == bgr.sample(2).images[..., ::-1]).all()

    def test_isolation_refuses_generators(self, bundle: Bundle) -> None:
        with pytest.raises(InputError, match=r"isolate runs bundles for segmentation; .* pixelrt.load"):
            pixelrt.isolate(bundle)


def made(count: int, channels: int = 3, **options: Any) -> Generated:
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 20, channels)).astype(np.uint8)
    return Generated(images=images, latency=LATENCY, **options)


class TestResult:
    def test_one_image(self) -> None:
        result = made(1)
        assert result.image.shape == (16, 20, 3) and len(result) == 1
        with pytest.raises(InputError, match=r"there are 2 images; take one: images\[0\]"):
            _ = made(2).image

    def test_repr_has_no_pixels(self) -> None:
        assert repr(made(3, seed=7)) == "Generated(3 x 16x20x3, seed=7, total_ms=1.0)"

    @pytest.mark.parametrize("channels", [1, 3])
    def test_sheet(self, channels: int) -> None:
        result = made(5, channels)
        sheet = result.sheet(columns=3, gap=2)
        assert (sheet.dtype, sheet.shape) == (np.uint8, (16 * 2 + 2, 20 * 3 + 4, 3))
        for index in range(5):
            row, column = divmod(index, 3)
            cell = sheet[row * 18 : row * 18 + 16, column * 22 : column * 22 + 20]
            assert (cell == result.images[index]).all()
        assert not sheet[18:, 44:].any() and not sheet[16:18].any() and not sheet[:, 20:22].any()
        assert result.sheet(gap=0).shape == (32, 60, 3)
        assert made(6, columns=2).sheet(gap=0).shape == (48, 40, 3)
        assert made(2).sheet(columns=9, gap=0).shape == (16, 40, 3)
        for options in ({"columns": 0}, {"gap": -1}, {"columns": 1.5}):
            with pytest.raises(InputError, match="expected a whole number of at least"):
                result.sheet(**options)  # type: ignore[arg-type]

    def test_strategies_say_how_wide_a_sheet_is(self, gan: Generator) -> None:
        assert gan.sample(strategy=Labels(5)).columns == 5
        assert gan.sample(strategy=Grid(2, 4), label=0).sheet(gap=0).shape == (12, 32, 3)

    def test_not_images(self) -> None:
        with pytest.raises(InputError, match=r"images is float64\[1, 2, 2, 3\], expected uint8"):
            Generated(images=np.zeros((1, 2, 2, 3)), latency=LATENCY)  # type: ignore[arg-type]

    @pytest.mark.parametrize("color", ["rgb", "bgr"])
    def test_png(self, tmp_path: Path, color: Any) -> None:
        result = made(1, color=color)
        result.save(tmp_path / "one.png")
        found = cv2.imread(str(tmp_path / "one.png"), cv2.IMREAD_COLOR)
        assert found is not None
        assert (found == (result.image if color == "bgr" else result.image[..., ::-1])).all()
        made(4).save(tmp_path / "sheet.PNG")
        sheet = cv2.imread(str(tmp_path / "sheet.PNG"))
        assert sheet is not None and sheet.shape == (34, 42, 3)

    def test_folder(self, tmp_path: Path) -> None:
        made(3, channels=1).save(tmp_path / "images")
        names = sorted(path.name for path in (tmp_path / "images").iterdir())
        assert names == ["00000.png", "00001.png", "00002.png"]

    def test_npz(self, tmp_path: Path) -> None:
        result = made(2, latents=np.ones((2, 5), np.float32), labels=("a", "b"), seed=4)
        result.save(tmp_path / "all.npz")
        with np.load(tmp_path / "all.npz") as found:
            assert sorted(found) == ["color", "images", "labels", "latents", "seed"]
            assert (found["images"] == result.images).all() and found["labels"].tolist() == ["a", "b"]

    def test_npz_names_the_colour_order(self, tmp_path: Path) -> None:
        dataclasses.replace(made(2), color="bgr").save(tmp_path / "bgr.npz")
        with np.load(tmp_path / "bgr.npz", allow_pickle=False) as found:
            assert found["color"].item() == "bgr"
        grey = made(2)
        dataclasses.replace(grey, images=grey.images[..., :1]).save(tmp_path / "grey.npz")
        with np.load(tmp_path / "grey.npz") as found:
            assert sorted(found) == ["images"]

    @pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1, 2**64, 2**70])
    def test_npz_of_any_seed(self, tmp_path: Path, seed: int) -> None:
        made(1, seed=seed).save(tmp_path / "one.npz")
        with np.load(tmp_path / "one.npz", allow_pickle=False) as found:
            assert int(found["seed"].item()) == seed

    @pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
    def test_films(self, tmp_path: Path, name: str) -> None:
        made(4).save(tmp_path / name, fps=np.float32(10))
        capture = cv2.VideoCapture(str(tmp_path / name))
        frames = 0
        while capture.read()[0]:
            frames += 1
        capture.release()
        assert frames == 4

    def test_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"ends in '\.jpg', expected \.png, \.gif, \.mp4 or \.npz"):
            made(1).save(tmp_path / "one.jpg")
        for fps, message in (
            ("a", "cannot have 'a' frames per second, expected a number"),
            (0, "have 0 fra"),
        ):
            with pytest.raises(SinkError, match=message):
                made(1).save(tmp_path / "film.gif", fps=fps)  # type: ignore[arg-type]
        with pytest.raises(SinkError, match="cannot be written"):
            made(1).save(tmp_path / "nowhere" / "one.png")
        with pytest.raises(SinkError, match=r"no folder .*nowhere; make it first"):
            made(1).save(tmp_path / "nowhere" / "images")
        assert list(tmp_path.iterdir()) == []


class TestFakeGenerator:
    def test_says_what_it_cannot_be(self) -> None:
        for options, message in (
            ({"compute": 3}, "compute is an int"),
            ({"size": (8, 8)}, "height, width, and 1 or 3 channels"),
            ({"latent": 0}, "latent is 0"),
            ({"labels": "cat"}, r"expected a list of names: \['cat'\]"),
            ({"labels": ("a", "a")}, "labels: "),
            ({"latent": None}, "nothing goes into this generator"),
        ):
            with pytest.raises(InputError, match=message):
                fake_generator(**{"compute": of_latent, "latent": 3, **options})  # type: ignore[arg-type]

    def test_compute_must_paint(self) -> None:
        with pytest.raises(InputError, match=r"compute gave float64\[2\], expected uint8\[6, 8, 3\]"):
            fake_generator(lambda _: np.zeros(2), SIZE, latent=3).sample()  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("found", [1, 2, 3, 5, 7, 48, 101, 1079])
@pytest.mark.parametrize("wanted", [1, 2, 3, 6, 8, 32, 47, 100])
def test_nearest_is_exact(found: int, wanted: int) -> None:
    """As deployed graphs count it, in whole numbers."""
    plane = (np.arange(found) % 251).astype(np.uint8)[:, np.newaxis]
    rows = [((2 * row + 1) * found) // (2 * wanted) for row in range(wanted)]
    assert nearest(plane, wanted, 1)[:, 0].tolist() == plane[rows, 0].tolist()
