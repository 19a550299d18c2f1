"""The training script, run as a user runs it, on a small data set in the CamVid layout."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pixelrt.video.drive import scene

SCRIPT = Path(__file__).parents[2] / "examples" / "train_road_unet.py"
SMALL = (
    *("--epochs", "2", "--batch", "3", "--width", "4", "--drive", "0.3"),
    *("--size", "64", "96", "--crop", "64", "64", "--device", "cpu", "--threads", "1"),
)

Train = Callable[..., None]


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


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """The script as a module, and what it sets as it was: a process starts for longer than it trains here."""
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        yield importlib.import_module("train_road_unet")
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv2_threads)


@pytest.fixture(scope="module")
def train(script: Any, data: Path) -> Train:
    def run(out: Path, *arguments: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(SCRIPT), str(data), "--out", str(out), *SMALL, *arguments])
            script.main()

    return run


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[Any]]:
    """The weights of one run."""
    out = tmp_path_factory.mktemp("whole")
    train(out)
    return weights(out)


def weights(folder: Path) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = load_file(folder / "road-unet.safetensors")
    return tensors


def same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    return all((one[name] == other[name]).all() for name in one)


def test_trains_and_reports_as_a_user_runs_it(
    data: Path, tmp_path: Path, whole: dict[str, NDArray[Any]]
) -> None:
    command = [sys.executable, SCRIPT, data, "--out", tmp_path, *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "test.json").read_text())
    assert 0 <= scores["mIoU"] <= 100
    assert weights(tmp_path)["classify.weight"].shape == (11, 4, 1, 1)
    assert same(weights(tmp_path), whole), "the seed decides them, in another process too"


def test_another_seed_makes_other_weights(
    train: Train, tmp_path: Path, whole: dict[str, NDArray[Any]]
) -> None:
    train(tmp_path, "--seed", "2")
    assert not same(weights(tmp_path), whole)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    script: Any,
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: dict[str, NDArray[Any]],
) -> None:
    class Stopping(script.Run):  # type: ignore[misc]
        def save(self, epoch: int) -> None:
            super().save(epoch)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script, "Run", Stopping)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    with pytest.raises(SystemExit, match="is of a run with --seed 1, now 2"):
        train(tmp_path, "--resume", "--seed", "2")
    train(tmp_path, "--resume")
    assert same(weights(tmp_path), whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "7"], "6 pictures to train on, expected at least one batch (--batch 7)"),
        (["--splits", "trian"], "holds no .jpg or .png; expected the CamVid layout"),
        (["--size", "60", "96", "--epochs", "1"], "--size 60 96: expected multiples of 16"),
        (["--init", "nowhere.safetensors"], "--init: nowhere.safetensors does not exist, expected a file"),
    ],
)
def test_wrong_arguments_are_named(train: Train, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(message)):
        train(tmp_path, *arguments)
