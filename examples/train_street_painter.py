"""Train a mask-to-image generator on the procedural drive, or on a folder in the CamVid layout.

    python examples/train_street_painter.py --out runs/painter
    python examples/train_street_painter.py --data camvid --out runs/painter

The discriminator is a segmentation network with a class "fake" (Schönfeld et al., "You Only Need Adversarial
Supervision for Semantic Image Synthesis", ICLR 2021): it keeps picture and mask aligned without any network
trained elsewhere. L1 is added as in Isola et al., "Image-to-Image Translation with Conditional Adversarial
Networks", CVPR 2017, and feature matching as in Wang et al., "High-Resolution Image Synthesis and Semantic
Manipulation with Conditional GANs", CVPR 2018.

The run is deterministic for one seed, thread count and device. After every epoch it writes OUT/last.pt
(continue with --resume), OUT/street-painter.safetensors (the averaged weights, float16) and a sheet of
held-out masks, OUT/sheet-*.png: mask, real picture, painted picture. At the end a segmentation network that
took no part in the training judges held-out pictures: OUT/test.json holds its IoU on what was painted, on the
real pictures of the same masks, and on the masks painted flat in their palette.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from labelled_pictures import Batches, Image, Labels, Pair, load_split
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, update_bn
from training_runs import (
    add_machine,
    factor,
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
from pixelrt.segmentation import nearest
from pixelrt.terminal import console
from pixelrt.video.drive import CLASSES, scene
from pixelrt_export.models import Pix2PixGenerator, RoadUNet, SPADEGenerator
from pixelrt_export.palettes import CAMVID_11

UNLABELLED = len(CLASSES)
FAKE = UNLABELLED + 1  # the discriminator's classes: those of the mask, "unlabelled", and this one
FIRST_TRAINING_SEED = 100_000  # scenes below are never trained on
JUDGE = Path(__file__).parents[1] / "engines" / "road-unet" / "road-unet.safetensors"
JUDGE_SIZE = (352, 480)  # with the mean and spread that the judge was trained with
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SHEET_ROWS = 8
EMA_DECAY = 0.998
SLOPE = 0.2

Painter = SPADEGenerator | Pix2PixGenerator


def main() -> None:
    """Train, then judge on held-out masks."""
    options = parse_arguments()
    prepare_run(options)
    held_out = held_out_pairs(options)
    painter = load_painter(options) if options.evaluate else train(options, held_out)
    judge = load_judge(options.judge).to(options.device)
    report(judge_all(painter, judge, held_out, options), options.out / "test.json")


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder in the CamVid layout (left out: the drive)")
    parser.add_argument("--splits", nargs="+", default=["train"], help="splits of --data to train on (train)")
    parser.add_argument(
        "--scenes", type=positive, default=1200, help="scenes of the drive to train on (%(default)s)"
    )
    parser.add_argument("--cache", type=Path, help=".npz in which the drawn scenes are kept")
    parser.add_argument("--held-out", type=positive, default=64, help="masks to judge on (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/street-painter"), help="folder for results (%(default)s)"
    )
    parser.add_argument(
        "--network", choices=("spade", "pix2pix"), default="spade", help="what is trained (%(default)s)"
    )
    parser.add_argument(
        "--width", type=positive, default=16, help="channels at full resolution (%(default)s)"
    )
    for name, size, what in (
        ("--size", (128, 192), "of what is painted, in pixels, multiples of 32 (128 192)"),
        ("--draw", (256, 384), "of drawn scenes, in pixels (256 384)"),
    ):
        parser.add_argument(
            name,
            type=positive,
            nargs=2,
            default=size,
            metavar=("H", "W"),
            help=what,
        )
    add_schedule(parser)
    parser.add_argument("--init", type=Path, help="start from the networks of this last.pt")
    parser.add_argument(
        "--resume", action="store_true", help="continue from OUT/last.pt, with the options of its run"
    )
    parser.add_argument("--evaluate", type=Path, help="judge these weights (.safetensors), train nothing")
    parser.add_argument(
        "--judge", type=Path, default=JUDGE, help="weights of a RoadUNet that judges (that of engines/)"
    )
    add_machine(parser)
    return parser.parse_args()


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how it is trained."""
    for name, kind, default, meaning in (
        ("--zoom", factor, 1.4, "largest random enlargement"),
        ("--epochs", positive, 30, "times every picture is seen"),
        ("--batch", positive, 8, "pictures of a step"),
        ("--decay", share, 0.5, "share of the run, at its end, in which the rates fall to zero"),
        ("--l1", weight, 5.0, "weight of the L1 loss"),
        ("--match", weight, 5.0, "weight of feature matching"),
        ("--seed", natural, 1, "of weights, order and crops"),
    ):
        parser.add_argument(name, type=kind, default=default, help=f"{meaning} (%(default)s)")
    parser.add_argument(
        "--lr",
        type=weight,
        nargs=2,
        default=(4e-4, 8e-4),
        metavar=("PAINTER", "CRITIC"),
        help="learning rates before they fall (0.0004 0.0008)",
    )


