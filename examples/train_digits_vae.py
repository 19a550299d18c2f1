"""Train a variational autoencoder on handwritten digits.

    python examples/train_digits_vae.py DATA --out runs/digits-vae

DATA holds IDX files as MNIST's, gzip or plain: images and, under the same name with "labels" for "images",
their labels. Without DATA, scikit-learn's 8x8 digits are enlarged. One digit in ten is held out. The loss is
the reconstruction error of an image (--loss) plus --kl times the divergence of its latent from N(0, 1);
`--loss mse --kl 0` is the plain sum of ||G(z_i) - x_i||^2, an autoencoder, whose latents are not N(0, 1). The
run is deterministic for one seed, thread count and device. It writes OUT/samples.png (held-out digits, each
with its reconstruction on the right, above new digits) and OUT/last.pt after every epoch (continue with
--resume), at the end OUT/digits-vae.safetensors, averaged weights, and OUT/test.json: errors on the held-out
digits, and what a classifier makes of the reconstructions and of new digits.
"""

from __future__ import annotations

import argparse
from typing import cast

import numpy as np
import torch
from digits import (
    Digits,
    Images,
    Training,
    accuracy,
    as_bytes,
    as_input,
    chunks,
    load_digits,
    parser_of,
    prepare,
    probabilities,
    report,
    save_weights,
    train_classifier,
)
from torch import Tensor
from torch.nn import functional
from training_runs import load_weights, positive, weight

from pixelrt_export.models.vae import VAE


def main() -> None:
    """Train, then reconstruct the held-out digits."""
    options = parse_arguments()
    prepare(options)
    digits, held_out = load_digits(options.data, options.size)
    network = cast(VAE, VaeTraining(options, digits, held_out).run())
    save_weights(network, options.out / "digits-vae.safetensors")
    report(evaluate(network, digits, held_out, options), "held-out digits", options.out / "test.json")


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = parser_of(__doc__, "runs/digits-vae")
    parser.add_argument(
        "--loss",
        choices=("bernoulli", "mse"),
        default="bernoulli",
        help="reconstruction error: cross entropy of the grey values, or their squared error (%(default)s)",
    )
    parser.add_argument(
        "--kl", type=weight, default=1.0, help="weight of the divergence; 0: an autoencoder (%(default)s)"
    )
    parser.add_argument("--latent", type=positive, default=16, help="length of the latent (%(default)s)")
    parser.add_argument("--epochs", type=positive, default=60, help="times every digit is seen (%(default)s)")
    parser.add_argument("--lr", type=weight, default=1e-3, help="learning rate at first (%(default)s)")
    parser.add_argument(
        "--samples", type=positive, default=1000, help="new digits in the evaluation (%(default)s)"
    )
    return parser.parse_args()


# --- training -----------------------------------------------------------------------------------------------


class VaeTraining(Training):
    """The negative evidence lower bound of Kingma and Welling, "Auto-Encoding Variational Bayes", 2013."""

    def __init__(self, options: argparse.Namespace, digits: Digits, held_out: Digits) -> None:
        network = VAE(tuple(options.size), 1, options.latent, options.width)
        if options.init:
            load_weights(network, options.init, "--init", "--size, --width and --latent")
        super().__init__(options, digits, network)
        self.vae, self.held_out = network, held_out
        self.adam = self.optimizer("vae", network)

    def step(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """One gradient step; the losses are sums over an image, means over the batch."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.options.device, torch.bfloat16):
            latent, divergence = self.latents(images)
            logits = self.vae.decoder.synthesis(latent)
        error = reconstruction_loss(logits.float(), images, self.options.loss).mean()
        loss = error + self.options.kl * divergence.mean()
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        return {"reconstruction": float(error.detach()), "divergence": float(divergence.detach().mean())}

    def latents(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of images and their divergence; without a weight on it, the mean and none."""
        if self.options.kl:
            return self.vae.sample_posterior(images)
        mean, _ = self.vae.encoder(images)
        return mean, mean.new_zeros(len(mean))

    @torch.inference_mode()
    def samples(self) -> tuple[Images, int]:
        """Five rows of held-out digits, each with its reconstruction on the right, and five of new digits."""
        network = cast(VAE, self.average.module)
        shown = self.held_out.images[:25]
        pairs = np.stack([shown, reconstruct(network, shown, self.options.device)], axis=1)
        return np.concatenate(
            [pairs.reshape(-1, *shown.shape[1:]), new_digits(network, 50, self.options)]
        ), 10


def reconstruction_loss(logits: Tensor, images: Tensor, loss: str) -> Tensor:
    """The error of each image, float[N], of logits and images, float[N, 1, H, W]; images in 0..1.

    `bernoulli` is the paper's appendix C.1 in nats; `mse` the sum of squares, the log likelihood of a normal
    distribution with variance 1/2, up to a constant.
    """
    if loss == "bernoulli":
        errors = functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
    else:
        errors = (torch.sigmoid(logits) - images).square()
    return errors.sum((1, 2, 3))


# --- evaluation ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def reconstruct(network: VAE, images: Images, device: str) -> Images:
    """Grey images, uint8[N, H, W], from the means of their posteriors."""
    return np.concatenate([as_bytes(network(as_input(part, device))) for part in chunks(images)])


@torch.inference_mode()
def new_digits(network: VAE, count: int, options: argparse.Namespace) -> Images:
    """Grey images, uint8[N, H, W], from latents drawn from N(0, 1), always the same ones."""
    source = torch.Generator().manual_seed(0)
    latents = torch.randn(count, options.latent, generator=source).to(options.device)
    return np.concatenate([as_bytes(network.decoder(part)) for part in latents.split(250)])


@torch.inference_mode()
def bound(network: VAE, images: Images, device: str) -> tuple[float, float]:
    """Mean cross entropy of images and divergence of their posteriors, in nats, with one draw an image."""
    torch.manual_seed(0)
    errors, divergences = [], []
    for part in chunks(images):
        inputs = as_input(part, device)
        latent, divergence = network.sample_posterior(inputs)
        errors.append(reconstruction_loss(network.decoder.synthesis(latent), inputs, "bernoulli"))
        divergences.append(divergence)
    return float(torch.cat(errors).mean()), float(torch.cat(divergences).mean())


def evaluate(network: VAE, digits: Digits, held_out: Digits, options: argparse.Namespace) -> dict[str, float]:
    """Errors of the reconstructions, and what a classifier makes of them and of new digits."""
    judge = train_classifier(digits, options.judge_epochs, options.device)
    rebuilt = reconstruct(network, held_out.images, options.device)
    differences = (rebuilt.astype(np.float64) - held_out.images) / 255
    error, divergence = bound(network, held_out.images, options.device)
    written = new_digits(network, options.samples, options)
    on_real, on_rebuilt, on_written = (
        probabilities(judge, images, options.device) for images in (held_out.images, rebuilt, written)
    )
    sure = on_written.max(1) >= 0.9
    return {
        "squared error per image": round(float((differences**2).sum((1, 2)).mean()), 3),
        "squared error per pixel": round(float((differences**2).mean()), 5),
        "PSNR dB": round(float(-10 * np.log10((differences**2).mean())), 2),
        "cross entropy nats": round(error, 2),
        "divergence nats": round(divergence, 2),
        "negative bound nats": round(error + divergence, 2),
        "classifier on held-out digits %": accuracy(on_real, held_out.labels),
        "classifier on their reconstructions %": accuracy(on_rebuilt, held_out.labels),
        "new digits of which the classifier is 90 % sure %": round(100 * float(sure.mean()), 2),
    }


if __name__ == "__main__":
    main()
