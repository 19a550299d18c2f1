"""The training script, run as a user runs it, on a small data set in the CamVid layout."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
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


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which has to be stopped between two epochs."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    script: Any = importlib.import_module("train_road_unet")
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()

    def run(out: Path, *arguments: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [str(SCRIPT), *map(str, (data, "--out", out, *SMALL)), *arguments])
            script.main()

    class Stopping(script.Run):  # type: ignore[misc, name-defined]
        def save(self, epoch: int) -> None:
            super().save(epoch)
            raise KeyboardInterrupt

    try:
        run(tmp_path / "whole")
        with monkeypatch.context() as patch:
            patch.setattr(script, "Run", Stopping)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "parts")
        with pytest.raises(SystemExit, match="is of a run with --seed 1, now 2"):
            run(tmp_path / "parts", "--resume", "--seed", "2")
        run(tmp_path / "parts", "--resume")
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv2_threads)
    first, second = (load_file(tmp_path / name / "road-unet.safetensors") for name in ("whole", "parts"))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "7"], "6 pictures to train on, expected at least one batch (--batch 7)"),
        (["--splits", "trian"], "holds no .jpg or .png; expected the CamVid layout"),
        (["--size", "60", "96", "--epochs", "1"], "--size 60 96: expected multiples of 16"),
        (["--init", "nowhere.safetensors"], "--init: nowhere.safetensors does not exist, expected a file"),
    ],
)
def test_wrong_arguments_are_named(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = train(data, "--out", tmp_path, *SMALL, *arguments)
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
