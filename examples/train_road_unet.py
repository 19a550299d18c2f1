"""Train the road-scene U-Net on a folder in the CamVid layout, mixed with procedural drives.

    python examples/train_road_unet.py DATA --out runs/road

DATA holds train/, val/ and test/, each with images/ (JPEG or PNG) and labels/ (PNG, one byte per pixel, the
same file names, ids 0..10 and 11 for "unlabelled"). The run is deterministic for one seed, thread count and
device. It writes OUT/last.pt after every epoch (continue with --resume) and OUT/road-unet.safetensors: the
averaged weights that did best on the validation split, or the last ones where that split is trained on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from labelled_pictures import Batches, Image, Labels, Pair, load_split
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from training_runs import (
    add_machine,
    load_run,
    load_weights,
    natural,
    positive,
    prepare_run,
    refuse_others,
    save_run,
    settings,
    share,
    weight,
)

from pixelrt.metrics import ConfusionMatrix
from pixelrt.terminal import console
from pixelrt.video.drive import scene
from pixelrt_export.models.road_unet import STRIDE, RoadUNet

NAMES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "bicyclist"),
)
IGNORED = len(NAMES)
MEAN = (0.485, 0.456, 0.406)  # of 0..1 RGB pixels; the values most vision networks are trained with
STD = (0.229, 0.224, 0.225)


def main() -> None:
    """Train, then evaluate on the test split."""
    options = parse_arguments()
    prepare_run(options)
    weights = train(options)
    model = RoadUNet(width=options.width)
    model.load_state_dict(load_file(weights))
    test = load_split(options.data / "test", IGNORED)
    report(evaluate(model, test, options.size, options.device), options.out / "test.json")


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder in the CamVid layout")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/road-unet"), help="folder for the results (%(default)s)"
    )
    parser.add_argument("--splits", nargs="+", default=["train"], help="splits to train on (train)")
    for name, kind, default, meaning in (
        ("--drive", share, 0.1, "share of procedural scenes, 0..1"),
        ("--epochs", positive, 300, "times every picture is seen"),
        ("--batch", positive, 8, "pictures of a step"),
        ("--lr", weight, 2e-3, "largest learning rate"),
        ("--weight-decay", weight, 0.02, "of convolutions, as in AdamW"),
        ("--width", positive, 32, "channels of the network at half resolution"),
        ("--seed", natural, 1, "of weights, order and crops"),
    ):
        parser.add_argument(name, type=kind, default=default, help=f"{meaning} (%(default)s)")
    for name, size, meaning in (
        ("--size", (352, 480), f"of the network's input, in pixels, multiples of {STRIDE} (352 480)"),
        ("--crop", (288, 384), "of what is trained on, in pixels (288 384)"),
    ):
        parser.add_argument(name, type=positive, nargs=2, default=size, metavar=("H", "W"), help=meaning)
    parser.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=(0.5, 1.8),
        metavar=("MIN", "MAX"),
        help="random enlargement, 1 is the picture's own size (0.5 1.8)",
    )
    parser.add_argument("--init", type=Path, help="start from these weights (.safetensors)")
    parser.add_argument(
        "--resume", action="store_true", help="continue from OUT/last.pt, with the options of its run"
    )
    add_machine(parser)
    options = parser.parse_args()
    if not 0 < options.scale[0] <= options.scale[1] < math.inf:
        parser.error(f"--scale {options.scale[0]} {options.scale[1]}: expected two numbers above 0, in order")
    return options


# --- data ---------------------------------------------------------------------------------------------------


def batches(pairs: list[Pair], options: argparse.Namespace, epoch: int) -> Batches:
    """Augmented batches of one epoch, some pictures replaced by scenes of the procedural drive."""

    def vary(pair: Pair, rng: np.random.Generator) -> Pair:
        if rng.random() < options.drive:
            pair = scene(int(rng.integers(2**31)), (360, 480))
        return augment(pair, tuple(options.crop), tuple(options.scale), rng)

    return Batches(pairs, options.batch, options.seed, epoch, vary, normalise)


def normalise(images: Tensor) -> Tensor:
    """float[N, 3, H, W] in the network's range from uint8[N, H, W, 3] RGB."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def augment(pair: Pair, crop: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator) -> Pair:
    """A random crop, flip, scale, tilt, colour and blur of one pair."""
    image, labels = pair
    matrix = random_view(labels, crop, scale, rng)
    size = (crop[1], crop[0])
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.warpAffine(
        labels, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORED
    )
    return random_look(image.astype(np.uint8), rng), labels.astype(np.uint8)


