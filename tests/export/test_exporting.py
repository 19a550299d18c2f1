"""From a module to a bundle that the runtime loads, for networks of all kinds; what is refused on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import pixelrt
import pixelrt_export
from pixelrt.bundle import MANIFEST, Bundle
from pixelrt.errors import BundleError, ExportError, GateFailed, InputError, SourceError
from pixelrt_export.engines import with_engines
from pixelrt_export.models import UNet
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import TargetSection
from pixelrt_export.samples import segmentation

SIZE = (64, 96)
UNTRAINED = 0.99
"""Agreement demanded of random weights: their classes are so close that rounding decides some pixels."""


def frames(count: int = 3, size: tuple[int, int] = (72, 100), channels: int = 3) -> list[NDArray[np.uint8]]:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(channels)
    made = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (6, 8, channels), dtype=np.uint8)
        smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
        made.append(np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8))
    return made


def write_images(folder: Path, images: list[NDArray[np.uint8]]) -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{index:02}.png"), image[..., ::-1] if image.ndim == 3 else image)
    return folder


class Pixelwise(nn.Module):
    """Classes by colour and its surroundings."""

    def __init__(self, channels: int = 3, classes: int = 4, boost: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(channels + classes)
        self.mix = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.Conv2d(8, classes, 1)
        with torch.no_grad():
            self.mix.weight *= boost
            self.out.weight *= 4

    def features(self, image: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = torch.relu(self.norm(self.mix(image)))
        return features

    def forward(self, image: torch.Tensor) -> Any:
        return self.out(self.features(image))


class WithAux(Pixelwise):
    def forward(self, image: torch.Tensor) -> Any:
        features = self.features(image)
        return {"out": self.out(features), "aux": self.out(features.flip(1))}


class TwoHeads(Pixelwise):
    def __init__(self) -> None:
        super().__init__()
        self.lanes = nn.Conv2d(8, 1, 1)

    def forward(self, image: torch.Tensor) -> Any:
        features = self.features(image)
        return self.out(features), self.lanes(features)


@pytest.fixture(autouse=True)
def others_warnings() -> Iterator[None]:
    """MONAI and transformers warn about themselves when they are imported and traced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def export(model: nn.Module, out: Path, **options: Any) -> Bundle:
    defaults: dict[str, Any] = {
        "size": SIZE,
        "classes": ["a", "b", "c", "d"],
        "images": frames(),
        "agreement": UNTRAINED,
        "quiet": True,
    }
    return pixelrt_export.export(model, out, **{**defaults, **options})


def expected_mask(model: nn.Module, frame: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What PyTorch makes of a frame at the network's size, with the usual mean and standard deviation."""
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    image = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        logits = model.eval()((image - mean) / std)
    mask: NDArray[np.int64] = logits[0].argmax(0).numpy()
    return mask


class TestForeignNetworks:
    """Networks that are not ours, with random weights: the gate holds on each."""

    def check(self, bundle: Bundle, heads: int = 1) -> None:
        required = [check for check in bundle.manifest.gate.checks if check.precision != "bfloat16"]
        assert len(required) == 2 * heads
        assert all(check.passed and check.agreement >= UNTRAINED for check in required)
        assert bundle.manifest.precision.layers["fp16"] > 0
        with pixelrt.load(bundle) as segmenter:
            channels = bundle.segmentation.preprocess.channels
            result = segmenter(frames(1, (50, 70), channels)[0])
        assert result.mask is not None
        assert result.mask.shape == SIZE

    def test_monai_unet(self, tmp_path: Path) -> None:
        from monai.networks.nets import UNet

        torch.manual_seed(0)
        net = UNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=4,
            channels=(8, 16, 32),
            strides=(2, 2),
            num_res_units=1,
        )
        self.check(export(net, tmp_path / "b"))

    def test_monai_attention_unet(self, tmp_path: Path) -> None:
        from monai.networks.nets import AttentionUnet

        torch.manual_seed(0)
        net = AttentionUnet(
            spatial_dims=2, in_channels=3, out_channels=4, channels=(8, 16, 32), strides=(2, 2)
        )
        self.check(export(net, tmp_path / "b"))

    def test_hugging_face_segformer(self, tmp_path: Path) -> None:
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        torch.manual_seed(0)
        config = SegformerConfig(
            num_labels=5,
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 40, 64],
            decoder_hidden_size=32,
            num_attention_heads=[1, 2, 2, 4],
        )
        bundle = export(SegformerForSemanticSegmentation(config), tmp_path / "b", classes=list("abcde"))
        self.check(bundle)

    def test_a_dict_of_out_and_aux(self, tmp_path: Path) -> None:
        self.check(export(WithAux(), tmp_path / "b", output="out"))

    def test_an_output_that_was_not_named(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match=r'write one of them in \[\[head\]\], as in: output = "out"'):
            export(WithAux(), tmp_path / "b")
        assert list(tmp_path.iterdir()) == []

    def test_two_heads(self, tmp_path: Path) -> None:
        bundle = export(
            TwoHeads(),
            tmp_path / "b",
            classes={"area": list("abcd"), "lanes": ["background", "lane"]},
            heads={
                "area": {"output": 0},
                "lanes": {"output": 1, "activation": "sigmoid", "threshold": 0.4, "emit": ("mask",)},
            },
        )
        self.check(bundle, heads=2)
        assert [head.outputs for head in bundle.segmentation.heads][1] == {"mask": "lanes.mask"}
        result = pixelrt.load(bundle)(frames(1)[0])["lanes"]
        assert result.mask is not None
        assert set(np.unique(result.mask)) <= {0, 1}

    def test_four_channels(self, tmp_path: Path) -> None:
        images = frames(channels=4)
        bundle = export(Pixelwise(4), tmp_path / "b", images=images, mean=(0.5,) * 4, std=(0.25,) * 4)
        self.check(bundle)
        assert bundle.manifest.inputs[0].shape[-1] == 4

    def test_one_sigmoid_channel(self, tmp_path: Path) -> None:
        bundle = export(
            Pixelwise(classes=1), tmp_path / "b", classes=["background", "road"], activation="sigmoid"
        )
        self.check(bundle)


