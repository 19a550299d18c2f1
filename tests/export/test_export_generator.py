"""From a generator to a bundle that the runtime loads: every input in every form, and what is refused."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

import pixelrt
import pixelrt_export
from pixelrt.bundle import Bundle
from pixelrt.errors import ExportError, InputError, SourceError
from pixelrt.generation.drawing import draw_latents
from pixelrt.manifest import LabelInfo, LatentInfo
from pixelrt_export.generator_spec import GeneratorSpec
from pixelrt_export.options import generation as of_generation
from pixelrt_export.options import segmentation as of_segmentation
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import (
    GenerationGateSection,
    GenerationRecipe,
    ImageSection,
    LabelSection,
    LatentSection,
    MaskSection,
    OutputSection,
)
from pixelrt_export.samples.generation import Given, Material, read_material

SIZE = (16, 24)
CLASSES = ("road", "car", "tree")
LABELS = ("cat", "dog")
MEAN, STD = (0.5, 0.4, 0.6), (0.5, 0.25, 0.3)
MASK: dict[str, Any] = {"size": SIZE, "classes": CLASSES}
IMAGE: dict[str, Any] = {"size": SIZE, "mean": MEAN, "std": STD}

Bytes = NDArray[np.uint8]


class Painter(nn.Module):
    """Takes any combination of inputs; ids are embedded, one-hot inputs are mixed."""

    def __init__(self, channels: int = 3, *, ids: bool = False) -> None:
        super().__init__()
        torch.manual_seed(channels + ids)
        self.ids = ids
        self.of_latent = nn.Linear(5, 4)
        self.of_label: nn.Module = nn.Linear(2, 4) if ids else nn.Embedding(2, 4)
        self.of_mask: nn.Module = nn.Embedding(3, 4) if ids else nn.Conv2d(3, 4, 3, padding=1)
        self.of_image = nn.Conv2d(3, 4, 3, padding=1)
        self.ramp = nn.Parameter(torch.randn(1, 4, *SIZE))
        self.last = nn.Conv2d(4, channels, 3, padding=1)

    def forward(
        self,
        latent: torch.Tensor | None = None,
        label: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        features = self.ramp
        if latent is not None:
            features = features + self.of_latent(latent)[:, :, None, None]
        if label is not None:
            features = features + self.of_label(label)[:, :, None, None]
        if mask is not None:
            painted = self.of_mask(mask)
            features = features + (painted.permute(0, 3, 1, 2) if self.ids else painted)
        if image is not None:
            features = features + self.of_image(image)
        return self.finished(self.last(functional.relu(features)))

    def finished(self, values: torch.Tensor) -> torch.Tensor:
        return torch.tanh(values)


class Raw(Painter):
    """Leaves the activation to the graph."""

    def finished(self, values: torch.Tensor) -> torch.Tensor:
        return values


class Noisy(Painter):
    def finished(self, values: torch.Tensor) -> torch.Tensor:
        return torch.tanh(values + 0.5 * torch.randn_like(values[:, :1]))


def images(count: int = 3, size: tuple[int, int] = (20, 31)) -> list[Bytes]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


def masks(count: int = 3, size: tuple[int, int] = (20, 31), classes: int = 3) -> list[Bytes]:
    rng = np.random.default_rng(4)
    coarse = [rng.integers(0, classes, (4, 6), dtype=np.uint8) for _ in range(count)]
    return [cv2.resize(one, size[::-1], interpolation=cv2.INTER_NEAREST) for one in coarse]


def export(model: nn.Module, out: Path, **options: Any) -> Bundle:
    defaults: dict[str, Any] = {"output": "tanh", "samples": 3, "quiet": True}
    return pixelrt_export.export(model, out, task="generation", **{**defaults, **options})


@torch.inference_mode()
def pytorch(net: nn.Module, **feeds: NDArray[Any]) -> NDArray[np.float32]:
    """What PyTorch gives for batches of its own inputs, float32[N, H, W, C]."""
    values = net.eval()(**{name: torch.from_numpy(value) for name, value in feeds.items()})
    return values.permute(0, 2, 3, 1).numpy()


def network_image(image: Bytes) -> NDArray[np.float32]:
    """float32[1, 3, H, W] of an image at the network's size."""
    normalised = (image / 255 - np.array(MEAN)) / np.array(STD)
    return normalised.astype(np.float32).transpose(2, 0, 1)[None]


