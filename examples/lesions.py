"""Procedural medical pictures: tissue with lesions in it, and their masks. Nothing here is a photograph.

Tissue is band-limited noise with fibres, vessels, reflections, shadows and uneven light. A lesion is an
irregular blob with a blurred edge, a colour and texture of its own and a contrast that varies from plain to
barely visible. Shadows and vessels look like lesions at first sight and are none: they are hard negatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("tissue", "lesion")
TISSUE_COLOR = (0.74, 0.47, 0.43)  # RGB of 0..1
LESION_COLORS = ((0.42, 0.22, 0.24), (0.83, 0.68, 0.55), (0.60, 0.24, 0.38))  # dark, pale, livid
VESSEL_COLOR = (0.52, 0.15, 0.17)
HEALTHY = 0.15  # share of pictures without a lesion

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Pictures:
    """Pictures, uint8[N, H, W, 3] RGB, and their masks, uint8[N, H, W]: 0 tissue, 1 lesion."""

    images: Image
    masks: Mask

    def __len__(self) -> int:
        return len(self.masks)


def draw_pictures(count: int, size: int, seed: int) -> Pictures:
    """Pictures of height and width `size`; picture i depends on (seed, i) alone."""
    masks = draw_masks(count, size, seed)
    images = [draw_picture(mask, np.random.default_rng((seed, 1, index))) for index, mask in enumerate(masks)]
    return Pictures(np.stack(images), masks)


def draw_masks(count: int, size: int, seed: int) -> Mask:
    """Masks, uint8[count, size, size]; mask i depends on (seed, i) alone."""
    return np.stack([draw_mask(size, np.random.default_rng((seed, 0, index))) for index in range(count)])


def draw_mask(size: int, rng: np.random.Generator) -> Mask:
    """One to three irregular blobs, or none."""
    mask = np.zeros((size, size), np.uint8)
    if rng.random() < HEALTHY:
        return mask
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        radius = size * rng.uniform(0.06, 0.2)
        mask |= blob(size, radius, rng.uniform(0.1 * size, 0.9 * size, 2), rng)
    return mask


def draw_picture(mask: Mask, rng: np.random.Generator) -> Image:
    """What the camera sees of a mask: uint8[H, W, 3], RGB."""
    size = len(mask)
    picture = tissue(size, rng)
    for _ in range(rng.integers(0, 3)):  # behind and beside the lesions: shadows
        shadow = blob(size, size * rng.uniform(0.08, 0.25), rng.uniform(0, size, 2), rng)
        soft = blurred(shadow.astype(np.float32), size * rng.uniform(0.03, 0.08))
        picture *= 1 - rng.uniform(0.2, 0.45) * soft[..., None]
    picture = with_lesions(picture, mask, rng)
    for _ in range(rng.integers(1, 5)):
        along = vessel(size, rng)[..., None] * rng.uniform(0.3, 0.8)
        picture += along * (np.array(VESSEL_COLOR, np.float32) - picture)
    for _ in range(rng.integers(0, 4)):  # reflections of the lamp
        spot = blob(size, size * rng.uniform(0.015, 0.05), rng.uniform(0, size, 2), rng)
        picture += blurred(spot.astype(np.float32), 0.8)[..., None] * rng.uniform(0.15, 0.5)
    picture *= light(size, rng)[..., None]
    picture += rng.normal(0, 0.012, picture.shape).astype(np.float32)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def tissue(size: int, rng: np.random.Generator) -> Field:
    """float32[size, size, 3] of about 0..1: a base colour with clouds, grain and fibres."""
    color = np.array(TISSUE_COLOR, np.float32) * np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    clouds = 0.10 * noise(size, size / 8, rng) + 0.05 * noise(size, size / 20, rng)
    grain = rng.uniform(0.02, 0.06) * noise(size, 1, rng)
    shade = clouds + grain + rng.uniform(0.02, 0.08) * fibres(size, rng)
    tint = 0.03 * np.stack([noise(size, size / 6, rng) for _ in range(3)], axis=-1)
    return np.asarray(color * (1 + shade[..., None]) + tint, np.float32)


def with_lesions(picture: Field, mask: Mask, rng: np.random.Generator) -> Field:
    """Lay lesions over tissue where the mask has them."""
    size = len(mask)
    color = np.array(LESION_COLORS[rng.integers(len(LESION_COLORS))], np.float32)
    color = color * np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
    spots = 0.22 * noise(size, 1.5, rng) + 0.1 * noise(size, 4, rng)
    alpha = blurred(mask.astype(np.float32), rng.uniform(0.6, 1.8)) * rng.uniform(0.25, 0.9)
    return picture + alpha[..., None] * (color * (1 + spots[..., None]) - picture)


def blob(size: int, radius: float, centre: NDArray[np.float64], rng: np.random.Generator) -> Mask:
    """An irregular disc, uint8[size, size] of 0 and 1: a radius that varies smoothly with the angle."""
    rows, columns = np.mgrid[:size, :size] - centre[:, None, None]
    angle = np.arctan2(rows, columns)
    waves = (
        rng.normal(0, 0.25 / order) * np.cos(order * angle + rng.uniform(0, 6.3)) for order in (2, 3, 4, 5)
    )
    edge = radius * np.exp(sum(waves))
    return (np.hypot(rows, columns) < edge).astype(np.uint8)


def vessel(size: int, rng: np.random.Generator) -> Field:
    """A winding line across the picture, float32[size, size] of 0..1."""
    heading = rng.uniform(0, 2 * math.pi)
    at = size / 2 - 0.8 * size * np.array([math.sin(heading), math.cos(heading)]) + rng.normal(0, size / 4, 2)
    points = [at]
    for _ in range(24):
        heading += rng.normal(0, 0.2)
        at = at + size / 14 * np.array([math.sin(heading), math.cos(heading)])
        points.append(at)
    line = np.zeros((size, size), np.uint8)
    corners = np.rint(np.array(points)[:, ::-1] * 16).astype(np.int32)  # x, y in 1/16 pixel, as OpenCV wants
    cv2.polylines(line, [corners], False, 255, int(rng.integers(1, 4)), cv2.LINE_AA, shift=4)
    return blurred(line.astype(np.float32) / 255, rng.uniform(0.5, 1.2))


def fibres(size: int, rng: np.random.Generator) -> Field:
    """Noise that is smooth along one direction and rough across it, of variance 1."""
    length = 2 * (size // 6) + 1
    centre, angle = (length - 1) / 2, rng.uniform(0, math.pi)
    offset = centre * np.array([math.cos(angle), math.sin(angle)])
    kernel = np.zeros((length, length), np.float32)
    ends = np.rint(np.stack([centre - offset, centre + offset]) * 16).astype(np.int32)
    cv2.polylines(kernel, [ends], False, 1.0, 1, cv2.LINE_8, shift=4)
    return standardised(cv2.filter2D(rng.normal(size=(size, size)).astype(np.float32), -1, kernel))


def noise(size: int, scale: float, rng: np.random.Generator) -> Field:
    """Noise without detail finer than `scale` pixels, of mean 0 and variance 1."""
    return standardised(blurred(rng.normal(size=(size, size)).astype(np.float32), scale))


def light(size: int, rng: np.random.Generator) -> Field:
    """Factor of brightness per pixel: a lamp somewhere that does not light the corners."""
    centre = rng.uniform(0.2, 0.8, 2)[:, None, None]
    rows, columns = np.mgrid[:size, :size] / size - centre
    return np.asarray(
        rng.uniform(0.9, 1.15) * (1 - rng.uniform(0.2, 0.6) * (rows**2 + columns**2)), np.float32
    )


def blurred(field: Field, sigma: float) -> Field:
    """Gaussian blur, reflected at the borders."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def standardised(field: Field) -> Field:
    """The field with mean 0 and variance 1."""
    return np.asarray((field - field.mean()) / field.std(), np.float32)