def random_view(
    labels: Labels, crop: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Affine map from the picture to a crop: flip, scale, aspect and tilt about a chosen centre.

    Half of the crops are centred on a pixel of a random class, so that rare classes are seen often.
    """
    factor = math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
    aspect = math.exp(rng.uniform(-0.1, 0.1))
    angle = math.radians(rng.normal(0, 2))
    row, column = focus(labels, rng)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    stretch_y, stretch_x = factor * aspect, factor / aspect * flip
    linear = np.array(
        [
            [stretch_x * math.cos(angle), -stretch_y * math.sin(angle)],
            [stretch_x * math.sin(angle), stretch_y * math.cos(angle)],
        ]
    )
    row = keep_inside(row, labels.shape[0], crop[0] / abs(stretch_y), rng)
    column = keep_inside(column, labels.shape[1], crop[1] / abs(stretch_x), rng)
    shift = np.array([crop[1] / 2, crop[0] / 2]) - linear @ np.array([column, row])
    return np.column_stack([linear, shift])


def focus(labels: Labels, rng: np.random.Generator) -> tuple[float, float]:
    """A (row, column) to look at: anywhere, or on a pixel of a random class of the picture."""
    height, width = labels.shape
    if rng.random() < 0.5:
        return rng.uniform(0, height), rng.uniform(0, width)
    sparse = labels[::4, ::4]
    present = [class_id for class_id in np.unique(sparse) if class_id != IGNORED]
    if not present:
        return height / 2, width / 2
    rows, columns = np.nonzero(sparse == rng.choice(present))
    pick = int(rng.integers(len(rows)))
    return 4.0 * rows[pick] + 2, 4.0 * columns[pick] + 2


def keep_inside(centre: float, length: int, window: float, rng: np.random.Generator) -> float:
    """Move a window's centre so that the window lies inside the picture, or the picture inside the window."""
    centre += rng.uniform(-0.25, 0.25) * window
    low, high = sorted((window / 2, length - window / 2))
    return min(max(centre, low), high)


def random_look(image: Image, rng: np.random.Generator) -> Image:
    """Other light, colour, sharpness and noise."""
    levels = np.arange(256, dtype=np.float32) / 255
    gain = math.exp(rng.normal(0, 0.2))
    gamma = math.exp(rng.normal(0, 0.25))
    tint = np.exp(rng.normal(0, 0.06, 3))
    table = np.stack([np.clip(gain * shade * levels**gamma, 0, 1) for shade in tint], axis=-1)
    image = cv2.LUT(image, (table * 255).astype(np.uint8)[None])
    if rng.random() < 0.8:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        saturation = math.exp(rng.normal(0, 0.35))
        image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(2, 10), image.shape[:2]).astype(np.float32)
        image = np.clip(image + noise[..., None], 0, 255).astype(np.uint8)
    return image.astype(np.uint8)


# --- training -----------------------------------------------------------------------------------------------