def one_hot(mask: Bytes) -> NDArray[np.float32]:
    return (mask[None, None] == np.arange(len(CLASSES)).reshape(1, -1, 1, 1)).astype(np.float32)


def assert_within_a_byte(found: Bytes, values: NDArray[np.float32], scale: float = 127.5) -> None:
    """Images of values from -1 to 1 (scale 127.5), or from 0 to 1 (scale 255)."""
    offset = 127.5 if scale == 127.5 else 0.0
    expected = np.clip(np.rint(values * np.float32(scale) + np.float32(offset)), 0, 255)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert expected.std() > 5


@pytest.fixture(scope="module", autouse=True)
def others_warnings() -> Iterator[None]:
    """What PyTorch's exporter says of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


class TestEveryInputAtOnce:
    NET = Painter()

    @pytest.fixture(scope="class")
    def bundle(self, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        return export(
            self.NET,
            tmp_path_factory.mktemp("export") / "painter",
            latent=np.int64(5),
            label=list(LABELS),
            mask={"size": np.array(SIZE), "classes": list(CLASSES)},
            image={"size": SIZE, "mean": np.array(MEAN), "std": STD},
            masks=masks(),
            images=np.stack(images()),
            output={"range": "tanh", "batch": np.int32(4)},
            psnr=np.float32(45),
            seed=7,
        )

    def test_it_gives_what_pytorch_gives(self, bundle: Bundle) -> None:
        (mask,), (image,) = masks(1, SIZE), images(1, SIZE)
        latent = np.linspace(-1, 1, 5, dtype=np.float32)
        expected = pytorch(
            self.NET,
            latent=latent[None],
            label=np.array([1], np.int64),
            mask=one_hot(mask),
            image=network_image(image),
        )
        with pixelrt.load(bundle, backend="openvino", precision="float32") as generator:
            found = generator(mask, image=image, latent=latent, label="dog").images
        assert_within_a_byte(found, expected)

    def test_the_gate_measured_the_conversion(self, bundle: Bundle) -> None:
        gate = bundle.generation.gate
        assert (gate.num_images, gate.seed, gate.psnr, gate.skipped) == (3, 7, 45, False)
        assert {check.precision for check in gate.checks} >= {"float32", "float16"}
        assert all(check.passed for check in gate.checks if check.precision != "bfloat16")
        assert bundle.manifest.precision.layers["fp16"] > 0

    def test_the_manifest_says_what_goes_in(self, bundle: Bundle) -> None:
        manifest = Bundle.open(bundle.path).generation
        assert manifest == bundle.manifest
        assert [tensor.name for tensor in manifest.inputs] == ["latent", "label", "mask", "image"]
        assert manifest.latent is not None
        assert manifest.label is not None
        assert manifest.mask is not None
        assert manifest.image is not None
        assert (manifest.latent.size, manifest.latent.distribution) == ((5,), "normal")
        assert manifest.label.names == LABELS
        assert manifest.mask.size == SIZE
        assert tuple(info.name for info in manifest.mask.classes) == CLASSES
        assert manifest.image.mean == MEAN
        assert (manifest.output.size, manifest.output.channels, manifest.output.range) == (SIZE, 3, "tanh")
        assert (manifest.axes["batch"].max, manifest.noise) == (4, ())
        assert (manifest.name, manifest.source.model, manifest.gate.images) == (
            "painter",
            "Painter",
            "arrays://",
        )


def test_a_latent_alone_is_what_the_runtime_draws(tmp_path: Path) -> None:
    net = Painter(1)
    bundle = export(net, tmp_path / "b", latent={"size": 5, "distribution": "uniform"}, precision="fp32")
    assert bundle.generation.latent is not None
    assert bundle.generation.output.channels == 1
    assert bundle.generation.gate.images == ""
    latents = draw_latents(bundle.generation.latent, 3, range(2))
    with pixelrt.load(bundle, precision="float32") as generator:
        found = generator.sample(2, strategy=pixelrt.Random(seed=3)).images
    assert_within_a_byte(found, pytorch(net, latent=latents))


def test_ids_for_masks_and_one_hot_for_labels_bound_by_name(tmp_path: Path) -> None:
    """In another order than forward() has them; the network's colours are BGR, and it leaves sigmoid out."""
    net = Raw(ids=True)
    bundle = export(
        net,
        tmp_path / "b",
        label={"names": np.array(LABELS), "form": "one_hot", "input": "label"},
        mask={"size": SIZE, "classes": CLASSES, "form": "index", "input": 2},
        masks=masks(),
        output={"range": "sigmoid", "activation": "sigmoid", "color": "bgr", "output": 0},
        precision="fp32",
    )
    (mask,) = masks(1, SIZE)
    values = pytorch(net, label=np.array([[0, 1]], np.float32), mask=mask[None].astype(np.int64))
    with pixelrt.load(bundle, precision="float32") as generator:
        found = generator(mask, label=1).images
    assert_within_a_byte(found, 1 / (1 + np.exp(-values[..., ::-1])), scale=255)