class TestWholeWay:
    def test_a_network_that_ends_in_softmax(self, tmp_path: Path) -> None:
        """As `classic_unet` does."""
        torch.manual_seed(1)
        net = UNet(3, 4, (8, 16), batch_norm=False, upsampling="nearest", activation="softmax")
        with torch.no_grad():
            net.classify.weight *= 40
        with pytest.raises(ExportError, match=r"probabilities already, .*; set activation = 'none'"):
            export(net, tmp_path / "b")
        bundle = export(net, tmp_path / "b", activation="none")
        with pixelrt.load(bundle, precision="float32") as segmenter:
            grid = segmenter(frames(1)[0]).grid
        assert grid is not None
        np.testing.assert_allclose(grid.sum(0), 1, atol=1e-3)

    def test_the_bundle_gives_what_pytorch_gives(self, tmp_path: Path) -> None:
        net = Pixelwise()
        bundle = export(net, tmp_path / "b")
        frame = frames(1, SIZE)[0]
        with pixelrt.load(bundle, backend="openvino", precision="float32") as segmenter:
            mask = segmenter(frame).mask
        assert np.mean(mask == expected_mask(net, frame)) > UNTRAINED

    def test_the_manifest_says_everything(self, tmp_path: Path) -> None:
        bundle = export(Pixelwise(), tmp_path / "road", batch=2, max_images=2)
        manifest = Bundle.open(tmp_path / "road").manifest
        assert manifest == bundle.manifest
        assert (manifest.name, manifest.source.model) == ("road", "Pixelwise")
        assert {"pixelrt", "python", "torch", "onnx", "onnxruntime", "openvino"} <= set(manifest.tools)
        assert manifest.axes["batch"].max == 2
        assert manifest.gate.num_images == 2
        assert not manifest.gate.skipped
        assert manifest.heads[0].grid == (2, 3)
        assert sorted(path.name for path in bundle.path.iterdir()) == [
            "manifest.json",
            "model.onnx",
            "report.html",
            "report.json",
        ]

    def test_the_module_is_left_as_it_was(self, tmp_path: Path) -> None:
        net = Pixelwise().train().double()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        export(net, tmp_path / "b")
        assert net.training
        assert net.norm.training
        assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
        assert {tensor.dtype for name, tensor in before.items() if "num" not in name} == {torch.float64}

    def test_activations_beyond_65504_come_out_right(self, tmp_path: Path) -> None:
        net = Pixelwise(boost=1e5)
        net.norm = nn.Identity()
        with torch.no_grad():
            net.out.weight /= 1e5
        frame = frames(1, SIZE)[0]
        with torch.inference_mode():
            reached = float(net.features(torch.ones(1, 3, *SIZE)).abs().max())
            half = net.half()(torch.ones(1, 3, *SIZE).half())
            net.float()
        assert not half.isfinite().all()  # a network that a plain .half() breaks
        bundle = export(net, tmp_path / "b")
        islands = bundle.manifest.precision.islands
        assert reached > 65504
        assert any("above the limit of 16376 (65504 / 4)" in island.reason for island in islands)
        with pixelrt.load(bundle) as segmenter:
            mask = segmenter(frame).mask
        expected = expected_mask(net, frame)
        assert len(np.unique(expected)) > 1
        assert np.mean(mask == expected) > UNTRAINED

    def test_labels_beside_the_images(self, tmp_path: Path) -> None:
        net = Pixelwise()
        images = frames(3, SIZE)
        folder = write_images(tmp_path / "data" / "images", images)
        write_images(
            tmp_path / "data" / "labels", [expected_mask(net, image).astype(np.uint8) for image in images]
        )
        bundle = export(net, tmp_path / "b", images=folder)
        for check in bundle.manifest.gate.checks:
            assert check.miou is not None
            assert check.miou > 0.95
            assert check.miou_drop == pytest.approx(1 - check.miou, abs=0.01)
        assert bundle.manifest.gate.images == "images"
        for file in (MANIFEST, "report.json", "report.html"):
            assert str(tmp_path) not in (bundle.path / file).read_text()

    def test_labels_beside_a_video_are_not_its_labels(self, tmp_path: Path) -> None:
        """The message would be about labels that nobody named."""
        writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE[::-1])
        for frame in frames(4, SIZE):
            writer.write(frame)
        writer.release()
        (tmp_path / "labels").mkdir()
        (tmp_path / "net.py").write_text(
            "from torch import nn\n\ndef build():\n"
            "    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2))\n"
        )
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(
            '[model]\nentry = "net.py:build"\n[input]\nsize = [64, 96]\n[[head]]\nclasses = ["a", "b"]\n'
            '[gate]\nimages = "clip.avi"\nagreement = 0.9\nmax_images = 2\n'
        )
        bundle = pixelrt_export.export_recipe(recipe, quiet=True)
        assert (bundle.manifest.gate.images, bundle.manifest.gate.num_images) == ("clip.avi", 2)
        assert bundle.manifest.source.model == "net.py:build"
        seconds = json.loads((bundle.path / "report.json").read_text())["seconds"]
        assert list(seconds)[:2] == ["loading PyTorch", "opening the network"]
        for file in (MANIFEST, "report.json", "report.html"):
            assert str(tmp_path) not in (bundle.path / file).read_text()

    def test_arrays_are_spread_as_files_are(self, tmp_path: Path) -> None:
        bundle = export(Pixelwise(), tmp_path / "b", images=frames(5), max_images=2)
        assert json.loads((bundle.path / "report.json").read_text())["images"] == ["images[0]", "images[2]"]
        assert bundle.manifest.gate.images == "arrays://"

    def test_options_may_be_of_numpy(self, tmp_path: Path) -> None:
        bundle = export(
            Pixelwise(),
            tmp_path / "b",
            size=np.array(SIZE),
            mean=np.array([0.4, 0.5, 0.6], np.float32),
            std=[np.float64(0.25)] * 3,
            agreement=np.float64(0.9),
            batch=np.int64(2),
            max_images=np.int32(2),
            classes=np.array(list("abcd")),
            heads={"scene": {"grid": np.array([2, 2])}},
        )
        manifest = bundle.manifest
        assert (manifest.preprocess.size, manifest.gate.agreement) == (SIZE, 0.9)
        assert (manifest.axes["batch"].max, manifest.heads[0].grid) == (2, (2, 2))
        assert manifest.preprocess.mean == pytest.approx((0.4, 0.5, 0.6))

    def test_labels_of_other_classes_are_refused(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "images", frames(1, SIZE))
        (tmp_path / "labels").mkdir()
        labels = np.zeros(SIZE, np.uint8)
        labels[:8], labels[8:16] = 1, 9
        cv2.imwrite(str(tmp_path / "labels" / f"{next(folder.iterdir()).stem}.png"), labels)
        with pytest.raises(
            ExportError, match=r"holds the ids 9, and head 'scene' has 4 classes: 0 to 3, and 4"
        ):
            export(Pixelwise(), tmp_path / "b", images=folder)

    def test_labels_of_each_head(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "images", frames(2, SIZE))
        rng = np.random.default_rng(1)
        for head, count in (("area", 4), ("lanes", 2)):
            labels = [rng.integers(0, count, SIZE, dtype=np.uint8) for _ in range(2)]
            write_images(tmp_path / "truth" / head, labels)
        bundle = export(
            TwoHeads(),
            tmp_path / "b",
            classes={"area": list("abcd"), "lanes": ["background", "lane"]},
            heads={"area": {"output": 0}, "lanes": {"output": 1, "activation": "sigmoid"}},
            images=folder,
            labels=tmp_path / "truth",
            miou_drop=0.05,
        )
        assert all(check.miou is not None for check in bundle.manifest.gate.checks)

    def test_the_drawn_drive_has_labels_for_its_own_classes_alone(self, tmp_path: Path) -> None:
        drive = "test://drive?frames=4&size=96x144&seed=3"
        options: dict[str, Any] = {"images": drive, "max_images": 2, "miou_drop": 0.05}
        with_labels = export(Pixelwise(classes=11), tmp_path / "a", classes="camvid11", **options)
        without = export(Pixelwise(), tmp_path / "b", **options)
        assert all(check.miou is not None for check in with_labels.manifest.gate.checks)
        assert all(check.miou is None for check in without.manifest.gate.checks)
        assert with_labels.manifest.gate.num_images == 2
        names = json.loads((tmp_path / "a" / "report.json").read_text())["images"]
        assert names == ["drive-000000", "drive-000002"]

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_other_precisions(self, tmp_path: Path, precision: str) -> None:
        bundle = export(Pixelwise(), tmp_path / "b", precision=precision, agreement=0.97)
        assert bundle.manifest.precision.requested == precision
        assert pixelrt.load(bundle)(frames(1)[0]).mask is not None

    def test_frames_in_bgr(self, tmp_path: Path) -> None:
        net, frame = Pixelwise(), frames(1, SIZE)[0]
        swapped = np.ascontiguousarray(frame[..., ::-1])
        bundle = export(net, tmp_path / "b", frame_color="bgr", images=[swapped])
        mask = pixelrt.load(bundle, color="bgr", precision="float32")(swapped).mask
        assert np.mean(mask == expected_mask(net, frame)) > UNTRAINED


