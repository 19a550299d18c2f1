"""The report of masks: complete, self-contained, escaped, and honest in its numbers."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from reading import Page
from torch import nn

import pixelrt_export
from pixelrt.bundle import Bundle
from pixelrt.bundle_report import refresh_report, report_refreshed
from pixelrt.errors import BuildError
from pixelrt.manifest import Artifact
from pixelrt_export.report.words import percent

SIZE = (48, 64)
NASTY = "<script>alert('x')</script> & \"co\""


class Two(nn.Module):
    """Two heads; the first overflows half precision on its way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.area = nn.Conv2d(8, 3, 1)
        self.lane = nn.Conv2d(8, 1, 1)
        with torch.no_grad():
            self.body.weight *= 1e5
            self.area.weight *= 1e-4
            self.lane.weight *= 1e-4

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.relu(self.body(image))
        return self.area(features), self.lane(features)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(4)
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for index in range(6):
        coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        image = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(folder / "images" / f"{index} & <b>.png"), image)
        labels = rng.integers(0, 3, SIZE, dtype=np.uint8)
        assert cv2.imwrite(str(folder / "labels" / f"{index} & <b>.png"), labels)
    return pixelrt_export.export(
        Two(),
        folder / "out",
        size=SIZE,
        classes={"area": ["road", NASTY, "sky"], "lane": ["none", "lane"]},
        heads={"area": {"output": 0}, "lane": {"output": 1, "activation": "sigmoid", "threshold": 0.3}},
        images=folder / "images",
        name="<i>net</i>",
        agreement=0.98,
        miou_drop=0.05,
        quiet=True,
    )


@pytest.fixture(scope="module")
def text(bundle: Bundle) -> str:
    return (bundle.path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


class TestPage:
    def test_it_needs_nothing_else(self, text: str, page: Page) -> None:
        sources = [value for name, value in page.attributes if name in ("src", "href", "data", "srcset")]
        assert sources
        assert all(source.startswith("data:image/") for source in sources)
        assert "<script" not in text
        assert "url(" not in text
        assert "@import" not in text
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert ("content", policy) in page.attributes

    def test_names_are_text(self, text: str, page: Page) -> None:
        assert NASTY in "".join(page.texts)
        assert "<i>net" not in text
        assert "0 & <b>.png" in page.texts
        assert "<b>.png" not in text

    def test_light_dark_phone_and_paper(self, text: str) -> None:
        for needed in (
            "color-scheme: light dark",
            "prefers-color-scheme: dark",
            "@media print",
            "max-width: 52rem",
        ):
            assert needed in text
        assert 'name="viewport" content="width=device-width, initial-scale=1"' in text

    def test_the_figures_are_those_of_the_manifest(self, bundle: Bundle, page: Page) -> None:
        for check in bundle.manifest.gate.checks:
            backend = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}[check.backend]
            rows = [
                row for row in page.rows if row[0] == f"{backend}, {check.precision}" and check.head in row
            ]
            assert len(rows) == 1
            assert rows[0][1] == ("passed" if check.passed else "not used")
            assert rows[0][3] == percent(check.agreement)
            assert rows[0][4] == f"{100 * (check.miou or 0):.2f}" if check.miou is not None else rows[0][4]

    def test_every_class_has_its_iou_and_its_colour(self, bundle: Bundle, text: str, page: Page) -> None:
        num_runs = len({check.precision for check in bundle.manifest.gate.checks})
        row = page.row("road")
        assert len(row) == 3 + num_runs  # name, share, PyTorch, and each contender
        assert all(0 <= float(cell) <= 100 for cell in row[1:])
        for info in bundle.segmentation.heads[0].classes:
            assert f"background:rgb({info.color[0]},{info.color[1]},{info.color[2]})" in text

    def test_every_layer_is_there_with_its_reason(self, bundle: Bundle, page: Page) -> None:
        layers = json.loads((bundle.path / "report.json").read_text())["layers"]
        assert len(layers) >= 4
        for layer in layers:
            assert any(row[0] == layer["layer"] and row[4] == layer["why"] for row in page.rows)
        assert any("above the limit of 16376" in cell for row in page.rows for cell in row)

    def test_the_pictures_are_pictures(self, page: Page) -> None:
        uris = [value for name, value in page.attributes if name == "src"]
        assert len(uris) % 4 == 0
        assert len(uris) >= 4 * 3 * 2
        for uri in uris:
            content = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
            assert cv2.imdecode(content, cv2.IMREAD_COLOR).shape == (*SIZE, 3)

    def test_versions_and_checkpoint(self, bundle: Bundle, page: Page) -> None:
        versions = page.row("Versions")[1]
        assert all(f"{name} {version}" in versions for name, version in bundle.manifest.tools.items())


