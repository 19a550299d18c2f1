"""The digit trainings: the IDX reader on every kind of file, and both scripts run as a user runs them."""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import runpy
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pixelrt_export.models import VAE

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGES, LABELS = 2051, 2049
VAE_WEIGHTS = EXAMPLES.parent / "engines" / "digits-vae" / "digits-vae.safetensors"
SMALL = (
    *("--epochs", "2", "--batch", "500", "--width", "2", "--latent", "4", "--size", "8", "12"),
    *("--judge-epochs", "1", "--samples", "20", "--device", "cpu", "--threads", "1"),
)


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # where dataclasses and the two scripts look for it
    spec.loader.exec_module(loaded)
    return loaded


training_runs = module("training_runs")
digits = module("digits")


# --- IDX ----------------------------------------------------------------------------------------------------


def idx(magic: int, array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def write_pair(folder: Path, name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(IMAGES, images))
    (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS, labels), 1))


@st.composite
def idx_files(draw: st.DrawFn) -> tuple[int, NDArray[np.uint8]]:
    lengths = st.integers(1, 7)
    images = draw(st.booleans())
    shape = tuple(draw(lengths) for _ in range(3 if images else 1))
    content = draw(st.binary(min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return IMAGES if images else LABELS, np.frombuffer(content, np.uint8).reshape(shape)


@given(idx_files(), st.booleans())
@settings(max_examples=40)
def test_what_was_written_is_read(written: tuple[int, NDArray[np.uint8]], packed: bool) -> None:
    magic, array = written
    content = idx(magic, array)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        found = digits.read_idx(path, magic)
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)


@given(idx_files(), st.data())
@settings(max_examples=60)
def test_another_length_is_refused(written: tuple[int, NDArray[np.uint8]], data: st.DataObject) -> None:
    magic, array = written
    content = idx(magic, array)
    packed = data.draw(st.booleans())
    if packed:
        content = gzip.compress(content, 1)
    length = data.draw(
        st.integers(2 if packed else 0, len(content) + 5).filter(lambda at: at != len(content))
    )
    changed = (content + b"\x01\x02\x03\x04\x05")[:length]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(changed)
        message = "is damaged gzip" if packed else "is cut short|is too long"
        with pytest.raises(SystemExit, match=message):
            digits.read_idx(path, magic)


TWO = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
NAMES = ("a-images-idx3-ubyte", "a-labels-idx1-ubyte")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({NAMES[0]: idx(LABELS, TWO)}, r"a-images\S+ starts with the number 2049, expected 2051"),
        ({NAMES[1]: idx(IMAGES, TWO)}, r"a-labels\S+ starts with the number 2051, expected 2049"),
        ({NAMES[0]: b"\x00\x00\x08"}, "is cut short: 3 bytes, its header alone has 16"),
        ({NAMES[0]: idx(IMAGES, TWO)[:-1]}, r"cut short: 23 bytes after the header, its lengths \[2, 3, 4\]"),
        ({NAMES[1]: idx(LABELS, TWO[0, 0, :2]) + b"\x00"}, "is too long: 3 bytes after the header"),
        ({NAMES[0]: idx(IMAGES, TWO[:0])}, r"is empty: its lengths are \[0, 3, 4\]"),
        ({NAMES[0]: gzip.compress(idx(IMAGES, TWO))[:-9]}, "is damaged gzip"),
        ({NAMES[1]: idx(LABELS, TWO[0, 0, :3])}, r"2 images and \S+ 3 labels; expected as many of each"),
        ({NAMES[1]: None}, "no labels beside it; expected a-labels-idx1-ubyte or a-labels-idx1-ubyte.gz"),
        ({NAMES[0]: None}, "holds no IDX images; expected names such as train-images-idx3-ubyte.gz"),
        ({f"{NAMES[0]}.gz": b"", NAMES[0]: idx(IMAGES, TWO)}, "twice, plain and .gz; remove one"),
        ({f"{NAMES[1]}.gz": b""}, "twice, plain and .gz; remove one"),
        (
            {"b-images": idx(IMAGES, TWO.reshape(2, 4, 3)), "b-labels": idx(LABELS, TWO[0, 0, :2])},
            r"several sizes, \[\(3, 4\), \(4, 3\)\]; expected one size",
        ),
        ({}, "fewer than two digits have the label 0, though the largest label is 1"),
    ],
)
def test_malformed_folders_are_explained(
    tmp_path: Path, files: dict[str, bytes | None], message: str
) -> None:
    sound: dict[str, bytes | None] = {NAMES[0]: idx(IMAGES, TWO), NAMES[1]: idx(LABELS, TWO[0, 0, :2])}
    for name, content in (sound | files).items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        digits.load_digits(tmp_path, (8, 8))


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere is no folder; expected one with IDX files"):
        digits.load_digits(tmp_path / "nowhere", (8, 8))