# --- data ---------------------------------------------------------------------------------------------------


def training_pairs(options: argparse.Namespace) -> list[Pair]:
    """What is trained on, at least one batch of it."""
    if options.data:
        pairs = [pair for split in options.splits for pair in load_split(options.data / split, UNLABELLED)]
    else:
        pairs = drive_scenes(options)
    if len(pairs) < options.batch:
        raise SystemExit(f"{len(pairs)} pictures to train on, expected at least --batch {options.batch}")
    return pairs


def held_out_pairs(options: argparse.Namespace) -> list[Pair]:
    """Pictures at the painter's size that are never trained on."""
    count = options.held_out
    if options.data:
        pairs = load_split(options.data / "test", UNLABELLED)
        pairs = pairs[:: max(1, len(pairs) // count)][:count]
    else:
        pairs = draw(range(count), tuple(options.draw))
    return [window(pair, tuple(options.size), 1.0, (0.5, 0.5)) for pair in pairs]


def drive_scenes(options: argparse.Namespace) -> list[Pair]:
    """Scenes of the procedural drive, from the cache where it fits."""
    cache: Path | None = options.cache
    if cache and cache.is_file():
        with np.load(cache) as stored:
            images, labels = stored["images"], stored["labels"]
        if len(images) < options.scenes or labels.shape[1:] != tuple(options.draw):
            raise SystemExit(
                f"{cache} holds {len(images)} scenes of size {labels.shape[1:]}, --scenes and --draw ask for "
                f"{options.scenes} of {tuple(options.draw)}; delete it or name another file"
            )
        return list(zip(images, labels, strict=True))[: options.scenes]
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + options.scenes)
    pairs = draw(seeds, tuple(options.draw))
    if cache:
        np.savez(cache, images=np.stack([a for a, _ in pairs]), labels=np.stack([b for _, b in pairs]))
    return pairs


def draw(seeds: range, size: tuple[int, int]) -> list[Pair]:
    """One scene per seed, uint8[H, W, 3] RGB and uint8[H, W]."""
    return [scene(seed, size) for seed in track(seeds, "draw", console=console(), transient=True)]


def window(pair: Pair, size: tuple[int, int], zoom: float, place: tuple[float, float]) -> Pair:
    """The largest part with the shape of `size`, made smaller by `zoom`, at a place 0..1, brought to `size`.

    The mask is resized as it is in a deployed painter: nearest neighbour, half-pixel centres.
    """
    image, labels = pair
    rows, columns = labels.shape
    scale = min(rows / size[0], columns / size[1]) / zoom
    height, width = round(scale * size[0]), round(scale * size[1])
    top, left = round(place[0] * (rows - height)), round(place[1] * (columns - width))
    part = np.s_[top : top + height, left : left + width]
    small = cv2.resize(image[part], (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8), nearest(labels[part], *size)


def batches(pairs: list[Pair], options: argparse.Namespace, epoch: int) -> Batches:
    """Batches of one epoch, cut at random and mirrored at random."""

    def vary(pair: Pair, rng: np.random.Generator) -> Pair:
        zoom = math.exp(rng.uniform(0, math.log(options.zoom)))
        place = (float(rng.random()), float(rng.random()))
        image, labels = window(pair, tuple(options.size), zoom, place)
        return (np.fliplr(image), np.fliplr(labels)) if rng.random() < 0.5 else (image, labels)

    return Batches(pairs, options.batch, options.seed, epoch, vary, to_tanh_range)


def to_tanh_range(images: Tensor) -> Tensor:
    """float[N, 3, H, W] in -1..1 from uint8[N, H, W, 3]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(images: Tensor) -> Image:
    """uint8[N, H, W, 3] from float[N, 3, H, W] in -1..1, rounded as a deployed painter rounds."""
    pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def one_hot(labels: Tensor) -> Tensor:
    """float[N, 11, H, W] from int64[N, H, W]; unlabelled pixels are all zeros."""
    return functional.one_hot(labels, UNLABELLED + 1)[..., :UNLABELLED].permute(0, 3, 1, 2).float()


# --- networks -----------------------------------------------------------------------------------------------


def make_painter(options: argparse.Namespace) -> Painter:
    """The generator that is trained; its stride must divide --size."""
    width = options.width
    painter: Painter
    if options.network == "spade":
        painter = SPADEGenerator(
            UNLABELLED, widths=[width * by for by in (1, 2, 4, 8, 10, 10)], hidden=2 * width
        )
    else:
        painter = Pix2PixGenerator(UNLABELLED, widths=[width * by for by in (2, 4, 8, 10, 10)])
    if options.size[0] % painter.stride or options.size[1] % painter.stride:
        raise SystemExit(
            f"--size {options.size[0]} {options.size[1]}: expected multiples of {painter.stride}"
        )
    return painter


class Critic(nn.Module):
    """U-Net that assigns every pixel a class of the mask, "unlabelled" or "fake".

    Source: Schönfeld et al., 2021, as above; here with one strided and one plain convolution per level, and
    instance norm in the place of the paper's spectral norm, with which a run of an hour learns too little.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * by for by in (1, 2, 4, 8, 10, 10)]
        self.enter = convolution(3, widths[0], 3, norm=False)
        self.down = nn.ModuleList(
            nn.Sequential(convolution(before, after, 4), convolution(after, after, 3))
            for before, after in pairwise(widths)
        )
        finer = list(pairwise(widths))
        self.up = nn.ModuleList(convolution(deeper + here, here, 3) for here, deeper in reversed(finer))
        self.classify = nn.Conv2d(widths[0], FAKE + 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits float[N, 13, H, W] and the features of each level on the way down, the finest first."""
        features = [self.enter(images)]
        for level in self.down:
            features.append(level(features[-1]))
        x = features[-1]
        for level, skip in zip(self.up, reversed(features[:-1]), strict=True):
            x = level(torch.cat([functional.interpolate(x, scale_factor=2.0), skip], dim=1))
        return self.classify(x), features


def convolution(before: int, after: int, kernel: int, *, norm: bool = True) -> nn.Sequential:
    """Convolution, instance norm, leaky ReLU; a 4x4 kernel halves the size."""
    layers: list[nn.Module] = [nn.Conv2d(before, after, kernel, 2 if kernel == 4 else 1, 1, bias=not norm)]
    if norm:
        layers.append(nn.InstanceNorm2d(after))
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE))


# --- training -----------------------------------------------------------------------------------------------


def train(options: argparse.Namespace, held_out: list[Pair]) -> Painter:
    """Run the schedule and return the painter to ship."""
    pairs = training_pairs(options)
    run = Run(options, pairs)
    painter = run.average.module
    for epoch in range(run.start, options.epochs):
        began = time.monotonic()
        losses = run.epoch(pairs, epoch)
        update_bn(run.masks(pairs, epoch), painter, options.device)
        run.save(epoch)
        save_weights(painter, options.out / "street-painter.safetensors")
        save_sheet(painter, held_out[:SHEET_ROWS], options, options.out / f"sheet-{epoch + 1:03}.png")
        parts = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        console().print(
            f"epoch {epoch + 1}/{options.epochs} {parts} {time.monotonic() - began:.0f} s", highlight=False
        )
    return painter


class Run:
    """Everything that changes while training, so that it can be saved and resumed."""

    def __init__(self, options: argparse.Namespace, pairs: list[Pair]) -> None:
        self.options, self.pictures = options, len(pairs)
        self.painter = make_painter(options).to(options.device, memory_format=torch.channels_last)
        self.critic = Critic(options.width).to(options.device, memory_format=torch.channels_last)
        self.average = AveragedModel(self.painter, avg_fn=moving_average)
        self.weights = class_weights(pairs).to(options.device)
        rates = zip((self.painter, self.critic), options.lr, strict=True)
        self.optimizers = [torch.optim.Adam(n.parameters(), lr, betas=(0.0, 0.99)) for n, lr in rates]
        falling = decay_at_the_end(options.epochs * (len(pairs) // options.batch), options.decay)
        self.schedules = [torch.optim.lr_scheduler.LambdaLR(one, falling) for one in self.optimizers]
        self.start = 0
        if options.resume:
            self.restore(options.out / "last.pt")
        elif options.init:
            self.start_from(options.init)

    def epoch(self, pairs: list[Pair], epoch: int) -> dict[str, float]:
        """Train on every picture once and return the mean of each loss.

        An epoch's chance depends on the seed and its number alone: a resumed run learns the same.
        """
        torch.manual_seed(int(np.random.default_rng((self.options.seed, epoch)).integers(2**31)))
        self.painter.train()
        steps = batches(pairs, self.options, epoch)
        totals: dict[str, float] = {}
        for images, labels in track(
            steps, f"epoch {epoch + 1}", len(steps), console=console(), transient=True
        ):
            for name, value in self.step(images.to(self.options.device), labels.to(self.options.device)):
                totals[name] = totals.get(name, 0.0) + float(value.detach()) / len(steps)
        return totals

    def step(self, images: Tensor, labels: Tensor) -> list[tuple[str, Tensor]]:
        """One gradient step of the critic, then one of the painter on the same pictures."""
        images = images.contiguous(memory_format=torch.channels_last)
        mask = one_hot(labels).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.options.device, torch.bfloat16):
            painted = self.painter(mask)
        critic_losses = self.critic_losses(images, painted.detach(), labels)
        self.descend(1, critic_losses)
        self.critic.requires_grad_(False)
        painter_losses = self.painter_losses(images, painted, labels)
        self.descend(0, painter_losses)
        self.critic.requires_grad_(True)
        self.average.update_parameters(self.painter)
        return critic_losses + painter_losses

    def critic_losses(self, images: Tensor, painted: Tensor, labels: Tensor) -> list[tuple[str, Tensor]]:
        """Real pixels have their class, painted ones are fake."""
        with torch.autocast(self.options.device, torch.bfloat16):
            logits, _ = self.critic(torch.cat([images, painted.to(images.dtype)]))
        real, fake = logits.float().chunk(2)
        return [
            ("real", self.cross_entropy(real, labels)),
            ("fake", functional.cross_entropy(fake, torch.full_like(labels, FAKE))),
        ]

    def painter_losses(self, images: Tensor, painted: Tensor, labels: Tensor) -> list[tuple[str, Tensor]]:
        """Painted pixels shall have their class; features and pixels shall resemble the real ones."""
        with torch.autocast(self.options.device, torch.bfloat16):
            logits, features = self.critic(painted.float())
            with torch.no_grad():
                _, wanted = self.critic(images)
        match = [functional.l1_loss(a.float(), b.float()) for a, b in zip(features, wanted, strict=True)]
        return [
            ("class", self.cross_entropy(logits.float(), labels)),
            ("match", self.options.match * torch.stack(match).mean()),
            ("l1", self.options.l1 * functional.l1_loss(painted.float(), images)),
        ]

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, weighted by class, divided by the number of pixels and not by their weights."""
        return functional.cross_entropy(logits, labels, self.weights, reduction="none").mean()

    def descend(self, which: int, losses: list[tuple[str, Tensor]]) -> None:
        """One step of the painter's (0) or the critic's (1) optimiser."""
        self.optimizers[which].zero_grad(set_to_none=True)
        torch.stack([value for _, value in losses]).sum().backward()
        self.optimizers[which].step()
        self.schedules[which].step()

    def masks(self, pairs: list[Pair], epoch: int, pictures: int = 128) -> Iterator[Tensor]:
        """Masks for the averaged painter's batch norms, whose statistics no averaging of weights gives."""
        return (one_hot(labels) for _, labels in batches(pairs[:pictures], self.options, epoch))

    def save(self, epoch: int) -> None:
        """Write OUT/last.pt, whole or not at all."""
        state = {
            "epoch": epoch + 1,
            "settings": settings(self.options, self.pictures),
            "painter": self.painter.state_dict(),
            "critic": self.critic.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [one.state_dict() for one in self.optimizers],
            "schedules": [one.state_dict() for one in self.schedules],
        }
        save_run(self.options.out / "last.pt", state)

    def start_from(self, path: Path) -> None:
        """Take the networks of a last.pt into a new schedule."""
        state = load_run(path, "--init", self.options.device)
        for name in ("network", "width"):
            was, now = state["settings"].get(name), getattr(self.options, name)
            if was != now:
                raise SystemExit(f"--init: {path} was trained with --{name} {was}, now {now}; give the same")
        self.load_networks(state)

    def load_networks(self, state: dict[str, Any]) -> None:
        """The networks of a last.pt."""
        for name in ("painter", "critic", "average"):
            getattr(self, name).load_state_dict(state[name])

    def restore(self, path: Path) -> None:
        """Continue from a last.pt."""
        state = load_run(path, "--resume", self.options.device)
        refuse_others(state["settings"], settings(self.options, self.pictures), path)
        self.load_networks(state)
        self.start = state["epoch"]
        for name in ("optimizers", "schedules"):
            for one, saved in zip(getattr(self, name), state[name], strict=True):
                one.load_state_dict(saved)


def decay_at_the_end(steps: int, share: float) -> Callable[[int], float]:
    """Factor of the learning rate: constant, then falling to zero over the last share of the steps."""
    tail = max(1.0, share * steps)
    return lambda step: min(1.0, max(0.0, (steps - step) / tail))


def moving_average(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Mean of all weights so far, and an exponential one once they are many; `count` averages came before."""
    return average.lerp(current, max(1 / (1 + int(count)), 1 - EMA_DECAY))


def class_weights(pairs: list[Pair]) -> Tensor:
    """Weights of the labels 0..11 for the critic's 13 classes: 1 / sqrt(share), of mean 1 over the pixels.

    The paper's 1 / share gives single pixels of rare classes hundreds of times the weight of the road's.
    """
    counts = sum(np.bincount(labels.ravel(), minlength=FAKE) for _, labels in pairs)
    share = np.asarray(counts, np.float64) / np.sum(counts)
    weights = 1 / np.sqrt(np.maximum(share, 1e-4))
    weights /= (share * weights).sum()
    return torch.tensor([*weights, 1.0], dtype=torch.float32)


def save_weights(painter: Painter, path: Path) -> None:
    """Write the painter's tensors as float16, contiguous and on the CPU."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in painter.state_dict().items()
    }
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(path)


# --- evaluation ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def paint(painter: Painter, labels: list[Labels], device: str) -> list[Image]:
    """Pictures uint8[H, W, 3] RGB of masks uint8[H, W], as a deployed painter paints them."""
    painter.eval()
    masks = (torch.from_numpy(mask[None].astype(np.int64)).to(device) for mask in labels)
    return [to_bytes(painter(one_hot(mask)))[0] for mask in masks]


def flat(labels: Labels) -> Image:
    """The mask in the colours of its palette, uint8[H, W, 3] RGB; unlabelled is black."""
    colors = [color for _, color in CAMVID_11]
    return np.array([*colors, (0, 0, 0)], np.uint8)[labels]


def save_sheet(painter: Painter, pairs: list[Pair], options: argparse.Namespace, path: Path) -> None:
    """Rows of mask, real picture and painted picture."""
    painted = paint(painter, [labels for _, labels in pairs], options.device)
    rows = [
        np.hstack([flat(labels), image, new]) for (image, labels), new in zip(pairs, painted, strict=True)
    ]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def load_painter(options: argparse.Namespace) -> Painter:
    """The painter of --network and --width with the weights of --evaluate."""
    painter = make_painter(options)
    load_weights(painter, options.evaluate, "--evaluate", "--network and --width")
    return painter.to(options.device)


def load_judge(path: Path) -> RoadUNet:
    """The segmentation network that judges."""
    if not path.is_file():
        raise SystemExit(f"{path} does not exist; name the weights of a RoadUNet with --judge")
    judge = RoadUNet()
    load_weights(judge, path, "--judge", "a RoadUNet of usual width, not the network")
    return judge.eval()


def judge_all(
    painter: Painter, judge: RoadUNet, pairs: list[Pair], options: argparse.Namespace
) -> dict[str, ConfusionMatrix]:
    """What the judge sees in painted, real and flat pictures of the same masks."""
    masks = [labels for _, labels in pairs]
    pictures = {
        "painted": paint(painter, masks, options.device),
        "real": [image for image, _ in pairs],
        "flat": [flat(labels) for labels in masks],
    }
    confusions = {name: ConfusionMatrix(UNLABELLED) for name in pictures}
    for name, images in pictures.items():
        for image, labels in zip(
            track(images, f"judge {name}", console=console(), transient=True), masks, strict=True
        ):
            confusions[name].add(labels, segment(judge, image, options.device))
    return confusions


@torch.inference_mode()
def segment(judge: RoadUNet, image: Image, device: str) -> Labels:
    """Classes uint8[H, W] of uint8[H, W, 3] RGB; the judge works at its own size."""
    resized = cv2.resize(image, JUDGE_SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    pixels = torch.from_numpy(resized[None]).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    logits = functional.interpolate(
        judge((pixels - mean) / std), image.shape[:2], mode="bilinear", align_corners=False
    )
    return logits.argmax(1)[0].byte().cpu().numpy()


def report(confusions: dict[str, ConfusionMatrix], path: Path) -> None:
    """Print IoU per class and write it as JSON; classes that no picture shows are null."""
    scores: dict[str, dict[str, float | None]] = {}
    for name, confusion in confusions.items():
        iou = [None if math.isnan(value) else round(100 * float(value), 2) for value in confusion.iou()]
        scores[name] = dict(zip(CLASSES, iou, strict=True)) | {"mIoU": round(100 * confusion.miou(), 2)}
    path.write_text(json.dumps(scores, indent=2) + "\n")
    table = Table("class", *(f"{name} %" for name in scores), title="IoU of the judge on held-out masks")
    for row in (*CLASSES, "mIoU"):
        values = [scores[name][row] for name in scores]
        table.add_row(row, *("-" if value is None else f"{value:.2f}" for value in values))
    console().print(table)


if __name__ == "__main__":
    main()
