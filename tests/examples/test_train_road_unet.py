"""The training script, run as a user runs it, on a small data set in the CamVid layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from safetensors.numpy import load_file

from pixelrt.video.drive import scene

SCRIPT = Path(__file__).parents[2] / "examples" / "train_road_unet.py"
SMALL = (
    *("--epochs", "2", "--batch", "3", "--width", "4", "--drive", "0.3"),
    *("--size", "64", "96", "--crop", "64", "64", "--device", "cpu", "--threads", "1"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("camvid")
    for offset, split in enumerate(("train", "val", "test")):
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "labels").mkdir()
        for index in range(6):
            image, labels = scene(10 * offset + index, (72, 96))
            cv2.imwrite(str(folder / split / "images" / f"{index}.jpg"), image[..., ::-1])
            cv2.imwrite(str(folder / split / "labels" / f"{index}.png"), labels)
    return folder


def train(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_trains_and_reports(data: Path, tmp_path: Path) -> None:
    done = train(data, "--out", tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "test.json").read_text())
    assert 0 <= scores["mIoU"] <= 100
    assert load_file(tmp_path / "road-unet.safetensors")["classify.weight"].shape == (11, 4, 1, 1)


def test_the_seed_decides_the_weights(data: Path, tmp_path: Path) -> None:
    whole, again, other = tmp_path / "whole", tmp_path / "again", tmp_path / "other"
    for out, seed in ((whole, "1"), (again, "1"), (other, "2")):
        done = train(data, "--out", out, "--splits", "train", "val", "--seed", seed, *SMALL)
        assert done.returncode == 0, done.stderr
    first, second, third = (load_file(out / "road-unet.safetensors") for out in (whole, again, other))
    assert all((first[name] == second[name]).all() for name in first)
    assert any((first[name] != third[name]).any() for name in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "7"], "6 pictures to train on, expected at least one batch (--batch 7)"),
        (["--splits", "trian"], "holds no .jpg or .png; expected the CamVid layout"),
        (["--size", "60", "96", "--epochs", "1"], "--size 60 96: expected multiples of 16"),
    ],
)
def test_wrong_arguments_are_named(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = train(data, "--out", tmp_path, *SMALL, *arguments)
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
