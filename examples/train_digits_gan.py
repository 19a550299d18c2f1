"""Train a GAN that writes handwritten digits, told which digit to write or, with --unconditional, not.

    python examples/train_digits_gan.py DATA --out runs/digits-cgan

DATA holds IDX files as MNIST's, gzip or plain: images and, under the same name with "labels" for "images",
their labels. Without DATA, scikit-learn's 8x8 digits are enlarged. One digit in ten is held out. The run is
deterministic for one seed, thread count and device. It writes OUT/samples.png and OUT/last.pt after every
epoch (continue with --resume), at the end OUT/digits-cgan.safetensors (digits-dcgan with --unconditional),
averaged weights, and OUT/test.json: what a classifier trained on the same digits makes of the samples, and
how much they differ from each other and from the digits trained on.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from digits import (
    Digits,
    Images,
    Labels,
    Training,
    accuracy,
    as_bytes,
    load_digits,
    parser_of,
    prepare,
    probabilities,
    report,
    save_weights,
    train_classifier,
)
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from training_runs import load_weights, positive, weight

from pixelrt_export.models.dcgan import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    DCGANDiscriminator,
    DCGANGenerator,
)


def main() -> None:
    """Train, then judge samples."""
    options = parse_arguments()
    prepare(options)
    digits, held_out = load_digits(options.data, options.size)
    generator = GanTraining(options, digits).run()
    name = "digits-dcgan" if options.unconditional else "digits-cgan"
    save_weights(generator, options.out / f"{name}.safetensors")
    report(evaluate(generator, digits, held_out, options), "samples", options.out / "test.json")


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = parser_of(__doc__, "runs/digits-cgan")
    parser.add_argument("--unconditional", action="store_true", help="train a plain DCGAN")
    parser.add_argument("--latent", type=positive, default=64, help="length of the latent (%(default)s)")
    parser.add_argument("--epochs", type=positive, default=60, help="times every digit is seen (%(default)s)")
    parser.add_argument(
        "--lr", type=weight, default=2e-4, help="learning rate of both networks at first (%(default)s)"
    )
    parser.add_argument(
        "--samples", type=positive, default=1000, help="samples per class in the evaluation (%(default)s)"
    )
    return parser.parse_args()


# --- training -----------------------------------------------------------------------------------------------


class GanTraining(Training):
    """Generator against discriminator, with the non-saturating loss of Goodfellow et al., 2014.

    "Generative Adversarial Nets", 2014; Adam with a momentum of 0.5 as in Radford et al., 2015.
    """

    def __init__(self, options: argparse.Namespace, digits: Digits) -> None:
        super().__init__(options, digits, build_generator(options, digits))
        critic = build_discriminator(options, digits)
        self.discriminator = critic.to(options.device, memory_format=torch.channels_last)
        self.generator_optimizer = self.optimizer("generator", self.network, beta=0.5)
        self.discriminator_optimizer = self.optimizer("discriminator", self.discriminator, beta=0.5)
        self.state["judge"] = self.discriminator

    def step(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """One step of the discriminator and one of the generator, on the same fakes."""
        classes = () if self.options.unconditional else (labels,)
        real = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
        latent = torch.randn(len(images), self.options.latent, device=images.device)
        with torch.autocast(self.options.device, torch.bfloat16):
            fake = self.network(latent, *classes)
            on_real, on_fake = (self.discriminator(x, *classes).float() for x in (real, fake.detach()))
        told_apart = functional.softplus(-on_real).mean() + functional.softplus(on_fake).mean()
        descend(self.discriminator_optimizer, told_apart)
        with torch.autocast(self.options.device, torch.bfloat16):
            judged = self.discriminator(fake, *classes).float()
        caught = functional.softplus(-judged).mean()
        descend(self.generator_optimizer, caught)
        return {"discriminator": float(told_apart.detach()), "generator": float(caught.detach())}

    def samples(self) -> tuple[Images, int]:
        """Ten of each class, a row per class, from the same latents after every epoch."""
        classes = np.repeat(np.arange(self.digits.num_classes), 10)
        return generate(self.average.module, classes, self.options, seed=0), 10


def build_generator(options: argparse.Namespace, digits: Digits) -> nn.Module:
    """The generator that the options ask for, from --init where it is given."""
    size = tuple(options.size)
    if options.unconditional:
        network: nn.Module = DCGANGenerator(size, 1, options.latent, options.width)
    else:
        network = ConditionalGenerator(size, 1, options.latent, digits.num_classes, options.width)
    if options.init:
        load_weights(network, options.init, "--init", "--size, --width and --latent")
    return network


def build_discriminator(options: argparse.Namespace, digits: Digits) -> nn.Module:
    """The discriminator that goes with the generator."""
    size = tuple(options.size)
    if options.unconditional:
        return DCGANDiscriminator(size, 1, options.width)
    return ConditionalDiscriminator(size, 1, digits.num_classes, options.width)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


# --- evaluation ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def generate(network: nn.Module, classes: Labels, options: argparse.Namespace, *, seed: int) -> Images:
    """One grey image, uint8[N, H, W], of each class asked for; plain GANs take no notice of the class."""
    source = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(classes), options.latent, generator=source).to(options.device)
    labels = torch.from_numpy(classes).to(options.device)
    parts = []
    for latent, label in zip(latents.split(250), labels.split(250), strict=True):
        images = network(latent) if options.unconditional else network(latent, label)
        parts.append(as_bytes((images + 1) / 2))
    return np.concatenate(parts)


def evaluate(
    generator: nn.Module, digits: Digits, held_out: Digits, options: argparse.Namespace
) -> dict[str, float]:
    """What a classifier makes of the samples, and how much they vary.

    For a plain GAN, a sample's class is the one that the classifier finds.
    """
    judge = train_classifier(digits, options.judge_epochs, options.device)
    asked = np.repeat(np.arange(digits.num_classes), options.samples)
    images = generate(generator, asked, options, seed=1)
    found = probabilities(judge, images, options.device)
    on_real = probabilities(judge, held_out.images, options.device)
    scores = {"classifier on held-out digits %": accuracy(on_real, held_out.labels)}
    if options.unconditional:
        asked = found.argmax(1)
        for label in range(digits.num_classes):
            scores[f"samples that are a {label} %"] = round(100 * float((asked == label).mean()), 2)
    else:
        scores["samples of the class asked for %"] = accuracy(found, asked)
        for label in range(digits.num_classes):
            scores[f"asked for {label} %"] = accuracy(found[asked == label], asked[asked == label])
    return scores | variety(Digits(images, asked), digits, held_out)


def variety(samples: Digits, digits: Digits, held_out: Digits) -> dict[str, float]:
    """How samples differ from each other and from the digits trained on, against how real digits do.

    Spread is the standard deviation of a pixel within a class, over all pixels: samples that are all alike
    have none. Distance is the median distance of an image from the nearest one of its class that was trained
    on: samples that copy have none, and held-out digits show what it is for new ones.
    """
    scores: dict[str, float] = {}
    spreads = []
    for label in range(digits.num_classes):
        written, real = (group.images[group.labels == label] for group in (samples, digits))
        if len(written) > 1:
            spreads.append(spread(written) / spread(real))
            scores[f"spread of {label} against real digits"] = round(spreads[-1], 3)
    if spreads:
        scores["smallest spread"] = round(min(spreads), 3)
    scores["distance from the nearest real digit"] = round(distance(samples, digits), 2)
    scores["the same of held-out digits"] = round(distance(held_out, digits), 2)
    return scores


def spread(images: Images) -> float:
    """Root mean square over pixels of their standard deviation, in bytes."""
    return float(np.sqrt(images.astype(np.float64).var(0).mean()))


def distance(images: Digits, digits: Digits) -> float:
    """Median over images of the Euclidean distance to the nearest digit of the same class, pixels 0..1."""
    nearest: list[NDArray[np.float32]] = []
    for label in range(digits.num_classes):
        some, others = (group.images[group.labels == label] for group in (images, digits))
        rows, columns = (torch.from_numpy(group).flatten(1) / 255 for group in (some, others))
        nearest.append(torch.cdist(rows, columns).min(1).values.numpy())
    return float(np.median(np.concatenate(nearest)))


if __name__ == "__main__":
    main()