def test_every_pair_of_a_folder_is_split_once(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    labels = np.repeat(np.arange(3, dtype=np.uint8), 20)
    write_pair(tmp_path, "t10k", images[:20], labels[:20])
    write_pair(tmp_path, "train", images[20:], labels[20:])
    (tmp_path / "README.txt").write_text("not a digit")
    learnt, held_out = digits.load_digits(tmp_path, (8, 8))
    assert (len(learnt), len(held_out), learnt.num_classes) == (54, 6, 3)
    known = {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    for part in (learnt, held_out):
        for image, label in zip(part.images, part.labels, strict=True):
            assert known.pop(image.tobytes()) == label
    assert not known


def test_bundled_digits_use_every_grey_value_and_any_size() -> None:
    small, _ = digits.load_digits(None, (8, 8))
    large, _ = digits.load_digits(None, (12, 20))
    assert (small.images.min(), small.images.max()) == (0, 255)
    assert large.images.shape == (1618, 12, 20)
    assert np.array_equal(small.labels, large.labels)


def test_a_sheet_shows_images_in_rows(tmp_path: Path) -> None:
    images = np.arange(3 * 6, dtype=np.uint8).reshape(3, 2, 3)
    digits.sheet(images, 2, tmp_path / "sheet.png")
    board = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    assert board is not None
    assert board.shape == (2 * 5, 2 * 7)
    shown = board[::2, ::2]
    for at, image in zip(((0, 0), (0, 4), (3, 0)), images, strict=True):
        assert np.array_equal(shown[at[0] : at[0] + 2, at[1] : at[1] + 3], image)
    assert (shown[3:, 4:] == 128).all()


# --- the scripts --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def settings_of_libraries() -> Iterator[None]:
    """The scripts set what belongs to the whole process; they are run in this one to save its imports."""
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv2_threads)


def train(script: str, *arguments: str | Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, SMALL), *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def weights(path: Path) -> dict[str, NDArray[np.float32]]:
    loaded: dict[str, NDArray[np.float32]] = load_file(path)
    return loaded


def test_the_conditional_gan_trains_and_is_judged(tmp_path: Path) -> None:
    script = EXAMPLES / "train_digits_gan.py"
    command = [sys.executable, script, "--out", tmp_path, *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "test.json").read_text())
    assert 0 <= scores["samples of the class asked for %"] <= 100
    assert scores["classifier on held-out digits %"] > 15
    assert 0 < scores["smallest spread"] < 1
    assert scores["distance from the nearest real digit"] > scores["the same of held-out digits"] > 0
    assert weights(tmp_path / "digits-cgan.safetensors")["embed.weight"].shape == (10, 32)
    board = cv2.imread(str(tmp_path / "samples.png"), cv2.IMREAD_GRAYSCALE)
    assert board is not None
    assert board.shape == (2 * (10 * 9 - 1), 2 * (10 * 13 - 1))


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts, other = tmp_path / "whole", tmp_path / "parts", tmp_path / "other"
    for out, seed in ((whole, "1"), (other, "2")):
        train("train_digits_gan.py", "--unconditional", "--out", out, "--seed", seed)
    with monkeypatch.context() as patch:
        patch.setattr(digits.Training, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train("train_digits_gan.py", "--unconditional", "--out", parts)
    for arguments, message in (
        (["--unconditional", "--width", "4"], "last.pt is of a run with --width 2, now 4. Give what"),
        (["--unconditional", "--seed", "2"], "--seed 1, now 2"),
        (["--unconditional", "--epochs", "3"], "--epochs 2, now 3"),
        ([], "--unconditional True, now False"),
    ):
        with pytest.raises(SystemExit, match=message):
            train("train_digits_gan.py", "--out", parts, "--resume", *arguments)
    train("train_digits_gan.py", "--unconditional", "--out", parts, "--resume")
    first, second, third = (weights(out / "digits-dcgan.safetensors") for out in (whole, parts, other))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], third[name]) for name in first)
    scores = json.loads((whole / "test.json").read_text())
    assert sum(scores[f"samples that are a {label} %"] for label in range(10)) == pytest.approx(100, abs=0.1)


