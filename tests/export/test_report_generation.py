"""The report of a generator: its inputs, its figures and its images, and nothing from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reading import Page
from torch import nn

import pixelrt_export
from pixelrt.bundle import Bundle
from pixelrt.generation.drawing import draw_latents
from pixelrt.manifest import GenerationManifest, LatentInfo

SIZE = (24, 16)
NASTY = "<script>alert('x')</script> & \"co\""
NUM_MASKS = 5

Bytes = NDArray[np.uint8]


class FromAll(nn.Module):
    """A latent, a label, a mask and an image; what it makes of the latent overflows half precision."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.of_latent = nn.Linear(4, 6)
        self.shrink = nn.Conv2d(6, 6, 1)
        self.of_label = nn.Embedding(3, 6)
        self.of_mask = nn.Conv2d(3, 6, 3, padding=1)
        self.of_image = nn.Conv2d(3, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)
        with torch.no_grad():
            self.of_latent.weight *= 1e5
            self.shrink.weight *= 1e-5

    def forward(
        self, latent: torch.Tensor, label: torch.Tensor, mask: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        features = (
            self.shrink(self.of_latent(latent)[:, :, None, None]) + self.of_label(label)[..., None, None]
        )
        return torch.tanh(self.last(features + self.of_mask(mask) + self.of_image(image)))


def given() -> tuple[list[Bytes], list[Bytes]]:
    """Masks and images; the first three rows of the first mask are unlabelled."""
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 3, (NUM_MASKS, 6, 4), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    masks[0, :3] = 255
    return list(masks), list(rng.integers(0, 256, (NUM_MASKS, *SIZE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    masks, images = given()
    return pixelrt_export.export(
        FromAll(),
        tmp_path_factory.mktemp("report") / "out",
        task="generation",
        latent=4,
        label=["cat", NASTY, "dog"],
        mask={"size": SIZE, "classes": [{"name": "road", "color": (9, 99, 200)}, NASTY, "sky"]},
        image={"size": SIZE},
        output={"range": "tanh", "frame_color": "bgr"},
        masks=masks,
        images=images,
        name="<i>net</i>",
        quiet=True,
    )


@pytest.fixture(scope="module")
def text(bundle: Bundle) -> str:
    return (bundle.path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def manifest_of(bundle: Bundle) -> GenerationManifest:
    assert isinstance(bundle.manifest, GenerationManifest)
    return bundle.manifest


class TestPage:
    def test_it_needs_nothing_else_and_names_are_text(self, text: str, page: Page) -> None:
        sources = [value for name, value in page.attributes if name in ("src", "href", "data", "srcset")]
        assert sources
        assert all(source.startswith("data:image/") for source in sources)
        assert "<script" not in text
        assert "url(" not in text
        assert "<i>net" not in text
        assert f"“{NASTY}”" in "".join(page.texts)

    def test_the_figures_are_those_of_the_manifest(self, bundle: Bundle, page: Page) -> None:
        gate = manifest_of(bundle).gate
        assert len(gate.checks) >= 2
        for check in gate.checks:
            backend = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}[check.backend]
            row = page.row(f"{backend}, {check.precision}")
            assert row[1] == ("passed" if check.passed else "not used")
            assert float(row[2]) == pytest.approx(check.psnr, abs=0.005)
            assert float(row[3]) == pytest.approx(check.mean_psnr, abs=0.005)
            assert float(row[4]) == pytest.approx(check.ssim, abs=5e-6)
            assert row[5] == str(check.max_difference)
        required = [check for check in gate.checks if check.precision != "bfloat16"]
        least = min(check.psnr or 0 for check in required)
        assert f"has a PSNR of {least:.2f} dB (40 dB were demanded)" in "".join(page.texts)

    def test_every_input_is_described(self, page: Page) -> None:
        assert page.row("Latent")[1] == "4, normal"
        assert page.row("Label")[1] == f"3 names: cat, {NASTY}, dog"
        assert page.row("Mask, 24 \u00d7 16")[1] == f"road{NASTY}sky"
        assert page.row("Image")[1].startswith(
            "3 channels, RGB, resized to 24 \u00d7 16; normalised with mean"
        )
        assert page.row("Bytes")[1].startswith("0 to 255 stand for -1 to 1; rounded half to even")
        assert "the same inputs: latent, label, mask, image, from " in "".join(page.texts)
        assert "; what is random is drawn from seed 0." in "".join(page.texts)
        assert ("style", "background:rgb(9,99,200)") in page.attributes

    def test_layers_that_stay_exact_have_their_reason(self, bundle: Bundle, page: Page) -> None:
        islands = manifest_of(bundle).precision.islands
        assert islands
        for island in islands:
            assert any(row[0] == island.layer and row[4] == island.reason for row in page.rows)

    def test_every_contender_is_shown_with_its_difference(self, bundle: Bundle, page: Page) -> None:
        named = [value for name, value in page.attributes if name == "alt"]
        shots = [value for value in named if value.startswith("Mask of ")]
        assert 3 <= len(shots) <= NUM_MASKS
        num_runs = len(manifest_of(bundle).gate.checks)
        assert len(named) == len(shots) * (3 + 2 * num_runs)  # mask, image, original; each run twice
        assert "Difference of ONNX Runtime, float16 of masks[0]" in named
        said = "".join(page.texts)
        assert re.search(r"masks\[\d\]: “.*”;.* worst PSNR[a-zA-Z ]* of ONNX Runtime, float16", said)
        assert re.search(r"difference from PyTorch's, \d+ times as large as it is", said)

    def test_pictures_show_colours_as_they_are(self, bundle: Bundle, page: Page) -> None:
        """Bytes come out as BGR, and the page shows what PyTorch makes, as RGB."""
        pictures = dict(zip(alternatives(page), uris(page), strict=True))
        section = manifest_of(bundle).image
        assert section is not None
        masks, images = given()
        latent = draw_latents(LatentInfo(size=(4,), distribution="normal"), 0, [0])
        one_hot = torch.from_numpy(masks[0] == np.arange(3)[:, None, None]).float()[None]
        pixels = torch.from_numpy(images[0]).permute(2, 0, 1).float()[None] / 255
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (section.mean, section.std))
        with torch.inference_mode():
            made = FromAll()(torch.from_numpy(latent), torch.tensor([0]), one_hot, (pixels - mean) / std)
        expected = (255 * (made[0].permute(1, 2, 0).numpy() + 1) / 2).round()
        shown = decoded(pictures["PyTorch, FP32 of masks[0]"])
        assert np.abs(shown - expected).max() <= 1
        mask = decoded(pictures["Mask of masks[0]"])
        assert (mask[:3] == 0).all()  # unlabelled
        assert (mask[3:] == (9, 99, 200)).all(axis=2).any()


def alternatives(page: Page) -> list[str]:
    return [value for name, value in page.attributes if name == "alt"]


def uris(page: Page) -> list[str]:
    return [value for name, value in page.attributes if name == "src"]


def decoded(uri: str) -> Bytes:
    content = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


class TestJson:
    def test_it_has_the_figures_of_each_contender(self, bundle: Bundle) -> None:
        data = json.loads((bundle.path / "report.json").read_text())
        assert data["schema"] == 1
        assert data["samples"] == [f"masks[{index}]" for index in range(NUM_MASKS)]
        assert data["gate"] == json.loads(json.dumps(dataclasses.asdict(bundle.manifest.gate)))
        for check, contender in zip(data["gate"]["checks"], data["contenders"], strict=True):
            assert (contender["backend"], contender["precision"]) == (check["backend"], check["precision"])
            assert min(contender["psnr_per_image"]) == check["psnr"]
            assert min(contender["ssim_per_image"]) == check["ssim"]
            assert max(contender["max_difference_per_image"]) == check["max_difference"]
        assert -1 <= data["original"]["least"] < data["original"]["most"] <= 1


def test_what_is_odd_is_said_where_it_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the terminal, at the top of the page in amber, and in report.json; never in `quiet` terminals."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
    said = "none below 0, and range = 'tanh' stands for -1 to 1"
    for quiet in (False, True):
        bundle = pixelrt_export.export(
            network, tmp_path / "out", task="generation", latent=4, output="tanh", samples=2, quiet=quiet
        )
        errors = capsys.readouterr().err
        assert (said in errors) is not quiet
        assert ("\nwarning: the original gives values from 0." in errors) is not quiet
        text = (bundle.path / "report.html").read_text(encoding="utf-8")
        texts = Page(text).texts
        (told,) = (index for index, line in enumerate(texts) if said in line)
        assert texts[told - 1] == "Warning"
        assert told < texts.index("Gate")
        assert 'class="verdict warn notes"' in text
        (note,) = json.loads((bundle.path / "report.json").read_text())["notes"]
        assert said in note


def test_a_gate_that_was_skipped_is_said_to_be(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)), nn.Sigmoid())
    made = pixelrt_export.export(
        net, tmp_path / "out", task="generation", latent=3, output="sigmoid", gate=False, quiet=True
    )
    page = Page((made.path / "report.html").read_text(encoding="utf-8"))
    said = "".join(page.texts)
    assert "The gate was skipped" in said
    assert "Nobody has checked that this bundle gives the images of the PyTorch network." in said
    assert not uris(page)
    assert json.loads((made.path / "report.json").read_text())["contenders"] == []