def test_an_image_alone_from_a_folder_in_bgr(tmp_path: Path) -> None:
    net = Painter()
    for index, image in enumerate(images(3)):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    bundle = export(
        net,
        tmp_path / "b",
        image={"size": SIZE, "mean": MEAN, "std": STD, "frame_color": "bgr", "input": "image"},
        output={"range": "tanh", "frame_color": "bgr"},
        images=tmp_path,
        max_images=2,
    )
    gate = bundle.generation.gate
    assert (gate.images, gate.num_images) == (tmp_path.name, 2)
    assert json.loads((bundle.path / "report.json").read_text())["name"] == "b"
    for file in ("manifest.json", "report.json", "report.html"):
        assert str(tmp_path) not in (bundle.path / file).read_text()
    (image,) = images(1, SIZE)
    with pixelrt.load(bundle, color="rgb", precision="float32") as generator:
        found = generator(image).images
    assert_within_a_byte(found, pytorch(net, image=network_image(image)))


def test_randomness_inside_becomes_an_input(tmp_path: Path) -> None:
    bundle = export(Noisy(), tmp_path / "b", latent=5)
    (noise,) = bundle.generation.noise
    assert (noise.name, noise.size) == ("noise_0", (1, *SIZE))
    with pixelrt.load(bundle) as generator:
        one, same, other = (generator.sample(strategy=pixelrt.Random(seed=seed)).image for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_part_of_a_module_in_fp32_without_a_gate_and_masks(tmp_path: Path) -> None:
    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(3, 5), Painter()

    net, (mask,) = Autoencoder(), masks(1, SIZE)
    options = {"mask": {**MASK, "input": "mask"}, "gate": False, "precision": "fp32"}
    bundle = export(net, tmp_path / "b", part="decoder", **options)
    assert (bundle.generation.gate.skipped, bundle.generation.gate.num_images) == (True, 0)
    with pixelrt.load(bundle, precision="float32") as generator:
        assert_within_a_byte(generator(mask).images, pytorch(net.decoder, mask=one_hot(mask)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {},
            InputError,
            r"there is no input; one or more of latent=, label=, mask= and image= were expected",
        ),
        ({"latnt": 5}, InputError, r"unknown option 'latnt' \(did you mean 'latent'\?\)"),
        ({"latent": 5, "output": None}, InputError, r"output is missing: .*'tanh', or \{'range': 'tanh'\}"),
        (
            {"latent": 5, "output": "tahn"},
            InputError,
            r"output.range is 'tahn'.*did you mean 'tanh'.*output=",
        ),
        ({"latent": 5, "output": {"rnge": "tanh"}}, InputError, r"key of output, 'rnge' .*'range'"),
        ({"latent": 5, "output": {"batch": 4}}, InputError, "missing key output.range"),
        (
            {"latent": 5, "output": {"range": "tanh", "activation": "sigmoid"}},
            InputError,
            r"output: activation = 'sigmoid' does not give the range 'tanh'",
        ),
        ({"latent": 3.5}, InputError, r"latent.size is float '3.5', expected a list; as in latent=64, or"),
        ({"latent": 0}, InputError, r"latent: size is \[0\]"),
        (
            {"latent": {"size": 5, "distributoin": "normal"}},
            InputError,
            r"key of latent, 'distributoin' .*'distribution'",
        ),
        ({"label": "cat"}, InputError, r"label.names is str 'cat', expected a list; as in label=\['cat'"),
        ({"label": ["a", "a"]}, InputError, r"label: names are \['a', 'a'\].*each once"),
        ({"mask": SIZE}, InputError, r"mask is \[16, 24\], a mapping was expected, as in mask=\{'size'"),
        ({"mask": {"size": SIZE}}, InputError, "missing key mask.classes"),
        ({"mask": {**MASK, "form": "onehot"}}, InputError, r"mask.form is 'onehot'.*'one_hot'"),
        ({"image": {"size": SIZE, "mean": [0.5]}}, InputError, "image: mean has 1 values and std 3"),
        ({"latent": 5, "masks": "m/"}, InputError, "masks are given, and no mask: .* as in mask="),
        (
            {"latent": {"size": 5, "input": 0}, "label": {"names": ["a"], "input": 0}},
            InputError,
            r"\[latent\] and \[label\] both have input = 0",
        ),
        ({"latent": 5, "psnr": -1}, InputError, "psnr is -1.0; decibels"),
        ({"latent": 5, "precision": "fp8"}, InputError, "precision.type is 'fp8'"),
        ({"latent": 5, "part": "a..b"}, InputError, r"^part is 'a..b'; the name of a submodule"),
        (
            {"latent": 5, "as_in_training": ["droput"]},
            InputError,
            r"^as_in_training\[0\] is 'droput'.*'dropout'",
        ),
        ({"latent": 5, "size": SIZE}, InputError, r"size is an option of task='segmentation', and .*image="),
        ({"latent": 5, "batch": 4}, InputError, r"batch is an option of .*output=\{'range': 'tanh', 'batch'"),
        ({"latent": 5, "agreement": 0.9}, InputError, "judged by psnr="),
        (
            {"mask": MASK},
            ExportError,
            r"no masks were given, and the gate needs some: .*\(gate.masks, masks=\)",
        ),
        ({"mask": MASK, "masks": []}, ExportError, "no masks were given"),
        ({"image": {"size": SIZE}, "gate": False}, ExportError, "fp16 needs images, and none were given"),
        (
            {"mask": MASK, "masks": [np.zeros((4, 4, 3), np.uint8)]},
            InputError,
            r"masks\[0\] is uint8\[4, 4, 3\], a mask uint8\[H, W\]",
        ),
        ({"mask": MASK, "masks": [np.zeros((4, 4))]}, InputError, r"masks\[0\] is float64\[4, 4\]"),
        (
            {"image": {"size": SIZE}, "images": [np.zeros((4, 4), np.uint8)]},
            InputError,
            r"images\[0\] is uint8\[4, 4\], an image uint8\[H, W, 3\]",
        ),
        (
            {"image": {"size": SIZE}, "images": [np.zeros((4, 4, 4), np.uint8)]},
            InputError,
            r"images\[0\] has 4 channels, an image uint8\[H, W, 3\] was expected",
        ),
        (
            {"mask": MASK, "image": {"size": SIZE}, "masks": masks(2), "images": images(3)},
            SourceError,
            r"2 masks and 3 images \(arrays://\).*as many were expected",
        ),
        (
            {"mask": MASK, "masks": masks(2, classes=9)},
            ExportError,
            r"the mask masks\[0\] holds the ids .*, and the network has 3 classes: 0 to 2, and 3 or 255",
        ),
        (
            {"mask": {**MASK, "form": "index"}, "masks": [np.full((4, 4), 255, np.uint8)]},
            ExportError,
            r"unlabelled pixels \(255\), and with form = 'index' .*ids from 0 to 2",
        ),
        (
            {"mask": MASK, "masks": [255 * np.eye(4, dtype=np.uint8)]},
            ExportError,
            "the masks hold 0 and 255 alone, ids of 3 classes from 0 to 2 were expected",
        ),
        ({"mask": MASK, "masks": [np.full((4, 4), 255, np.uint8)]}, ExportError, "the masks hold 255 alone"),
        (
            {"mask": MASK, "masks": "test://drive?frames=2&size=64x96"},
            ExportError,
            r"the masks of test://drive.* have the classes sky, building, .*network's are road, car, tree",
        ),
        ({"mask": MASK, "masks": "test://dirve"}, SourceError, "did you mean 'drive'"),
        ({"latent": 5, "gate": "no"}, InputError, "gate is 'no'; True or False, to skip it, was expected"),
        ({"mask": MASK, "masks": "nowhere"}, SourceError, "nowhere does not exist"),
        ({"image": {"size": SIZE}, "images": "nowhere"}, SourceError, "nowhere does not exist"),
        (
            {"image": {"size": SIZE, "mean": [0.5], "std": [0.5]}, "images": "test://drive"},
            SourceError,
            "gives frames of 3 channels, the network takes 1",
        ),
    ],
)
def test_what_is_refused_before_the_network_is_exported(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        export(Painter(), tmp_path / "b", **options)
    assert list(tmp_path.iterdir()) == []


class Deaf(Painter):
    def forward(self, latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(latent)


class Wasteful(Painter):
    def forward(self, latent: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        torch.randn_like(latent)
        return super().forward(latent)


def test_inputs_without_an_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"Deaf does not use its input 'label': .* Leave \[label\] out"):
        export(Deaf(), tmp_path / "b", latent=5, label=LABELS)
    with pytest.raises(ExportError, match=r"Wasteful draws random numbers \(randn_like\) and does not use"):
        export(Wasteful(), tmp_path / "b", latent=5)


def test_a_task_has_its_own_options(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="task is 'generate', expected 'segmentation' or 'generation'"):
        pixelrt_export.export(Painter(), tmp_path / "b", task="generate")  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"latent is an option of task='generation', and the task is 'segm"):
        pixelrt_export.export(Painter(), tmp_path / "b", latent=5)  # type: ignore[call-overload]
    with pytest.raises(
        InputError, match=r"size is missing, as in size=\(384, 640\); or say task='generation'"
    ):
        pixelrt_export.export(Painter(), tmp_path / "b")  # type: ignore[call-overload]
    for here, there in ((of_generation, of_segmentation), (of_segmentation, of_generation)):
        assert set(here.STRANGERS) == set(there.KNOWN) - set(here.KNOWN)


def test_the_options_are_those_of_a_recipe() -> None:
    for options, section in (
        (pixelrt_export.LatentOptions, LatentSection),
        (pixelrt_export.LabelOptions, LabelSection),
        (pixelrt_export.MaskOptions, MaskSection),
        (pixelrt_export.ImageOptions, ImageSection),
        (pixelrt_export.OutputOptions, OutputSection),
    ):
        assert set(options.__annotations__) == set(section.__dataclass_fields__)
    gate = set(GenerationGateSection.__dataclass_fields__) - {"skip"}
    assert gate <= set(pixelrt_export.GenerationOptions.__annotations__)


def test_every_option_is_documented() -> None:
    shown = pixelrt_export.export.__doc__ or ""
    of_output = pixelrt_export.OutputOptions.__annotations__
    for name in {*of_generation.KNOWN, *of_segmentation.KNOWN, *of_output}:
        assert re.search(rf"\b{name}\b", shown), name
    for name in (*of_generation.KNOWN, *of_output):
        assert re.search(rf"\b{name}\b", pixelrt_export.GenerationOptions.__doc__ or ""), name
    page = Path(__file__).parents[2].joinpath("docs", "generation.md").read_text(encoding="utf-8")
    table = page[page.index("| option |") : page.index("## What the gate measures")]
    for name in (*of_generation.KNOWN, *of_output):
        assert re.search(rf'[`"]{name}[`"=]', table), name


def recipe(**changes: Any) -> GenerationRecipe:
    return of_generation.recipe_of(Painter(), Path("b"), {"output": "tanh", **changes})


def read(read_from: GenerationRecipe, **arrays: Any) -> Material:
    with Steps(quiet=True) as steps:
        material = read_material(read_from, Given(**arrays), steps)
    assert material is not None
    return material


class TestMaterial:
    def folders(self, tmp_path: Path) -> Path:
        for name, arrays in (("images", images(3)), ("labels", masks(3))):
            (tmp_path / name).mkdir()
            for index, array in enumerate(arrays):
                assert cv2.imwrite(str(tmp_path / name / f"street-{index}.png"), array)
        return tmp_path

    @pytest.mark.parametrize("whole", [True, False])
    def test_folders_are_paired_by_name(self, tmp_path: Path, whole: bool) -> None:
        """The whole folder, or the two in it, with a mask too many between the others."""
        folder = self.folders(tmp_path)
        cv2.imwrite(str(folder / "labels" / "street-0b.png"), masks(1)[0])
        places = {
            "masks": folder if whole else folder / "labels",
            "images": folder if whole else folder / "images",
        }
        material = read(recipe(mask=MASK, image=IMAGE, **places))
        assert material.names == ("street-0.png", "street-1.png", "street-2.png")
        assert material.masks is not None
        assert material.images is not None
        assert all(mask.shape == SIZE for mask in material.masks)
        for mask, whole_mask in zip(material.masks, masks(3), strict=True):
            assert np.array_equal(
                mask, cv2.resize(whole_mask, SIZE[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            )
        assert all(image.shape == (*SIZE, 3) for image in material.images)

    def test_a_partner_is_missing(self, tmp_path: Path) -> None:
        folder = self.folders(tmp_path)
        (folder / "labels" / "street-1.png").unlink()
        places = {"masks": folder / "labels", "images": folder / "images"}
        with pytest.raises(SourceError, match=r"labels lacks street-1.png; a label of the same name"):
            read(recipe(mask=MASK, image=IMAGE, **places))

    def test_one_source_gives_both(self) -> None:
        drive = "test://drive?frames=4&size=64x96&seed=2"
        mask = {"size": (64, 96), "classes": "camvid11"}
        material = read(recipe(mask=mask, image={"size": (64, 96)}, masks=drive, images=drive, max_images=2))
        assert material.names == ("drive-000000", "drive-000002")
        assert material.masks is not None
        assert material.images is not None
        sky = material.masks[0] == 0
        assert sky.any()
        assert material.images[0][sky].mean() > material.images[0][~sky].mean()  # they show the same street

    def test_labels_take_turns_and_each_sample_has_its_own_latent(self) -> None:
        made = recipe(latent=5, label=LABELS, samples=4)
        latent, label = LatentInfo(size=(5,), distribution="normal"), LabelInfo(names=LABELS)
        spec = GeneratorSpec(latent=latent, label=label, range="tanh", axes={})
        samples, others = (read(made).samples(spec, seed) for seed in (9, 10))
        assert [int(sample.feeds["label"][0]) for sample in samples] == [0, 1, 0, 1]
        latents = np.concatenate([sample.feeds["latent"] for sample in (*samples, *others)])
        assert latents.shape == (8, 5)
        assert len(np.unique(latents)) == latents.size

    def test_max_images_are_spread(self) -> None:
        material = read(recipe(mask=MASK, masks=masks(5), max_images=2), masks=masks(5))
        assert material.names == ("masks[0]", "masks[2]")


_PAINTER = Painter()
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats()
    | st.sampled_from(["tanh", "camvid11", "", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["size", "names", "classes", "range", "form", "input", "distribution", "nonsense"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["latent", "label", "mask", "image", "output", "seed", "psnr"]), _VALUES)
)
def test_arguments_make_a_recipe_or_a_message(arguments: dict[str, Any]) -> None:
    try:
        made = of_generation.recipe_of(_PAINTER, Path("b"), arguments)
    except InputError as problem:
        assert str(problem)
    else:
        assert any(getattr(made, name) is not None for name in ("latent", "label", "mask", "image"))
