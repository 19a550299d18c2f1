"""Inputs for any generator, where it is no matter what the images show: for measuring and for checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from pixelrt.generation.drawing import draw_labels, draw_latents, draw_noise
from pixelrt.manifest import GenerationManifest

_BLOCK_PX = 16


def invented_inputs(
    manifest: GenerationManifest, count: int, seed: int, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """All that a generator takes, for several images, as arguments of its call. Masks are of large blocks.

    Args:
        manifest: What it takes.
        count: Number of images.
        seed: Other seeds give other inputs.
        size: Height and width of masks and images; None for the network's own.
    """
    random, places = np.random.default_rng(seed), range(count)
    given: dict[str, Any] = {noise.name: draw_noise(noise, seed, places) for noise in manifest.noise}
    if manifest.latent is not None:
        given["latent"] = draw_latents(manifest.latent, seed, places)
    if manifest.label is not None:
        given["label"] = draw_labels(manifest.label, seed, places)
    if manifest.mask is not None:
        height, width = size or manifest.mask.size
        shape = (count, -(-height // _BLOCK_PX), -(-width // _BLOCK_PX))
        blocks = random.integers(0, len(manifest.mask.classes), shape).astype(np.uint8)
        masks = blocks.repeat(_BLOCK_PX, axis=1).repeat(_BLOCK_PX, axis=2)
        given["mask"] = list(masks[:, :height, :width])
    if manifest.image is not None:
        pixels = (count, *(size or manifest.image.size), manifest.image.channels)
        given["image"] = list(random.integers(0, 256, pixels, np.uint8))
    return given