class Supervised(nn.Module):
    """The network with auxiliary classifiers at 1/8 and 1/16, which exist only while training.

    Deep supervision as in Zhao et al., "Pyramid Scene Parsing Network", 2017.
    """

    def __init__(self, network: RoadUNet) -> None:
        super().__init__()
        self.network = network
        width = network.classify.in_channels
        self.at8 = nn.Conv2d(4 * width, len(NAMES), 1)
        self.at16 = nn.Conv2d(6 * width, len(NAMES), 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits at full size, at 1/8 and at 1/16 of it."""
        features = self.network.encode(images)
        return self.network.decode(features), self.at8(features[2]), self.at16(features[3])


def train(options: argparse.Namespace) -> Path:
    """Run the schedule and return the path of the weights to ship."""
    pairs = [pair for split in options.splits for pair in load_split(options.data / split, IGNORED)]
    if len(pairs) < options.batch:
        raise SystemExit(
            f"{len(pairs)} pictures to train on, expected at least one batch (--batch {options.batch})"
        )
    held_out = [] if "val" in options.splits else load_split(options.data / "val", IGNORED)
    run = Run(options, pairs)
    best = options.out / "road-unet.safetensors"
    for epoch in range(run.start, options.epochs):
        began = time.monotonic()
        loss = run.epoch(pairs, epoch)
        line = f"epoch {epoch + 1}/{options.epochs} loss {loss:.4f} {time.monotonic() - began:.0f} s"
        if held_out and ((epoch + 1) % 5 == 0 or epoch + 1 == options.epochs):
            miou = evaluate(run.averaged_network, held_out, options.size, options.device).miou()
            line += f" validation mIoU {100 * miou:.2f} %"
            if miou > run.best:
                run.best = miou
                save_weights(run.averaged_network, best)
        run.save(epoch)
        console().print(line)
    if not held_out:
        save_weights(run.averaged_network, best)
    return best


class Run:
    """Everything that changes while training, so that it can be saved and resumed."""

    def __init__(self, options: argparse.Namespace, pairs: list[Pair]) -> None:
        self.options, self.pictures = options, len(pairs)
        network = RoadUNet(width=options.width)
        if options.init:
            load_weights(network, options.init, "--init", "--width")
        self.model = Supervised(network).to(options.device, memory_format=torch.channels_last)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
        self.optimizer = torch.optim.AdamW(self.parameter_groups(), lr=options.lr, betas=(0.9, 0.98))
        steps = options.epochs * (len(pairs) // options.batch)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, options.lr, total_steps=steps, pct_start=0.06, cycle_momentum=False
        )
        self.loss = SegmentationLoss(class_weights(pairs)).to(options.device)
        self.start, self.best = 0, 0.0
        if options.resume:
            self.restore()

    @property
    def averaged_network(self) -> RoadUNet:
        """The network with averaged weights, for evaluation and shipping."""
        network: RoadUNet = self.average.module.network
        return network

    def parameter_groups(self) -> list[dict[str, object]]:
        """Weight decay on convolution weights alone."""
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        return [
            {"params": decayed, "weight_decay": self.options.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]

    def epoch(self, pairs: list[Pair], epoch: int) -> float:
        """Train on every picture once and return the mean loss."""
        self.model.train()
        steps = batches(pairs, self.options, epoch)
        total = 0.0
        for images, labels in track(
            steps, f"epoch {epoch + 1}", len(steps), console=console(), transient=True
        ):
            total += self.step(images.to(self.options.device), labels.to(self.options.device))
        return total / max(1, len(steps))

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One gradient step."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.options.device, torch.bfloat16):
            full, at8, at16 = self.model(images)
        loss = (
            self.loss(full, labels)
            + 0.4 * self.loss.coarse(at8, labels)
            + 0.2 * self.loss.coarse(at16, labels)
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.model)
        return float(loss.detach())

    def save(self, epoch: int) -> None:
        """Write OUT/last.pt, whole or not at all."""
        state = {
            "epoch": epoch + 1,
            "settings": settings(self.options, self.pictures),
            "best": self.best,
            "chance": torch.get_rng_state(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        save_run(self.options.out / "last.pt", state)

    def restore(self) -> None:
        """Continue from OUT/last.pt."""
        path = self.options.out / "last.pt"
        state = load_run(path, "--resume", self.options.device)
        refuse_others(state["settings"], settings(self.options, self.pictures), path)
        self.start, self.best = state["epoch"], state["best"]
        torch.set_rng_state(state["chance"].cpu())
        for name in ("model", "average", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])


class SegmentationLoss(nn.Module):
    """Class-weighted cross entropy plus soft Jaccard loss, on every second row and column.

    The rows and columns are drawn anew for each batch: an unbiased estimate of the loss on all pixels at a
    quarter of its cost. Soft Jaccard: Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural
    Networks for Image Segmentation", 2016.
    """

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of float[N, C, H, W] logits against int64[N, H, W] labels."""
        row, column = torch.randint(0, 2, (2,)).tolist()
        logits = logits[:, :, row::2, column::2].float()
        labels = labels[:, row::2, column::2]
        return self.cross_entropy(logits, labels) + 0.5 * soft_jaccard_loss(logits, labels)

    def coarse(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of logits that are smaller than the labels."""
        nearest = functional.interpolate(labels[:, None].float(), size=logits.shape[2:], mode="nearest-exact")
        return self.cross_entropy(logits.float(), nearest[:, 0].long())

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Class-weighted cross entropy of labelled pixels."""
        return functional.cross_entropy(logits, labels, self.weights, ignore_index=IGNORED)


def soft_jaccard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the mean soft intersection over union of the classes in the batch."""
    labelled = (labels != IGNORED)[:, None]
    probability = logits.softmax(1) * labelled
    truth = functional.one_hot(labels, IGNORED + 1)[..., :IGNORED].permute(0, 3, 1, 2)
    hits = (probability * truth).sum((0, 2, 3))
    union = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3)) - hits
    present = truth.sum((0, 2, 3)) > 0
    return 1 - (hits[present] / union[present]).mean()


def class_weights(pairs: list[Pair]) -> Tensor:
    """Square root of median frequency balancing (Eigen and Fergus, 2015), which alone is too strong."""
    counts = sum(np.bincount(labels.ravel(), minlength=IGNORED + 1)[:IGNORED] for _, labels in pairs)
    share = np.asarray(counts) / np.sum(counts)
    return torch.tensor(np.sqrt(np.median(share) / share), dtype=torch.float32)


def save_weights(network: RoadUNet, path: Path) -> None:
    """Write the network's tensors, contiguous and on the CPU."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(path)


# --- evaluation ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def evaluate(network: RoadUNet, pairs: list[Pair], size: tuple[int, int], device: str) -> ConfusionMatrix:
    """Confusion over a split: the network sees `size`, its logits are judged at each picture's own size."""
    if size[0] % STRIDE or size[1] % STRIDE:
        raise SystemExit(f"--size {size[0]} {size[1]}: expected multiples of {STRIDE}")
    network = network.to(device).eval()
    confusion = ConfusionMatrix(len(NAMES))
    for image, labels in track(pairs, "evaluate", console=console(), transient=True):
        resized = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        logits = network(normalise(torch.from_numpy(resized[None])).to(device))
        logits = functional.interpolate(logits.float(), labels.shape, mode="bilinear", align_corners=False)
        confusion.add(labels, logits.argmax(1)[0].byte().cpu().numpy())
    return confusion


def report(confusion: ConfusionMatrix, path: Path) -> None:
    """Print IoU per class and write it as JSON."""
    scores = dict(zip(NAMES, (round(100 * float(value), 2) for value in confusion.iou()), strict=True))
    scores["mIoU"] = round(100 * confusion.miou(), 2)
    path.write_text(json.dumps(scores, indent=2) + "\n")
    table = Table("class", "IoU %", title="test split")
    for name, value in scores.items():
        table.add_row(name, f"{value:.2f}")
    console().print(table)


if __name__ == "__main__":
    main()
