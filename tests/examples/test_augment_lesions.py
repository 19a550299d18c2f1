"""The experiment from its command line to its sentence, and what its parts promise."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.errors import GateFailed

EXAMPLES = Path(__file__).parents[2] / "examples"
ARMS = ["trivial", "real", "real, varied", "synthetic", "real + synthetic", "real + new real"]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module, and the settings of libraries as they were."""
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("augment_lesions")
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv2_threads)


def test_the_whole_experiment(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deploy = script.deploy

    def deployed(painter: Any, real: Any, tissue: Any, folder: Path) -> pixelrt.Generator:
        """The export takes most of the time: the first seed's painter stands for both."""
        first = tmp_path / "painter-1"
        return (
            pixelrt.load(first, task="generation")
            if first.is_dir()
            else deploy(painter, real, tissue, folder)
        )

    with pytest.MonkeyPatch.context() as patch:
        words = ["--quick", "--threads", "1", "--out", str(tmp_path)]
        patch.setattr("sys.argv", ["augment_lesions.py", *words])
        patch.setattr(script, "deploy", deployed)
        script.main()
    found = json.loads((tmp_path / "lesions.json").read_text())
    assert list(found["scores"]) == ARMS
    for name in ARMS:
        scores = [run[name]["dice"] for run in found["runs"]]
        assert all(0 <= score <= 1 for score in scores)
        assert found["scores"][name]["dice"]["mean"] == pytest.approx(np.mean(scores), abs=1e-4)
    first, second = (run["real + synthetic"]["dice"] - run["real, varied"]["dice"] for run in found["runs"])
    gain = found["dice_gained_by_synthetic"]
    assert gain["mean"] == pytest.approx((first + second) / 2, abs=1e-4)
    assert gain["high"] - gain["mean"] == pytest.approx(12.71 * abs(first - second) / 2, abs=1e-3)
    assert found["meaning"] in capsys.readouterr().out
    manifest = Bundle.open(tmp_path / "painter-1").generation
    assert not manifest.gate.skipped
    assert (manifest.latent is not None, manifest.mask is not None, manifest.image is not None) == (True,) * 3
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (8 * 2 * 34, 7 * 2 * 34, 3)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.02, 0.03, 0.02], "synthetic pictures helped"),
        ([-0.02, -0.03, -0.02], "synthetic pictures did not help, they did harm"),
        ([0.05, -0.01, 0.02], "cannot tell whether synthetic pictures help"),
    ],
)
def test_what_is_said_follows_from_the_interval(script: ModuleType, gains: list[float], verdict: str) -> None:
    runs = [
        {"real, varied": script.Score(0.5, 0.3), "real + synthetic": script.Score(0.5 + gain, 0.3)}
        for gain in gains
    ]
    found = script.difference(runs, "real + synthetic")
    margin = 4.30 * np.std(gains, ddof=1) / 3**0.5
    assert found["low"] == pytest.approx(np.mean(gains) - margin, abs=1e-4)
    assert script.meaning(found, found, 3).startswith(f"{verdict}: Dice over")


def test_pictures_depend_on_seed_and_index_alone(script: ModuleType) -> None:
    draw = script.lesions.draw_pictures
    three, five, other = draw(3, 32, 4), draw(5, 32, 4), draw(3, 32, 5)
    assert np.array_equal(three.images, five.images[:3])
    assert not np.array_equal(three.images, other.images)
    assert set(np.unique(five.masks)) == {0, 1}


def test_lesions_can_be_seen_and_painted_over(script: ModuleType) -> None:
    """A lesion changes the picture where it is; what is painted over it is nearer to the tissue around."""
    one = script.lesions.draw_picture
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 10:24] = 1
    with_one = np.stack([one(mask, np.random.default_rng((1, i))) for i in range(8)]).astype(float)
    pictures = script.Pictures(with_one.astype(np.uint8), np.stack([mask] * 8))
    over = script.without_lesions(pictures)
    inside, far = mask > 0, cv2.dilate(mask, np.ones((9, 9), np.uint8)) == 0
    contrast = [abs(image[inside].mean() - image[far].mean()) for image in with_one]
    left = [abs(image[inside].mean() - image[far].mean()) for image in over.astype(float)]
    assert np.mean(left) < 0.8 * np.mean(contrast)
    assert np.array_equal(over[:, far], with_one[:, far])


def test_the_painter_leaves_alone_what_is_far_from_lesions(script: ModuleType) -> None:
    networks: Any = importlib.import_module("lesion_networks")
    torch.manual_seed(0)
    painter = networks.LesionPainter(4).eval()
    mask, image = torch.zeros(1, 2, 32, 32), torch.rand(1, 3, 32, 32) * 2 - 1
    mask[:, 1, 10:16, 10:16] = 1
    with torch.inference_mode():
        first, second = (painter(torch.full((1, 8), style), mask, image) for style in (0.0, 1.0))
    changed = (first - image).abs().amax(dim=(0, 1)) > 1e-6
    assert changed[10:16, 10:16].all()
    assert not changed[:5].any()
    assert (first - second).abs().max() > 1e-4


def test_a_painter_that_fails_its_gate_is_a_message(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object) -> None:
        raise GateFailed("PSNR 20.0 dB, expected 40")

    monkeypatch.setattr("sys.argv", ["augment_lesions.py", "--quick", "--out", str(tmp_path)])
    monkeypatch.setattr(script, "synthetic", failed)
    with pytest.raises(SystemExit, match=r"^PSNR 20.0 dB, expected 40$"):
        script.main()
    assert not (tmp_path / "lesions.json").exists()


@pytest.mark.parametrize("words", [["--size", "50"], ["--batch", "3"], ["--seeds", "1"]])
def test_wrong_arguments_are_named(
    script: ModuleType, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["augment_lesions.py", *words])
    with pytest.raises(SystemExit):
        script.parse_arguments()
    assert "expected a multiple of 8, an even number and 2..10" in capsys.readouterr().err