class TestWithoutGate:
    def test_it_is_recorded(self, tmp_path: Path) -> None:
        bundle = export(Pixelwise(), tmp_path / "b", gate=False)
        assert bundle.manifest.gate.skipped
        assert bundle.manifest.gate.checks == ()
        assert "The gate was skipped" in (bundle.path / "report.html").read_text()
        assert pixelrt.load(bundle)(frames(1)[0]).mask is not None

    def test_fp32_needs_no_images_then(self, tmp_path: Path) -> None:
        bundle = export(Pixelwise(), tmp_path / "b", gate=False, images=None, precision="fp32")
        assert bundle.manifest.precision.layers["fp32"] > 0
        assert "Activations were not measured" in (bundle.path / "report.html").read_text()

    @pytest.mark.parametrize("images", [None, []])
    def test_fp16_needs_images_even_then(self, tmp_path: Path, images: Any) -> None:
        with pytest.raises(
            ExportError, match=r"fp16 needs images, and none were given: .* use the precision fp32"
        ):
            export(Pixelwise(), tmp_path / "b", gate=False, images=images)

    @pytest.mark.parametrize("images", [None, [], np.zeros((0, 8, 8, 3), np.uint8)])
    def test_the_gate_needs_images(self, tmp_path: Path, images: Any) -> None:
        with pytest.raises(
            ExportError,
            match=r"no images were given, and the gate needs some: .*gate=False\) and also set the precision",
        ):
            export(Pixelwise(), tmp_path / "b", images=images)


