"""The gate of generators: what it measures, what it refuses, and where it says that the difference begins."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch import nn

from pixelrt.backends import BACKENDS
from pixelrt.errors import ExportError, GateFailed
from pixelrt.manifest import ClassInfo, GenerationGate, LabelInfo, MaskInfo, Preprocess
from pixelrt_export.convert.generation import convert
from pixelrt_export.gate.contenders import Contender
from pixelrt_export.gate.generation import (
    GeneratorConversion,
    GeneratorFigures,
    GeneratorSample,
    mean_square,
    network_feeds,
    psnr,
    ssim,
    verify_generator,
)
from pixelrt_export.gate.generation_original import GeneratorReference, image_bytes, original
from pixelrt_export.generator_spec import GeneratorSpec, generator_axes
from pixelrt_export.graph import copy_of
from pixelrt_export.network import NetworkSpec, from_module
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import (
    GenerationRecipe,
    LabelSection,
    LatentSection,
    ModelSection,
    OutputSection,
    PrecisionSection,
)
from pixelrt_export.samples.generation import Material

SIZE = (16, 24)
T = TypeVar("T")


def untracked(items: Sequence[T], description: str) -> Iterator[T]:
    return iter(items)


class Painter(nn.Module):
    """Images from a latent; `offset` is added to its features and taken away from them again."""

    def __init__(self, channels: int = 3, offset: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.features = nn.Linear(8, 8 * 4 * 6)
        self.lift = nn.Conv2d(8, 8, 3, padding=1)
        self.lower = nn.Conv2d(8, 8, 1)
        self.enlarge = nn.ConvTranspose2d(8, channels, 4, stride=4)
        with torch.no_grad():
            self.lift.bias.fill_(offset)
            self.lower.weight.copy_(torch.eye(8).view(8, 8, 1, 1))
            self.lower.bias.fill_(-offset)
            self.enlarge.weight *= 8

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.features(latent)).view(-1, 8, 4, 6)
        enlarged: torch.Tensor = self.enlarge(self.lower(self.lift(features)))
        return enlarged


class Cards(nn.Module):
    """One picture per label, of whole bytes: exact in every precision."""

    def __init__(self) -> None:
        super().__init__()
        self.cards = nn.Embedding(3, 3 * SIZE[0] * SIZE[1])
        pictures = np.random.default_rng(3).integers(0, 256, (3, 3 * SIZE[0] * SIZE[1]))
        with torch.no_grad():
            self.cards.weight.copy_(torch.from_numpy(pictures))

    def forward(self, label: torch.Tensor) -> torch.Tensor:
        picture: torch.Tensor = self.cards(label)
        return picture.view(-1, 3, *SIZE)


Made = tuple[GeneratorConversion, list[GeneratorSample]]


def made(net: nn.Module, *, precision: str = "fp16", count: int = 4, **changes: Any) -> Made:
    sections: dict[str, Any] = {
        "latent": LatentSection(size=(8,)),
        "output": OutputSection(range="tanh", activation="tanh"),
    }
    recipe = GenerationRecipe(
        model=ModelSection(entry="tests:Painter"),
        precision=PrecisionSection(type=precision),  # type: ignore[arg-type]
        name="painter",
        text="",
        **{**sections, **changes},
    )
    material = Material(tuple(f"sample {index}" for index in range(count)))
    conversion, _, samples = convert(recipe, from_module(net), material, Steps(quiet=True))
    return conversion, samples


def gate(psnr: float = 40.0, ssim: float = 0.99, max_difference: int = 32) -> GenerationGate:
    return GenerationGate(
        skipped=False,
        psnr=psnr,
        ssim=ssim,
        max_difference=max_difference,
        seed=0,
        images="",
        num_images=0,
    )


@pytest.fixture(scope="module")
def painter() -> Made:
    return made(Painter())


@pytest.fixture(scope="module")
def cards() -> Made:
    labels = LabelSection(names=("a", "b", "c"))
    return made(Cards(), latent=None, label=labels, output=OutputSection(range="none"))


@pytest.fixture(scope="module")
def lost() -> Made:
    """4000 + x: half precision has steps of 2 there, and what is left after - 4000 is noise."""
    return made(Painter(offset=4000.0))


def spec(**changes: Any) -> GeneratorSpec:
    return GeneratorSpec(**{"range": "none", "axes": generator_axes(4), **changes})


class TestInputs:
    def test_labels(self) -> None:
        ids = np.array([2, 0], np.int32)
        label = LabelInfo(names=("a", "b", "c"))
        found = network_feeds({"label": ids}, spec(label=label, label_form="one_hot"))["label"]
        np.testing.assert_array_equal(found, [[0, 0, 1], [1, 0, 0]])
        assert found.dtype == np.float32
        found = network_feeds({"label": ids}, spec(label=label, label_form="index"))["label"]
        np.testing.assert_array_equal(found, [2, 0])
        assert found.dtype == np.int64

    def test_masks_are_taken_at_the_centres_and_strangers_are_nothing(self) -> None:
        classes = (ClassInfo(name="a", color=(0, 0, 0)), ClassInfo(name="b", color=(9, 9, 9)))
        mask = np.array([[[0, 1, 1, 0, 9], [7, 7, 7, 7, 7], [1, 0, 0, 0, 0]]], np.uint8)
        # row 1 of 0, 1, 2; columns 1 and 3 of 0..4
        info = MaskInfo(size=(1, 2), classes=classes, form="index")
        found = network_feeds({"mask": mask}, spec(mask=info))["mask"]
        np.testing.assert_array_equal(found, [[[1, 1]]])
        info = MaskInfo(size=(3, 5), classes=classes)
        found = network_feeds({"mask": mask}, spec(mask=info))["mask"]
        assert (found.shape, found.dtype) == ((1, 2, 3, 5), np.float32)
        np.testing.assert_array_equal(found[0, 0], mask[0] == 0)
        np.testing.assert_array_equal(found[0, 1], mask[0] == 1)

    @pytest.mark.parametrize("color", ["rgb", "bgr"])
    def test_images_are_resized_and_normalised(self, color: str) -> None:
        image = np.array([[[[0, 51, 255], [102, 51, 255]]]], np.uint8)
        info = Preprocess(size=(1, 1), channels=3, mean=(0.1, 0.2, 0.5), std=(0.2, 1.0, 0.5), color="rgb")
        found = network_feeds({"image": image}, spec(image=info, image_color=color))["image"]
        expected = [0.5, 0.0, 1.0] if color == "rgb" else [4.5, 0.0, -0.6]
        assert (found.shape, found.dtype) == ((1, 3, 1, 1), np.float32)
        np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)

    def test_latents_and_noise_stay_as_they_are(self) -> None:
        feeds = {"latent": np.ones((1, 2), np.float32), "noise_0": np.zeros((1, 4), np.float32)}
        assert network_feeds(feeds, spec()) == feeds


class TestBytes:
    @pytest.mark.parametrize(
        ("range_", "activation", "values", "expected"),
        [
            ("none", "none", [-5, 0.5, 1.5, 2.5, 254.5, 255.4, 300], [0, 0, 2, 2, 254, 255, 255]),
            ("tanh", "none", [-1.1, -1, 0, 1 / 255, 1, 3], [0, 0, 128, 128, 255, 255]),
            ("sigmoid", "none", [-1, 0, 0.5, 0.1, 1, 2], [0, 0, 128, 26, 255, 255]),
            ("tanh", "tanh", [-20, 0, math.atanh(0.2), 20], [0, 128, 153, 255]),
            ("sigmoid", "sigmoid", [-90, 0, math.log(0.2 / 0.8), 90], [0, 128, 51, 255]),
        ],
    )
    def test_ranges_are_scaled_cut_and_rounded_half_to_even(
        self, range_: str, activation: str, values: list[float], expected: list[int]
    ) -> None:
        given = np.array(values, np.float32).reshape(1, 1, 1, -1)
        found = image_bytes(given, spec(range=range_, activation=activation))
        assert (found.shape, found.dtype) == ((1, 1, len(values), 1), np.uint8)
        np.testing.assert_array_equal(found.ravel(), expected)

    @pytest.mark.parametrize(("frames", "expected"), [("rgb", [1, 2, 3]), ("bgr", [3, 2, 1])])
    def test_channels_come_last_in_the_order_of_the_frames(self, frames: str, expected: list[int]) -> None:
        values = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
        np.testing.assert_array_equal(image_bytes(values, spec(frame_color=frames)).ravel(), expected)


def flat(value: int, size: tuple[int, int] = SIZE, channels: int = 3) -> NDArray[np.uint8]:
    return np.full((*size, channels), value, np.uint8)


class TestMeasures:
    def test_psnr(self) -> None:
        first, second = flat(100, (10, 10), 1), flat(100, (10, 10), 1)
        second[3, 4] = 90  # 10 squared in 100 bytes: a mean square of 1
        assert mean_square(first, second) == mean_square(second, first) == 1.0
        assert psnr(1.0) == pytest.approx(48.1308, abs=1e-4)  # 20 log10(255)
        assert psnr(255.0**2) == 0.0
        assert psnr(0.0) == math.inf

    def test_ssim_of_flat_images_is_that_of_their_brightness(self) -> None:
        """(2ab + C1) / (a^2 + b^2 + C1) with C1 = (0.01 * 255)^2; there is no structure to compare."""
        expected = (2 * 100 * 120 + 6.5025) / (100**2 + 120**2 + 6.5025)
        assert ssim(flat(100), flat(120)) == pytest.approx(expected, abs=1e-9)
        assert ssim(flat(7), flat(7)) == 1.0

    def test_ssim_of_one_window(self) -> None:
        """A checkerboard and its negative in 3 x 3 pixels: everything by hand."""
        first = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.uint8)[..., None] * 255
        second = 255 - first
        means = 255 * np.array([5 / 9, 4 / 9])
        variance = 255**2 * (5 / 9) * (4 / 9) * 9 / 8  # unbiased, as in the paper
        c1, c2 = 6.5025, 58.5225
        expected = (2 * means.prod() + c1) * (-2 * variance + c2)
        expected /= ((means**2).sum() + c1) * (2 * variance + c2)
        assert ssim(first, second) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("size", [(3, 3), (4, 40), (5, 9), (6, 6), (7, 8)])
    def test_small_images_have_smaller_windows(self, size: tuple[int, int]) -> None:
        assert ssim(flat(50, size), flat(50, size)) == 1.0


class TestPassing:
    def test_every_contender_is_measured(self, painter: Made) -> None:
        conversion, samples = painter
        found = verify_generator(conversion, samples, gate(), untracked)
        runs = [(check.backend, check.precision) for check in found.gate.checks]
        expected = [("openvino", "float32"), ("openvino", "bfloat16"), ("onnxruntime", "float16")]
        if "bfloat16" not in BACKENDS["openvino"].precisions("cpu", conversion.manifest):
            expected.remove(("openvino", "bfloat16"))
        assert runs == expected
        assert found.gate.num_images == 4
        for one, check in zip(found.figures, found.gate.checks, strict=True):
            assert check.passed
            assert len(one.squares) == len(one.ssim) == len(one.largest) == 4
            assert check.psnr == psnr(max(one.squares))
            assert check.mean_psnr == psnr(float(np.mean(one.squares)))
            assert check.psnr <= check.mean_psnr
            assert (check.ssim, check.max_difference) == (min(one.ssim), max(one.largest))
        exact, *_, half = found.gate.checks
        assert (exact.psnr or 0) > (half.psnr or 0) > 50
        assert half.max_difference <= 2

    @pytest.mark.parametrize(
        ("channels", "output"),
        [
            (3, OutputSection(range="sigmoid", activation="sigmoid", frame_color="bgr")),
            (1, OutputSection(range="tanh", activation="tanh")),
        ],
        ids=["bgr", "grey"],
    )
    def test_colours_and_ranges(self, channels: int, output: OutputSection) -> None:
        conversion, samples = made(Painter(channels), precision="fp32", output=output)
        found = verify_generator(conversion, samples, gate(60, 0.999, 1), untracked)
        assert next(check.precision for check in found.gate.checks if check.passed) == "float32"
        assert found.reference.images[0].shape == (*SIZE, channels)

    def test_equal_images_have_no_finite_psnr(self, cards: Made) -> None:
        conversion, samples = cards
        found = verify_generator(conversion, samples, gate(1000.0, 1.0, 0), untracked)
        for check in found.gate.checks:
            assert (check.psnr, check.mean_psnr, check.ssim, check.max_difference) == (None, None, 1.0, 0)
            assert check.passed
        table: NDArray[np.float32] = Cards().cards.weight.detach().numpy()
        for index, image in enumerate(found.reference.images):
            expected = table[index % 3].reshape(3, *SIZE).transpose(1, 2, 0)
            np.testing.assert_array_equal(image, expected)

    def test_labels_that_were_not_tried_are_named(self, cards: Made) -> None:
        conversion, samples = cards
        assert verify_generator(conversion, samples, gate(), untracked).notes == ()
        (note,) = verify_generator(conversion, samples[:1], gate(), untracked).notes
        assert note.startswith("2 of 3 labels were not tried ('b', 'c')")
        assert note.endswith("gate.samples = 3 tries all")

    def test_the_same_images_of_all_contenders_are_kept_for_the_report(self, painter: Made) -> None:
        conversion, samples = painter
        many = [dataclasses.replace(samples[index % 4], name=str(index)) for index in range(30)]
        found = verify_generator(conversion, many, gate(), untracked)
        kept = [set(one.images) for one in found.figures]
        assert all(one == kept[0] for one in kept)
        assert {0, 29} <= kept[0]
        assert len(kept[0]) < 15
        assert all(index in kept[0] for one in found.figures for index in one.worst_ones)


def damaged(model: ModelProto, change: Any, *, like: Sequence[int]) -> ModelProto:
    """The graph with its one weight of a shape changed."""
    broken = copy_of(model)
    (tensor,) = (tensor for tensor in broken.graph.initializer if list(tensor.dims) == list(like))
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return broken


class TestFailing:
    def test_rounded_away_activations(self, lost: Made) -> None:
        conversion, samples = lost
        with pytest.raises(GateFailed) as failure:
            verify_generator(conversion, samples, gate(), untracked)
        message = str(failure.value)
        assert failure.value.exit_code == 3
        assert "painter did not pass its gate on 4 samples; no bundle was written" in message
        lines = r"onnxruntime float16: PSNR is \d+\.\d\d dB on sample \d, the gate demands psnr = 40"
        assert re.search(lines, message)
        assert re.search(r"float16: SSIM is 0\.\d{4} on sample \d, .* demands ssim = 0\.99", message)
        assert re.search(r"a byte differs by \d+ on sample \d, .* allows max_difference = 32", message)
        assert "first differing layer: " in message
        assert "(Conv), relative difference" in message
        assert "Try a more exact precision (fp32)" in message
        assert "openvino float32" not in message

    def test_a_wrong_conversion_to_onnx(self, painter: Made) -> None:
        conversion, samples = painter
        wrong = damaged(conversion.plain, lambda weight: np.negative(weight, out=weight), like=[8, 8, 3, 3])
        fused = damaged(conversion.fused, lambda weight: np.negative(weight, out=weight), like=[8, 8, 3, 3])
        broken = dataclasses.replace(conversion, plain=wrong, typed=wrong, fused=fused)
        with pytest.raises(GateFailed, match="the FP32 ONNX itself differs from the original") as failure:
            verify_generator(broken, samples, gate(), untracked)
        assert "openvino float32: PSNR is" in str(failure.value)

    def test_something_wrong_around_the_network(self, cards: Made) -> None:
        """One wrong byte of 1,152 is lost in the mean; the largest difference finds it, and its sample."""
        conversion, samples = cards
        weight = [3, 3 * SIZE[0] * SIZE[1]]
        place = int(np.argmin(Cards().cards.weight[1].detach().numpy()))

        def change(values: NDArray[Any]) -> None:
            values[1, place] = 60

        broken = dataclasses.replace(conversion, fused=damaged(conversion.fused, change, like=weight))
        with pytest.raises(GateFailed, match=r"no layer of the network differs: .* around the network") as at:
            verify_generator(broken, samples, gate(ssim=0.5), untracked)
        message = str(at.value)
        assert "openvino float32: a byte differs by 60 on sample 1, the gate allows" in message
        assert "PSNR" not in message
        assert "SSIM" not in message

    def test_a_limit_that_was_just_missed_is_told_apart(self, painter: Made) -> None:
        conversion, samples = painter
        check = verify_generator(conversion, samples, gate(), untracked).gate.checks[-1]
        limit = (check.psnr or 0) + 1e-4
        with pytest.raises(GateFailed, match="onnxruntime float16: PSNR is ") as failure:
            verify_generator(conversion, samples, gate(psnr=limit), untracked)
        (found,) = re.findall(r"float16: PSNR is (\d+\.\d+) dB", str(failure.value))
        assert float(found) < limit

    def test_bfloat16_alone_only_excludes_itself(self) -> None:
        """32 + x: half precision has steps of 1/32 there, bfloat16 of 1/4."""
        conversion, samples = made(Painter(offset=32.0))
        found = verify_generator(conversion, samples, gate(), untracked)
        assert found.gate.passed("openvino", "float32")
        assert found.gate.passed("onnxruntime", "float16")
        if "bfloat16" in BACKENDS["openvino"].precisions("cpu", conversion.manifest):
            assert found.gate.passed("openvino", "bfloat16") is False
            assert "openvino bfloat16 is not used: PSNR is " in found.notes[0]


class Fixed:
    """A network that gives the same values for every sample, or each in its turn."""

    description, checkpoint_sha256, noise = "fixed", "", ()

    def __init__(self, *values: float) -> None:
        self.values = values
        self.turn = 0

    def to_onnx(self, spec: NetworkSpec) -> ModelProto:
        raise NotImplementedError

    def reference(self, feeds: Any) -> dict[str, NDArray[np.float32]]:
        """A ramp from one value to the next."""
        start = self.values[self.turn % len(self.values)]
        end = self.values[(self.turn + 1) % len(self.values)]
        self.turn += 1
        ramp = np.linspace(start, end, 16 * 3) if math.isfinite(end) else np.full(16 * 3, end)
        return {"generated": ramp.astype(np.float32).reshape(1, 3, 4, 4)}


class TestTheOriginal:
    def run(self, painter: Made, values: Sequence[float], **changes: Any) -> GeneratorReference:
        conversion, samples = painter
        settings = {"range": "tanh", "activation": "none", **changes}
        changed = dataclasses.replace(conversion.spec, **settings)
        fixed = dataclasses.replace(conversion, network=Fixed(*values), spec=changed)
        return original(fixed, samples, untracked)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_values_that_are_no_numbers(self, painter: Made, value: float) -> None:
        with pytest.raises(ExportError, match=r"gives NaN or infinity for sample 0 .* numbers were expected"):
            self.run(painter, [0.0, value])

    @pytest.mark.parametrize(
        ("values", "declared", "message"),
        [
            ([-3, 3], "tanh", r"from -3 to 3, .*'tanh' values from -1 to 1 .* activation = 'tanh' if"),
            ([0, 255], "tanh", r"from 0 to 255, .* range = 'none' if the values are 0 to 255"),
            (
                [-1, 1],
                "sigmoid",
                r"from -1 to 1, .* values from 0 to 1 .* range = 'tanh' if the values are -1",
            ),
            ([-4, 9], "sigmoid", r"activation = 'sigmoid' if .*, or end forward\(\) in clamp\(0, 1\)"),
            (
                [0, 1],
                "none",
                r"from 0 to 1 on all samples, .* 0 to 255 .* black; set range = 'sigmoid' for 0",
            ),
            ([-1, 1], "none", r"would be black; set range = 'tanh' for -1 to 1"),
            (
                [-2.46, 2.43],
                "none",
                r"from -2\.46 to 2\.43 on all samples, .* of one colour; bring them to 0\.\.255",
            ),
            ([427, 64640], "none", r"from 427 to 6.464e\+04, .* scale them .* or end it in clamp\(0, 255\)"),
        ],
    )
    def test_values_of_another_range(
        self, painter: Made, values: list[float], declared: str, message: str
    ) -> None:
        with pytest.raises(ExportError, match=message):
            self.run(painter, values, range=declared)

    @pytest.mark.parametrize(
        ("values", "changes", "note"),
        [
            ([-1.06, 1], {}, r"from -1\.06 to 1: what lies beyond -1 to 1 is cut, in both networks"),
            ([-10, 260], {"range": "none"}, r"what lies beyond 0 to 255 is cut"),
            ([0.1, 0.9], {}, r"none below 0, .* no image is darker than grey; .* set range = 'sigmoid'"),
            (
                [-0.9, 0.9],
                {"activation": "tanh"},
                r"activation = 'tanh' is applied .* then leave activation out",
            ),
            (
                [0.1, 0.9],
                {"range": "sigmoid", "activation": "sigmoid"},
                r"activation = 'sigmoid' is applied to them: if forward\(\) ends in one already",
            ),
        ],
    )
    def test_what_is_odd_is_noted(
        self, painter: Made, values: list[float], changes: dict[str, str], note: str
    ) -> None:
        (found,) = self.run(painter, values, **changes).notes
        assert re.search(note, found)

    @pytest.mark.parametrize(
        ("values", "changes"),
        [
            ([-1, 1], {}),
            ([0, 1], {"range": "sigmoid"}),
            ([0, 255], {"range": "none"}),
            ([-6, 4], {"activation": "tanh"}),
        ],
    )
    def test_nothing_is_said_of_what_is_right(
        self, painter: Made, values: list[float], changes: dict[str, str]
    ) -> None:
        found = self.run(painter, values, **changes)
        assert found.notes == []
        assert (found.least, found.most) == tuple(values)

    def test_a_network_that_ignores_its_inputs(self, painter: Made) -> None:
        (note,) = self.run(painter, [-0.5]).notes
        assert "makes the same image of all 4 samples, as if it ignored latent" in note


class TestRefusing:
    def test_no_samples(self, painter: Made) -> None:
        with pytest.raises(ExportError, match="no samples, at least one was expected"):
            verify_generator(painter[0], [], gate(), untracked)

    def test_images_too_small_for_structure(self, painter: Made) -> None:
        conversion, samples = painter
        output = dataclasses.replace(conversion.manifest.output, size=(2, 9))
        manifest = dataclasses.replace(conversion.manifest, output=output)
        with pytest.raises(ExportError, match=r"images are 2 x 9 pixels, .* needs at least 3 x 3"):
            verify_generator(dataclasses.replace(conversion, manifest=manifest), samples, gate(), untracked)


def test_the_worst_image_of_each_measure_is_found() -> None:
    one = GeneratorFigures(
        Contender("openvino", "float32", required=True), [1.0, 5.0, 2.0], [0.9, 0.99, 0.8], [40, 30, 20]
    )
    assert one.worst_ones == (1, 2, 0)
