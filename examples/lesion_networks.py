"""What the experiment with lesions trains: a generator that paints them, and a U-Net that finds them.

Both are trained in bfloat16 with float32 weights, which halves the time on a CPU that has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from lesions import CLASSES, Image, Mask, Pictures
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pixelrt.terminal import console
from pixelrt_export.models import SPADEGenerator, UNet

STRIDE = 8  # of both networks
STYLE = 8  # length of the painter's latent
L1_WEIGHT = 20.0
SLOPE = 0.2

Vary = Callable[[Image, Mask, np.random.Generator], tuple[Image, Mask]]


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained."""

    name: str
    """For the progress bar."""
    seed: int
    steps: int
    batch: int
    width: int
    """Channels at full resolution."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """What a U-Net is trained on."""

    pictures: Pictures
    extra: Pictures | None = None
    """Half of every batch, where there is more than one kind."""
    varied: bool = True


# --- the painter --------------------------------------------------------------------------------------------


class LesionPainter(nn.Module):
    """SPADE generator that paints lesions into a picture of tissue; away from them it stays as it is.

    Source: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019, here
    steered by mask, picture and a vector of style.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.network = SPADEGenerator(len(CLASSES) + 3, widths=widths, hidden=width, latent=STYLE)

    def forward(self, latent: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        """Paint.

        Args:
            latent: float[N, 8], how the lesions look.
            mask: float[N, 2, H, W], one-hot.
            image: float[N, 3, H, W] in -1..1, what they are painted into.

        Returns:
            float[N, 3, H, W] in -1..1.
        """
        lesion = functional.max_pool2d(mask[:, 1:], 5, stride=1, padding=2)
        reach = functional.avg_pool2d(lesion, 5, stride=1, padding=2, count_include_pad=False)
        painted = self.network(torch.cat([mask, image], dim=1), latent)
        return image + reach * (painted - image)


class Critic(nn.Module):
    """Tells real patches from painted ones, given the mask.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017
    (PatchGAN); Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = (3 + len(CLASSES), 2 * width, 4 * width, 6 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels[-1], 1, 3, padding=1)))

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """float[N, 1, H / 8, W / 8]: large for real patches."""
        scores: Tensor = self.layers(torch.cat([images, mask], dim=1))
        return scores


def without_lesions(real: Pictures) -> Image:
    """The pictures with what surrounds the lesions drawn over them, uint8[N, H, W, 3].

    Source: Telea, "An Image Inpainting Technique Based on the Fast Marching Method", 2004, in OpenCV.
    """
    wide = (cv2.dilate(mask, np.ones((5, 5), np.uint8)) for mask in real.masks)
    pairs = zip(real.images, wide, strict=True)
    return np.stack([cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA) for image, mask in pairs])


def train_painter(real: Pictures, tissue: Image, training: Training) -> nn.Module:
    """Painter against critic, with the hinge loss and L1; returns the painter with averaged weights.

    Each picture has a style of its own, drawn once, in whose neighbourhood the painter learns to paint its
    lesions (after Bojanowski et al., "Optimizing the Latent Space of Generative Networks", ICML 2018, without
    the optimisation): other styles come out between those.
    """
    torch.manual_seed(training.seed)
    painter, critic = channels_last(LesionPainter(training.width)), channels_last(Critic(training.width))
    average = AveragedModel(painter, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    painter_steps = torch.optim.Adam(painter.parameters(), lr=1e-3, betas=(0.0, 0.99))
    critic_steps = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.99))
    styles = torch.randn(len(real), STYLE)
    batches = Batches(real, training.seed, training.steps, training.batch, turned, tissue)
    for batch in progress(batches, training):
        pixels, behind = (channels_last(images * 2 - 1) for images in (batch.images, batch.tissue))
        mask = channels_last(one_hot(batch.labels))
        style = 0.9 * styles[batch.which] + 0.44 * torch.randn(len(mask), STYLE)  # of variance 1 again
        with half():
            painted = painter(style, mask, behind)
            on_real, on_painted = critic(pixels, mask).float(), critic(painted.detach(), mask).float()
        descend(critic_steps, functional.relu(1 - on_real).mean() + functional.relu(1 + on_painted).mean())
        with half():
            doubted = -critic(painted, mask).float().mean()
        descend(painter_steps, doubted + L1_WEIGHT * functional.l1_loss(painted.float(), pixels))
        average.update_parameters(painter)
    result: nn.Module = average.module.eval()
    return result


# --- the U-Net ----------------------------------------------------------------------------------------------


def train_unet(arm: Arm, training: Training) -> nn.Module:
    """Train on one arm's pictures; start, number of steps and size of a batch are the same for all arms."""
    torch.manual_seed(training.seed)
    network = channels_last(UNet(3, len(CLASSES), [training.width * 2**level for level in range(4)]))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=training.steps)
    vary = varied if arm.varied else as_it_is
    count = training.batch if arm.extra is None else training.batch // 2
    sources = [Batches(arm.pictures, training.seed, training.steps, count, vary)]
    if arm.extra is not None:
        sources.append(Batches(arm.extra, training.seed + 1, training.steps, count, vary))
    for parts in progress(zip(*sources, strict=True), training):
        images = torch.cat([part.images for part in parts])
        labels = torch.cat([part.labels for part in parts])
        with half():
            logits = network(channels_last(images)).float()
        descend(optimizer, functional.cross_entropy(logits, labels) + overlap_loss(logits, labels))
        schedule.step()
    return network.eval()