class TestEngines:
    def test_the_steps_of_tensorrt_are_shown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[tuple[str, int, int]] = []
        phase = Steps.phase

        def recorded(steps: Steps, name: str, step: int, num_steps: int) -> None:
            shown.append((name, step, num_steps))
            phase(steps, name, step, num_steps)

        monkeypatch.setattr(Steps, "phase", recorded)
        bundle = export(Pixelwise(), tmp_path / "b", gate=False)
        target = TargetSection(flavour="tensorrt_rtx", sm=(86,))
        grown = with_engines(bundle, (target,), quiet=True)
        assert [engine.targets for engine in grown.manifest.artifacts if engine.kind == "engine"] == [
            ("sm86",)
        ]
        assert ".engine" in (bundle.path / "report.html").read_text()
        assert {name.partition(":")[0] for name, _, _ in shown} == {"sm86"}
        assert any(step == num_steps for _, step, num_steps in shown)


class TestRefusing:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"agrement": 0.9},
                r"unknown option 'agrement' \(did you mean 'agreement'\?\); known: .*threshold",
            ),
            ({"agreement": 1.5}, "agreement is 1.5; a share from 0 to 1 was expected"),
            ({"precision": "fp61"}, r"precision.type is 'fp61', expected one of .*fp16"),
            ({"size": (64,)}, "size has 1 values, expected 2"),
            ({"classes": "camvid12"}, r"no palette 'camvid12' \(did you mean 'camvid11'\?\)"),
            ({"heads": {"scen": {}}}, r"heads names 'scen', .*did you mean 'scene'"),
            (
                {"heads": {"scene": {"treshold": 0.4}}},
                r"unknown option of head 'scene', 'treshold' \(did you mean 'threshold'\?\)",
            ),
            (
                {"classes": {"a": ["x", "y"], "b": ["x", "y"]}, "output": 0},
                "output = 0 cannot hold for the heads",
            ),
            ({"emit": ["masks"]}, "did you mean 'mask'"),
            (
                {"images": [np.zeros((4, 4), np.uint8)]},
                r"images\[0\] is uint8\[4, 4\], a frame uint8\[H, W, 3\]",
            ),
            ({"images": frames(1, channels=4)}, r"images\[0\] has 4 channels, the network takes 3"),
            ({"labels": "somewhere"}, "labels are a folder, and the images came as arrays"),
        ],
    )
    def test_options(self, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            export(Pixelwise(), tmp_path / "b", **options)
        assert list(tmp_path.iterdir()) == []

    def test_classes_that_are_not_those_of_the_network(self, tmp_path: Path) -> None:
        with pytest.raises(
            ExportError, match=r"'scene' has 4 channels, so 4 classes were expected, .*; 3 given"
        ):
            export(Pixelwise(), tmp_path / "b", classes=["a", "b", "c"])
        with pytest.raises(
            ExportError, match=r"one channel, .* 2 classes were expected, 1 given: .*'background'"
        ):
            export(Pixelwise(classes=1), tmp_path / "b", classes=["road"], activation="sigmoid")

    def test_no_module(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match=r"the model is a dict, a torch.nn.Module was expected"):
            export({}, tmp_path / "b")  # type: ignore[arg-type]

    def test_a_folder_of_something_else_is_refused_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("ten years of work")
        start = time.perf_counter()
        with pytest.raises(BundleError, match="exists and is not a bundle"):
            export(Pixelwise(), tmp_path)
        assert time.perf_counter() - start < 1
        assert (tmp_path / "thesis.tex").read_text() == "ten years of work"

    def test_an_option_is_known_once(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as refused:
            export(Pixelwise(), tmp_path / "b", nonsense=1)
        known = str(refused.value).partition("known: ")[2].split(", ")
        assert len(known) == len(set(known))
        assert {"threshold", "quiet"} <= set(known)

    def test_a_place_that_cannot_be_is_refused_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        start = time.perf_counter()
        with pytest.raises(BundleError, match="file is no folder"):
            export(Pixelwise(), tmp_path / "file" / "b")
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(
            '[model]\nonnx = "nowhere.onnx"\n[input]\nsize = [64, 96]\n[[head]]\nclasses = "camvid11"\n'
        )
        with pytest.raises(BundleError, match="file is no folder"):  # before the network is opened
            pixelrt_export.export_recipe(recipe, tmp_path / "file" / "b", quiet=True)
        assert time.perf_counter() - start < 1

    def test_the_current_folder_may_become_the_bundle(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "road").mkdir()
        monkeypatch.chdir(tmp_path / "road")
        bundle = export(Pixelwise(), Path())
        assert bundle.manifest.name == "road"
        assert Bundle.open(tmp_path / "road").manifest == bundle.manifest

    @pytest.mark.parametrize("num_frames", [0, 3, None])
    def test_a_source_without_frames(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_frames: int | None
    ) -> None:
        """A camera that was pulled out, whatever it said before."""

        class Silent:
            truth_classes = None

            def __init__(self) -> None:
                self.num_frames = num_frames

            def __enter__(self) -> Silent:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def __iter__(self) -> Iterator[object]:
                return iter(())

        monkeypatch.setattr(segmentation, "open_source", lambda *_, **__: Silent())
        with pytest.raises(SourceError, match=r"test://drive gives no frame, at least one was expected"):
            export(Pixelwise(), tmp_path / "b", images="test://drive")

    def test_missing_images(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="nowhere does not exist"):
            export(Pixelwise(), tmp_path / "b", images=tmp_path / "nowhere")

    def test_labels_of_other_proportions(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "images", frames(1, (64, 96)))
        write_images(tmp_path / "labels", [np.zeros((64, 64), np.uint8)])
        with pytest.raises(SourceError, match=r"the label .*00\.png is 64x64, its image is 64x96"):
            export(Pixelwise(), tmp_path / "b", images=folder)

    def test_a_failed_gate_leaves_the_old_bundle(self, tmp_path: Path) -> None:
        old = export(Pixelwise(), tmp_path / "b", gate=False)
        lossy = Pixelwise()
        with torch.no_grad():  # 4000 + x has steps of 2 in half precision
            lossy.norm.bias.fill_(4000.0)
            lossy.out.weight -= lossy.out.weight.mean(dim=1, keepdim=True)
        with pytest.raises(GateFailed, match=r"b did not pass its gate on 3 images"):
            export(lossy, tmp_path / "b")
        assert Bundle.open(tmp_path / "b").manifest == old.manifest
        assert [path.name for path in tmp_path.iterdir()] == ["b"]


PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from pixelrt_export import export  # which loads all libraries: some swallow an interrupt meanwhile
print("ready", flush=True)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.Conv2d(16, 2, 1))
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
export(
    net, sys.argv[1], size=(480, 640), classes=["a", "b"], agreement=0.5, quiet=True,
    images=[np.zeros((480, 640, 3), np.uint8)] * 5000, max_images=int(sys.argv[3]),
)
"""


@contextmanager
def started(out: Path, mode: str, max_images: int) -> Iterator[subprocess.Popen[str]]:
    """A process that exports, its libraries loaded."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(out), mode, str(max_images)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


class TestInterrupted:
    def test_a_full_disk_leaves_nothing(self, tmp_path: Path) -> None:
        """A real refusal of the operating system: no file of this process may grow beyond 2000 bytes."""
        with started(tmp_path / "b", "full", max_images=2) as process:
            _, errors = process.communicate(timeout=200)
        assert process.returncode == 1
        assert (
            f"BundleError: {tmp_path / 'b'} cannot be written (File too large); nothing was changed" in errors
        )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("after_s", [0.2, 2.5, 6.0])
    def test_ctrl_c_leaves_the_old_bundle_and_nothing_else(self, tmp_path: Path, after_s: float) -> None:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / MANIFEST).write_text("old")
        with started(tmp_path / "b", "", max_images=5000) as process:
            time.sleep(after_s)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=100)
        assert process.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in errors
        assert [path.name for path in tmp_path.iterdir()] == ["b"]
        assert [path.read_text() for path in (tmp_path / "b").iterdir()] == ["old"]


class TestPublicNames:
    def test_the_list_is_the_truth(self) -> None:
        for name in pixelrt_export.__all__:
            assert getattr(pixelrt_export, name) is not None
        assert set(pixelrt_export.__all__) <= set(dir(pixelrt_export))
        with pytest.raises(AttributeError, match="has no attribute 'exprot'"):
            pixelrt_export.exprot  # type: ignore[attr-defined]  # noqa: B018

    def test_importing_loads_no_library(self) -> None:
        code = "import pixelrt_export, sys; print([m for m in ('torch', 'onnx', 'cv2') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_the_options_are_those_of_a_recipe(self) -> None:
        from pixelrt_export.recipe import GateSection, HeadSection, InputSection

        known = set(pixelrt_export.ExportOptions.__annotations__)
        assert set(pixelrt_export.HeadOptions.__annotations__) <= set(HeadSection.__dataclass_fields__)
        assert set(InputSection.__dataclass_fields__) - {"size"} <= known
        assert set(GateSection.__dataclass_fields__) - {"images", "skip"} <= known
