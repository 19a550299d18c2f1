"""What the two digit trainings share: IDX files, the training loop, sample sheets and a judge of digits."""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from training_runs import (
    add_machine,
    load_run,
    natural,
    positive,
    prepare_run,
    refuse_others,
    save_run,
    settings,
    share,
)

from pixelrt.dependency import require
from pixelrt.terminal import console
from pixelrt_export.models.dcgan import STRIDE

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049  # type and number of dimensions, in an IDX file's first four bytes
HELD_OUT = 10  # one digit in so many is never trained on

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


# --- data ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Grey images, uint8[N, H, W], and their classes, int64[N]."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """One more than the largest class."""
        return int(self.labels.max()) + 1

    def take(self, which: NDArray[np.int64]) -> Digits:
        """The digits at these positions."""
        return Digits(self.images[which], self.labels[which])


def load_digits(folder: Path | None, size: tuple[int, int]) -> tuple[Digits, Digits]:
    """Digits to train on and digits held out, at height and width `size`.

    One in ten is held out, the same ones in every run whatever its seed, so that a run which starts from the
    weights of another has not seen them.
    """
    digits = bundled_digits() if folder is None else read_folder(folder)
    missing = np.flatnonzero(np.bincount(digits.labels) < 2)
    if len(missing):
        raise SystemExit(
            f"fewer than two digits have the label {missing[0]}, though the largest label is "
            f"{digits.num_classes - 1}; expected labels 0, 1, 2 and so on, without gaps"
        )
    digits = Digits(np.stack([resized(image, size) for image in digits.images]), digits.labels)
    order = np.random.default_rng(0).permutation(len(digits))
    held_out = max(1, len(digits) // HELD_OUT)
    return digits.take(order[held_out:]), digits.take(order[:held_out])


def bundled_digits() -> Digits:
    """The 1,797 digits of 8x8 pixels that come with scikit-learn (Alpaydin and Kaynak, UCI, CC BY 4.0)."""
    datasets = require("sklearn.datasets", "dev", "training without a folder of IDX files")
    images, labels = datasets.load_digits(return_X_y=True)
    grey = np.clip(images.reshape(-1, 8, 8) * (255 / 16), 0, 255).astype(np.uint8)  # they are 0..16
    return Digits(grey, labels.astype(np.int64))


def resized(image: Images, size: tuple[int, int]) -> Images:
    """A grey image at another height and width."""
    if image.shape == tuple(size):
        return image
    smaller = size[0] < image.shape[0]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(image, (size[1], size[0]), interpolation=interpolation).astype(np.uint8)


def read_folder(folder: Path) -> Digits:
    """Every pair of IDX files of a folder, joined.

    Images are the files with "images" in their name, as in `train-images-idx3-ubyte.gz`; the labels of one
    have the same name with "labels", and `idx1` for `idx3`. Either may be compressed with gzip.
    """
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder; expected one with IDX files, see --help")
    found = sorted(path for path in folder.iterdir() if "images" in path.name and path.is_file())
    if not found:
        raise SystemExit(f"{folder} holds no IDX images; expected names such as train-images-idx3-ubyte.gz")
    pairs = [read_pair(path, labels_of(path)) for path in found]
    sizes = {pair.images.shape[1:] for pair in pairs}
    if len(sizes) > 1:
        raise SystemExit(f"{folder} holds images of several sizes, {sorted(sizes)}; expected one size")
    return Digits(
        np.concatenate([pair.images for pair in pairs]), np.concatenate([pair.labels for pair in pairs])
    )


def labels_of(images: Path) -> Path:
    """The file of labels that belongs to a file of images."""
    name = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    found = [path for path in (images.with_name(name), images.with_name(f"{name}.gz")) if path.is_file()]
    if not found:
        raise SystemExit(f"{images} has no labels beside it; expected {name} or {name}.gz")
    if len(found) > 1 or images.with_name(f"{images.name}.gz").exists():
        raise SystemExit(f"{images.parent} holds {name} or its images twice, plain and .gz; remove one")
    return found[0]


def read_pair(images_path: Path, labels_path: Path) -> Digits:
    """One file of images and its file of labels."""
    images = read_idx(images_path, IMAGES_MAGIC)
    labels = read_idx(labels_path, LABELS_MAGIC)
    if len(images) != len(labels):
        raise SystemExit(
            f"{images_path} holds {len(images)} images and {labels_path} {len(labels)} labels; "
            "expected as many of each"
        )
    return Digits(images, labels.astype(np.int64))


def read_idx(path: Path, magic: int) -> Images:
    """Read an IDX file of bytes, plain or gzip.

    The format (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"): a magic number whose
    last byte is the number of dimensions, that many lengths, both as big-endian 32-bit integers, the bytes.

    Args:
        path: The file.
        magic: The magic number expected: 2051 for images, 2049 for labels.

    Returns:
        uint8[N, H, W] for images, uint8[N] for labels; none of the lengths is 0.
    """
    content = uncompressed(path)
    found = int.from_bytes(content[:4], "big")
    if len(content) >= 4 and found != magic:
        raise SystemExit(f"{path} starts with the number {found}, expected {magic}; is it another IDX file?")
    dimensions = magic & 0xFF
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise SystemExit(f"{path} is cut short: {len(content)} bytes, its header alone has {header}")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    if math.prod(shape) == 0:
        raise SystemExit(f"{path} is empty: its lengths are {shape}, expected none to be 0")
    if len(content) - header != math.prod(shape):
        state = "is cut short" if len(content) - header < math.prod(shape) else "is too long"
        raise SystemExit(
            f"{path} {state}: {len(content) - header} bytes after the header, its lengths {shape} "
            f"ask for {math.prod(shape)}; download it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def uncompressed(path: Path) -> bytes:
    """The bytes of a file, unpacked where it is gzip by its first two bytes."""
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise SystemExit(f"{path} is damaged gzip ({problem}); download it again") from problem


def sheet(images: Images, columns: int, path: Path) -> None:
    """Write grey images, uint8[N, H, W], side by side as one PNG, each pixel twice as large."""
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[1] + 1, images.shape[2] + 1
    board = np.full((rows * height - 1, columns * width - 1), 128, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        board[top : top + height - 1, left : left + width - 1] = image
    cv2.imwrite(str(path), np.repeat(np.repeat(board, 2, 0), 2, 1))


# --- training -----------------------------------------------------------------------------------------------


def parser_of(description: str | None, out: str) -> argparse.ArgumentParser:
    """The arguments that both scripts take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data",
        type=Path,
        nargs="?",
        help="folder of IDX files; left out: scikit-learn's 8x8 digits, enlarged",
    )
    parser.add_argument("--out", type=Path, default=Path(out), help="folder for the results (%(default)s)")
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        default=(28, 28),
        metavar=("H", "W"),
        help=f"of the images written, in pixels, multiples of {STRIDE} (28 28)",
    )
    parser.add_argument(
        "--width", type=positive, default=32, help="channels of the network at full size (%(default)s)"
    )
    parser.add_argument("--batch", type=positive, default=64, help="digits of a step (%(default)s)")
    parser.add_argument(
        "--average", type=share, default=0.999, help="decay per step of the averaged weights (%(default)s)"
    )
    parser.add_argument(
        "--judge-epochs",
        type=positive,
        default=12,
        help="epochs of the classifier that judges (%(default)s)",
    )
    parser.add_argument("--seed", type=natural, default=1, help="of weights, order and noise (%(default)s)")
    parser.add_argument("--init", type=Path, help="start from these weights (.safetensors)")
    parser.add_argument(
        "--resume", action="store_true", help="continue from OUT/last.pt, with the options of its run"
    )
    add_machine(parser)
    return parser


def prepare(options: argparse.Namespace) -> None:
    """Check the size; then as `prepare_run`."""
    if any(length < STRIDE or length % STRIDE for length in options.size):
        raise SystemExit(f"--size {options.size[0]} {options.size[1]}: expected multiples of {STRIDE}")
    prepare_run(options)


class Training(ABC):
    """One run: everything that changes while training, saved after every epoch so that it can be resumed.

    Args:
        options: The command line.
        digits: What is trained on.
        network: What is shipped; its weights are averaged while training.
    """

    def __init__(self, options: argparse.Namespace, digits: Digits, network: nn.Module) -> None:
        if len(digits) < options.batch:
            raise SystemExit(
                f"{len(digits)} digits to train on, expected at least one batch (--batch {options.batch})"
            )
        self.options, self.digits, self.start = options, digits, 0
        self.schedules: list[torch.optim.lr_scheduler.LambdaLR] = []
        self.network = network.to(options.device, memory_format=torch.channels_last)
        averaging = partial(moving_average, options.average)
        self.average = AveragedModel(self.network, avg_fn=averaging, use_buffers=True)
        self.state: dict[str, Any] = {"network": self.network, "average": self.average}

    @abstractmethod
    def step(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """One gradient step on float[N, 1, H, W] images in 0..1 and int64[N] labels: the losses."""

    @abstractmethod
    def samples(self) -> tuple[Images, int]:
        """Images for the sheet, uint8[N, H, W], and how many of them stand side by side."""

    def optimizer(self, name: str, module: nn.Module, beta: float = 0.9) -> torch.optim.Optimizer:
        """Adam, whose rate falls to zero over the second half of the run."""
        options = self.options
        optimizer = torch.optim.Adam(module.parameters(), lr=options.lr, betas=(beta, 0.999))
        steps = options.epochs * (len(self.digits) // options.batch)
        self.schedules.append(
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: min(1.0, 2 - 2 * at / steps))
        )
        self.state |= {name: optimizer, f"{name} schedule": self.schedules[-1]}
        return optimizer

    def run(self) -> nn.Module:
        """Train to the last epoch and return the network with averaged weights."""
        if self.options.resume:
            self.restore()
        for epoch in range(self.start, self.options.epochs):
            began = time.monotonic()
            losses = self.epoch(epoch)
            self.average.eval()
            images, columns = self.samples()
            sheet(images, columns, self.options.out / "samples.png")
            self.save(epoch)
            named = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
            took = time.monotonic() - began
            console().print(f"epoch {epoch + 1}/{self.options.epochs} {named} {took:.0f} s")
        return self.average.module.eval()

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train on every digit once and return the mean losses.

        An epoch's chance depends on the seed and its number alone: a resumed run learns the same.
        """
        rng = np.random.default_rng((self.options.seed, epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        self.network.train()
        found: list[dict[str, float]] = []
        order = batches(rng.permutation(len(self.digits)), self.options.batch)
        for which in track(order, f"epoch {epoch + 1}", console=console(), transient=True):
            images = torch.from_numpy(self.digits.images[which]).to(self.options.device)
            labels = torch.from_numpy(self.digits.labels[which]).to(self.options.device)
            found.append(self.step(images[:, None].float() / 255, labels))
            for schedule in self.schedules:
                schedule.step()
            self.average.update_parameters(self.network)
        return {name: float(np.mean([losses[name] for losses in found])) for name in found[0]}

    def save(self, epoch: int) -> None:
        """Write OUT/last.pt, whole or not at all."""
        parts = {name: part.state_dict() for name, part in self.state.items()}
        stored = settings(self.options, len(self.digits))
        save_run(self.options.out / "last.pt", {"epoch": epoch + 1, "settings": stored, **parts})

    def restore(self) -> None:
        """Continue from OUT/last.pt."""
        path = self.options.out / "last.pt"
        state = load_run(path, "--resume", self.options.device)
        refuse_others(state["settings"], settings(self.options, len(self.digits)), path)
        self.start = state["epoch"]
        for name, part in self.state.items():
            part.load_state_dict(state[name])


def batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Positions of one batch after the other; what does not fill a batch is left out."""
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def moving_average(decay: float, average: Tensor, new: Tensor, count: Tensor) -> Tensor:
    """Exponential moving average that forgets fast at first, so that early samples show what was learnt."""
    if not average.is_floating_point():
        return new
    return average.lerp(new, 1 - min(decay, (1 + int(count)) / (10 + int(count))))


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the network's tensors, contiguous and on the CPU."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(path)


# --- evaluation ---------------------------------------------------------------------------------------------


def train_classifier(digits: Digits, epochs: int, device: str) -> nn.Module:
    """A classifier of digits for `probabilities`, always trained with the same seed."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = classifier_network(digits).to(device, memory_format=torch.channels_last)
    size = min(64, len(digits))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = epochs * (len(digits) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in track(range(epochs), "classifier", console=console(), transient=True):
        for which in batches(rng.permutation(len(digits)), size):
            images = np.stack([tilted(image, rng) for image in digits.images[which]])
            labels = torch.from_numpy(digits.labels[which]).to(device)
            loss = functional.cross_entropy(network(as_input(images, device)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def probabilities(network: nn.Module, images: Images, device: str) -> NDArray[np.float64]:
    """The probability of each class, float64[N, classes], of grey images, uint8[N, H, W]."""
    logits = [network(as_input(part, device)) for part in chunks(images)]
    return torch.cat(logits).double().softmax(1).cpu().numpy()


def classifier_network(digits: Digits) -> nn.Sequential:
    """A small convolutional classifier for digits of this size."""
    layers: list[nn.Module] = []
    for before, after, stride in ((1, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 1)):
        convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    height, width = (math.ceil(length / 4) for length in digits.images.shape[1:])
    head = nn.Linear(64 * height * width, digits.num_classes)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.4), head)


def tilted(image: Images, rng: np.random.Generator) -> Images:
    """A digit turned, scaled and shifted a little."""
    height, width = image.shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, rng.uniform(-12, 12), rng.uniform(0.9, 1.1))
    matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * (width, height)
    return cv2.warpAffine(image, matrix, (width, height)).astype(np.uint8)


def as_input(images: Images, device: str) -> Tensor:
    """float[N, 1, H, W] in 0..1 of grey images, uint8[N, H, W]."""
    return torch.from_numpy(images).to(device)[:, None].float() / 255


def as_bytes(images: Tensor) -> Images:
    """Grey images, uint8[N, H, W], of float[N, 1, H, W] in 0..1, rounded half to even."""
    return (images[:, 0] * 255).round().clamp(0, 255).byte().cpu().numpy()


def chunks(images: Images, size: int = 500) -> Iterator[Images]:
    """Parts of at most `size` images."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def accuracy(found: NDArray[np.float64], labels: Labels) -> float:
    """Share of images, in %, whose most probable class is the one they should have."""
    return round(100 * float((found.argmax(1) == labels).mean()), 2)


def report(scores: Mapping[str, float], title: str, path: Path) -> None:
    """Print the scores and write them as JSON."""
    path.write_text(json.dumps(scores, indent=2) + "\n")
    table = Table("measure", "value", title=title)
    for name, value in scores.items():
        table.add_row(name, f"{value:g}")
    console().print(table)