def overlap_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - soft Dice of the lesions of a batch.

    Source: Milletari et al., "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
    Segmentation", 3DV 2016.
    """
    lesion, truth = logits.softmax(dim=1)[:, 1], labels.float()
    return 1 - (2 * (lesion * truth).sum() + 1) / (lesion.sum() + truth.sum() + 1)


# --- batches ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one step gets."""

    which: Tensor
    """int64[N], positions in the set."""
    images: Tensor
    """float32[N, 3, H, W] in 0..1."""
    labels: Tensor
    """int64[N, H, W]."""
    tissue: Tensor
    """float32[N, 3, H, W] in 0..1, the images without lesions where those came too."""


@dataclasses.dataclass(frozen=True)
class Batches:
    """Pictures drawn with replacement; what step i gets depends on (seed, i) alone."""

    pictures: Pictures
    seed: int
    steps: int
    size: int
    vary: Vary
    tissue: Image | None = None
    """The pictures without lesions, where they matter."""

    def __iter__(self) -> Iterator[Batch]:
        images = self.pictures.images
        both = np.concatenate([images, images if self.tissue is None else self.tissue], axis=-1)
        for step in range(self.steps):
            rng = np.random.default_rng((self.seed, step))
            which = rng.integers(len(images), size=self.size)
            pairs = [self.vary(both[one], self.pictures.masks[one], rng) for one in which]
            pixels, masks = (np.stack(part) for part in zip(*pairs, strict=True))
            yield Batch(
                which=torch.from_numpy(which),
                images=as_tensor(pixels[..., :3]),
                labels=torch.from_numpy(masks).long(),
                tissue=as_tensor(pixels[..., 3:]),
            )


def as_it_is(image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
    """No variation."""
    return image, mask


def turned(image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
    """One of the eight turns and reflections of a square."""
    quarters, flip = int(rng.integers(4)), rng.random() < 0.5
    image, mask = np.rot90(image, quarters), np.rot90(mask, quarters)
    return (image[:, ::-1].copy(), mask[:, ::-1].copy()) if flip else (image.copy(), mask.copy())


def varied(image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Turned, in other light and colour, with noise."""
    image, mask = turned(image, mask, rng)
    tint = np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.05, image.shape[-1]))
    pixels = image * tint + rng.normal(0, rng.uniform(0, 5), image.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def as_tensor(images: Image) -> Tensor:
    """float32[N, 3, H, W] in 0..1 from uint8[N, H, W, 3]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def one_hot(labels: Tensor) -> Tensor:
    """float32[N, K, H, W] from int64[N, H, W]."""
    return functional.one_hot(labels, len(CLASSES)).permute(0, 3, 1, 2).float()


def channels_last(what: Any) -> Any:
    """A network or tensor laid out as convolutions on a CPU like it."""
    return what.to(memory_format=torch.channels_last)


def half() -> torch.autocast:
    """Where convolutions work in bfloat16."""
    return torch.autocast("cpu", torch.bfloat16)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def progress(batches: Any, training: Training) -> Any:
    """The batches with a progress bar."""
    return track(batches, training.name, training.steps, console=console(), transient=True)