class TestJson:
    def test_it_has_the_figures_of_each_contender(self, bundle: Bundle) -> None:
        data = json.loads((bundle.path / "report.json").read_text())
        assert data["schema"] == 1
        assert len(data["images"]) == 6
        gate = json.loads(json.dumps(dataclasses.asdict(bundle.manifest.gate)))
        assert data["gate"] == gate
        for check, contender in zip(gate["checks"], data["contenders"], strict=True):
            assert contender["agreement"] == check["agreement"]
            assert np.mean(contender["agreement_per_image"]) == pytest.approx(check["agreement"])
            iou = contender["iou_against_labels"]
            assert (check["miou"] is None) == (iou is None) == (check["head"] == "lane")
            assert iou is None or np.mean(iou) == pytest.approx(check["miou"])
        assert set(data["original"]) == {"area", "lane"}
        assert "gate: the original in FP32" in data["seconds"]


class TestRefreshing:
    def test_engines_that_are_added_later_are_listed(self, bundle: Bundle, text: str) -> None:
        engine = Artifact(
            file="a<b.engine",
            kind="engine",
            sha256="",
            size_bytes=0,
            flavour="tensorrt_rtx",
            version="1.7",
            targets=("sm86", "sm89"),
            build_seconds=0.34,
            layers={"fp16": 30, "fp32": 2},
            layers_from="engine",
        )
        grown = bundle.add_engine(b"plan" * 1000, engine)
        assert refresh_report(grown)
        page = Page((bundle.path / "report.html").read_text(encoding="utf-8"))
        row = page.row("a<b.engine")
        assert row[1:3] == ["engine, tensorrt_rtx 1.7", "sm86, sm89"]
        assert "30 fp16" in row[3].lower()
        assert row[4:6] == ["4.0 kB", "0.3 s"]
        assert page.row("model.onnx")
        after = (bundle.path / "report.html").read_text(encoding="utf-8")
        assert re.sub(r"<!-- files -->.*<!-- end of files -->", "", after) == re.sub(
            r"<!-- files -->.*<!-- end of files -->", "", text
        )

    def test_an_error_is_not_hidden_by_one_of_the_report(self, bundle: Bundle, tmp_path: Path) -> None:
        shutil.copytree(bundle.path, tmp_path / "b")
        copy = Bundle.open(tmp_path / "b")
        with pytest.raises(BuildError, match="the cause"), report_refreshed(copy):
            (copy.path / "manifest.json").unlink()
            raise BuildError("the cause")

    def test_engines_of_a_build_that_ended_in_an_error_are_listed(
        self, bundle: Bundle, tmp_path: Path
    ) -> None:
        shutil.copytree(bundle.path, tmp_path / "b")
        copy, report = Bundle.open(tmp_path / "b"), tmp_path / "b" / "report.html"
        before = report.stat().st_ino
        with report_refreshed(copy):
            pass
        assert report.stat().st_ino == before  # nothing was added, nothing is written
        engine = Artifact(
            file="first.engine", kind="engine", sha256="", size_bytes=0, flavour="tensorrt_rtx", version="1.7"
        )
        with pytest.raises(BuildError, match="the second one"), report_refreshed(copy):
            copy.add_engine(b"plan" * 1000, engine)
            raise BuildError("the second one")
        assert "first.engine" in report.read_text(encoding="utf-8")

    def test_a_bundle_without_a_report_is_left_alone(self, bundle: Bundle, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text(bundle.manifest.to_json())
        alone = Bundle.open(tmp_path)
        assert not refresh_report(alone)
        (tmp_path / "report.html").write_text("<p>of another kind</p>")
        assert not refresh_report(alone)
        assert (tmp_path / "report.html").read_text() == "<p>of another kind</p>"