def save_and_stop(training: Any, epoch: int, save: Callable[[Any, int], None] = digits.Training.save) -> None:
    save(training, epoch)
    raise KeyboardInterrupt


@pytest.mark.parametrize("loss", [("--loss", "bernoulli"), ("--loss", "mse", "--kl", "0")])
def test_the_vae_learns_to_reconstruct(tmp_path: Path, loss: tuple[str, ...]) -> None:
    errors = []
    for epochs in ("1", "8"):
        out = tmp_path / epochs
        options = ("--lr", "0.01", "--average", "0.8", "--batch", "200", "--epochs", epochs)
        train("train_digits_vae.py", "--out", out, *loss, *options)
        scores = json.loads((out / "test.json").read_text())
        errors.append(scores["squared error per image"])
        assert scores["squared error per pixel"] == pytest.approx(errors[-1] / 96, abs=1e-4)
        assert weights(out / "digits-vae.safetensors")["decoder.synthesis.join.weight"].shape == (1, 2, 3, 3)
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "1800"], r"1618 digits to train on, expected at least one batch \(--batch 1800\)"),
        (["--resume"], "--resume: .*last.pt does not exist; start without --resume"),
        (["--size", "28", "30"], "--size 28 30: expected multiples of 4"),
        (["--init", "nowhere.safetensors"], "--init: nowhere.safetensors does not exist, expected a file"),
        (["--init", str(VAE_WEIGHTS)], "another architecture than VAE.*--size, --width and --latent of this"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        train("train_digits_vae.py", "--out", tmp_path, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: 0, expected at least 1"),
        (["--size", "0", "8"], "argument --size: 0, expected at least 1"),
        (["--seed", "-1"], "argument --seed: -1, expected at least 0 and less than 2^63"),
        (["--average", "3"], "argument --average: 3, expected a number from 0 to 1"),
        (["--average", "nan"], "argument --average: nan, expected a number from 0 to 1"),
        (["--lr", "inf"], "argument --lr: inf, expected a number from 0 on"),
        (["--threads", "-1"], "argument --threads: -1, expected at least 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        train("train_digits_gan.py", "--out", tmp_path / "out", *arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_runs.device("cpu") == "cpu"
    with pytest.raises(argparse.ArgumentTypeError, match="PyTorch finds no GPU here; use cpu"):
        training_runs.device("cuda")


def test_a_run_starts_from_given_weights(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = VAE((8, 12), 1, latent=4, width=2)
    digits.save_weights(network, tmp_path / "start.safetensors")
    options = ("--epochs", "1", "--lr", "0", "--init", tmp_path / "start.safetensors")
    train("train_digits_vae.py", "--out", tmp_path, *options)
    after = weights(tmp_path / "digits-vae.safetensors")
    for name, before in network.named_parameters():
        np.testing.assert_allclose(after[name], before.detach().numpy(), rtol=1e-5)


def test_reconstruction_losses_are_sums_over_an_image() -> None:
    reconstruction_loss = module("train_digits_vae").reconstruction_loss
    logits = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    images = torch.full((2, 1, 4, 4), 0.25)
    probability = torch.tensor([0.5, torch.tensor(2.0).sigmoid()])
    squares = 16 * (probability - 0.25) ** 2
    entropy = -16 * (0.25 * probability.log() + 0.75 * (1 - probability).log())
    torch.testing.assert_close(reconstruction_loss(logits, images, "mse"), squares)
    torch.testing.assert_close(reconstruction_loss(logits, images, "bernoulli"), entropy)
