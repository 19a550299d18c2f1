"""The textures of a drive, painted once: ground, facades, trees, fences, sky."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixelrt.dependency import require
from pixelrt.video.drive.canvas import Texture
from pixelrt.video.drive.light import Colour

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rng = np.random.Generator

GROUND_HALF_M = 20.0
GROUND_LONG_M = 48.0
GROUND_ACROSS = 32  # texels a metre
GROUND_ALONG = 20
_WALL = 28  # texels a metre of facade

_PURPOSE = "drawing the procedural drive"
_WALLS: tuple[Colour, ...] = (
    (150, 118, 92),
    (128, 84, 66),
    (172, 150, 112),
    (196, 186, 168),
    (214, 208, 196),
    (140, 132, 122),
    (118, 108, 98),
    (170, 140, 118),
    (186, 172, 132),
)
_SHOPS: tuple[Colour, ...] = (
    (30, 40, 90),
    (120, 24, 26),
    (26, 78, 50),
    (40, 40, 44),
    (180, 170, 150),
    (160, 110, 30),
    (90, 30, 80),
)


@dataclass(frozen=True, slots=True)
class Street:
    """The cross-section of the road, in metres from its centre."""

    half_m: float
    pavement_m: float
    walls_m: float
    grass: bool


def cloud(rng: Rng, shape: tuple[int, int], coarse: int, octaves: int = 3) -> Floats:
    """Smooth noise float32[H, W] of mean 0 and spread about 1; `coarse` is its spots' size in texels."""
    cv2 = require("cv2", "video", _PURPOSE)
    total, weight = np.zeros(shape, np.float32), 1.0
    for _ in range(octaves):
        cells = (max(shape[0] // coarse, 2), max(shape[1] // coarse, 2))
        spots = rng.standard_normal(cells, dtype=np.float32)
        total += weight * cv2.resize(spots, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
        weight, coarse = weight * 0.6, max(coarse // 2, 1)
    return total / max(float(total.std()), 1e-6)


@lru_cache(maxsize=1)
def _grain() -> Floats:
    """Fine noise to cut pieces from: drawing it anew for every surface took most of a scene's time."""
    return np.random.default_rng(0).standard_normal((1300, 1700), dtype=np.float32)


def plain(rng: Rng, shape: tuple[int, int], colour: Colour, rough: tuple[float, float]) -> Floats:
    """A surface float32[H, W, 3] with fine grain and large stains of the given strengths."""
    sheet = _grain()
    row = int(rng.integers(0, sheet.shape[0] - shape[0]))
    col = int(rng.integers(0, sheet.shape[1] - shape[1]))
    grain = rough[0] * sheet[row : row + shape[0], col : col + shape[1]] + rough[1] * cloud(rng, shape, 64)
    return np.array(colour, np.float32) + grain[..., None]


def to_bytes(image: Floats) -> Bytes:
    """Clip and round."""
    return np.clip(image, 0, 255).astype(np.uint8)


def ground(rng: Rng, street: Street) -> tuple[Texture, Bytes]:
    """The ground from above and its labels; rows go ahead, and the last rows meet the first."""
    cv2 = require("cv2", "video", _PURPOSE)
    shape = (int(GROUND_LONG_M * GROUND_ALONG), int(2 * GROUND_HALF_M * GROUND_ACROSS))
    grey = float(rng.uniform(62, 104))
    image = plain(rng, shape, (grey, grey, grey + 2), (5.0, 3.5))
    x = (np.arange(shape[1]) + 0.5) / GROUND_ACROSS - GROUND_HALF_M
    for lane in (-street.half_m / 2, street.half_m / 2):  # tyres polish and darken
        for wheel in (-0.75, 0.75):
            image -= (7 * np.exp(-(((x - lane - wheel) / 0.35) ** 2))).astype(np.float32)[None, :, None]
    _patches(rng, image, street)
    labels = np.full(shape, 3, np.uint8)
    paving = np.abs(x) > street.half_m
    slabs = plain(rng, shape, _paving(rng), (4.0, 4.0))
    joints = cv2.resize(rng.normal(0, 5, (shape[0] // 12, shape[1] // 19)).astype(np.float32), shape[::-1],
                        interpolation=cv2.INTER_NEAREST)  # fmt: skip
    slabs += joints[..., None]
    slabs[::12] -= 22
    slabs[:, ::19] -= 22
    image[:, paving] = slabs[:, paving]
    labels[:, paving] = 4
    edge = np.abs(x) - street.half_m
    image[:, (edge > 0) & (edge < 0.16)] = image[:, (edge > 0) & (edge < 0.16)] * 0.4 + 96
    image[:, (edge > -0.14) & (edge <= 0.03)] *= 0.62
    if street.grass:
        lawn = np.abs(x) > street.half_m + street.pavement_m
        green = plain(rng, shape, (82, 98, 52), (13.0, 9.0))
        image[:, lawn] = green[:, lawn]
        labels[:, lawn] = 5
    _markings(rng, image, x, street)
    return Texture.of(to_bytes(image)), labels


def _paving(rng: Rng) -> Colour:
    level = float(rng.uniform(108, 150))
    return level, level - float(rng.uniform(0, 5)), level - float(rng.uniform(2, 13))


def _patches(rng: Rng, image: Floats, street: Street) -> None:
    for _ in range(int(rng.integers(2, 7))):
        row = int(rng.integers(0, image.shape[0] - 120))
        col = int((GROUND_HALF_M + rng.uniform(-street.half_m, street.half_m - 1.5)) * GROUND_ACROSS)
        size = (int(rng.integers(20, 120)), int(rng.integers(20, 60)))
        image[row : row + size[0], col : col + size[1]] += float(rng.uniform(-14, 9))
    for _ in range(3):  # manholes
        row = int(rng.integers(20, image.shape[0] - 40))
        col = int((GROUND_HALF_M + rng.uniform(-0.6, 0.6) * street.half_m) * GROUND_ACROSS)
        image[row : row + 12, col : col + 19] *= 0.6


def _markings(rng: Rng, image: Floats, x: NDArray[np.float64], street: Street) -> None:
    paint = float(rng.uniform(175, 215))
    worn = np.clip(0.75 + 0.2 * cloud(rng, (image.shape[0], image.shape[1]), 16, 2), 0.15, 1.0)[..., None]
    white = np.array([paint, paint, paint - 4], np.float32)
    yellow = np.array([paint * 0.95, paint * 0.8, paint * 0.3], np.float32)
    along = (np.arange(image.shape[0]) + 0.5) / GROUND_ALONG
    dash = float(rng.choice([4.0, 6.0]))
    rows = along % dash < dash * float(rng.choice([0.45, 0.66]))
    _stripe(image, worn, np.abs(x) < 0.06, rows, white)
    style, every = int(rng.integers(0, 4)), np.ones_like(rows)
    edge = street.half_m - np.abs(x)
    if style in (0, 1):  # double or single yellow
        _stripe(image, worn, np.abs(edge - 0.3) < 0.05, every, yellow)
    if style == 0:
        _stripe(image, worn, np.abs(edge - 0.5) < 0.05, every, yellow)
    if style == 2:  # a cycle lane
        _stripe(image, worn, np.abs(edge - 1.3) < 0.05, along % 3.0 < 2.0, white)


def _stripe(
    image: Floats, worn: Floats, cols: NDArray[np.bool_], rows: NDArray[np.bool_], colour: Floats
) -> None:
    where = np.ix_(rows, cols)
    image[where] = image[where] * (1 - worn[where]) + colour * worn[where]


def facade(rng: Rng, length_m: float, height_m: float) -> Texture:
    """One house front with windows, and a shop or doors at street level."""
    shape = (int(height_m * _WALL), int(length_m * _WALL))
    wall = _WALLS[int(rng.integers(0, len(_WALLS)))]
    image = plain(rng, shape, wall, (5.0, 7.0))
    if rng.random() < 0.6:
        _bricks(rng, image)
    image *= np.linspace(1.05, 0.9, shape[0], dtype=np.float32)[:, None, None]
    ground_m = float(rng.uniform(3.0, 3.8))
    shop = rng.random() < 0.55
    storeys = max(int((height_m - ground_m) / 3.0), 1)
    storey = (height_m - ground_m) / storeys
    wide, bay = float(rng.uniform(0.9, 1.7)), float(rng.uniform(2.0, 3.4))
    glassy = rng.random() < 0.15
    for floor in range(storeys):
        top = floor * storey + 0.55
        for start in np.arange(bay / 2, length_m - bay / 3, bay):
            half = bay * 0.47 if glassy else wide / 2
            _window(rng, image, (top, top + storey * (0.8 if glassy else 0.55)), (start - half, start + half))
    cornice = slice(0, int(0.3 * _WALL))
    image[cornice] = image[cornice] * 0.5 + 90
    _street_level(rng, image, ground_m, shop)
    return Texture.of(to_bytes(image))


def _bricks(rng: Rng, image: Floats) -> None:
    rows, cols = image.shape[:2]
    tone = np.repeat(np.repeat(rng.normal(0, 7, (rows // 3 + 1, cols // 7 + 1)), 3, 0), 7, 1)[:rows, :cols]
    image += tone[..., None].astype(np.float32)
    image[::3] += 12


def _window(rng: Rng, image: Floats, rows_m: tuple[float, float], cols_m: tuple[float, float]) -> None:
    top, bottom = (int(v * _WALL) for v in rows_m)
    left, right = (max(int(v * _WALL), 0) for v in cols_m)
    if right - left < 6 or bottom - top < 6:
        return
    frame = (
        np.array([205, 203, 198], np.float32) if rng.random() < 0.8 else np.array([70, 66, 62], np.float32)
    )
    image[bottom : bottom + 4, max(left - 3, 0) : right + 3] = 178  # the sill
    image[top - 4 : top, left:right] *= 0.8
    image[top:bottom, left:right] = frame
    glass = image[top + 2 : bottom - 2, left + 2 : right - 2]
    shine = np.linspace(rng.uniform(60, 150), rng.uniform(25, 60), glass.shape[0], dtype=np.float32)
    glass[:] = shine[:, None, None] * np.array([0.9, 0.98, 1.08], np.float32)
    if rng.random() < 0.5:  # curtains
        part = max(glass.shape[1] // 5, 1)
        glass[:, :part] = glass[:, -part:] = float(rng.uniform(120, 190))
    middle = (top + bottom) // 2
    image[middle : middle + 2, left:right] = frame
    image[top:bottom, (left + right) // 2 : (left + right) // 2 + 2] = frame


def _street_level(rng: Rng, image: Floats, ground_m: float, shop: bool) -> None:
    rows, cols = image.shape[:2]
    top = rows - int(ground_m * _WALL)
    if not shop:
        for start in np.arange(1.4, cols / _WALL - 1.0, float(rng.uniform(2.6, 3.4))):
            base = rows / _WALL
            if rng.random() < 0.35:
                left, right = int((start - 0.5) * _WALL), int((start + 0.5) * _WALL)
                image[rows - int(2.2 * _WALL) :, left:right] = np.array(
                    _SHOPS[int(rng.integers(0, 5))], np.float32
                )
            else:
                _window(rng, image, (base - 2.5, base - 1.0), (start - 0.6, start + 0.6))
        return
    colour = np.array(_SHOPS[int(rng.integers(0, len(_SHOPS)))], np.float32)
    image[top:] = colour * 0.9
    fascia = image[top + 4 : top + int(0.75 * _WALL)]
    fascia[:] = colour
    _lettering(rng, fascia, 225.0 if colour.mean() < 120 else 40.0)
    pane = float(rng.uniform(1.4, 2.6))
    for start in np.arange(0.2, cols / _WALL - 0.8, pane):
        left, right = int(start * _WALL), min(int((start + pane - 0.15) * _WALL), cols)
        view = image[top + int(0.9 * _WALL) : rows - int(rng.choice([0.1, 0.5]) * _WALL), left:right]
        inside = 26 * cloud(rng, (view.shape[0], view.shape[1]), 20, 2) + float(rng.uniform(45, 105))
        view[:] = np.clip(inside, 12, 235)[..., None] * np.array([1.0, 0.97, 0.92], np.float32)


def _lettering(rng: Rng, fascia: Floats, ink: float) -> None:
    high, wide = fascia.shape[:2]
    col, end = int(rng.uniform(0.1, 0.3) * wide), int(rng.uniform(0.6, 0.9) * wide)
    while col < end:
        letter = int(rng.integers(5, 11))
        fascia[high // 4 : -high // 4, col : col + letter] = ink
        fascia[high // 4 + 3 : -high // 4 - 2, col + 2 : col + letter - 2] += (fascia[0, 0] - ink) * 0.8
        col += letter + (3 if rng.random() < 0.85 else 14)


def leafy_tree(rng: Rng, size: tuple[int, int] = (320, 256)) -> Texture:
    """A tree in leaf: blobs lit from above, with a ragged rim and holes."""
    cv2 = require("cv2", "video", _PURPOSE)
    image = np.zeros((*size, 3), np.uint8)
    mask = np.zeros(size, np.uint8)
    rows, cols = size
    base = np.array([rng.uniform(58, 92), rng.uniform(80, 98), rng.uniform(46, 62)])
    image[:] = np.clip(base * 0.75, 0, 255)
    foot, fork = (cols // 2, rows - 1), (cols // 2, rows // 2)
    cv2.line(image, foot, fork, (72, 60, 50), 9)
    cv2.line(mask, foot, fork, 255, 9)
    crown = (0.42 * rows, 0.37 * rows)
    for _ in range(260):
        angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        col = cols / 2 + reach * 0.40 * cols * np.cos(angle)
        row = crown[0] + reach * crown[1] * np.sin(angle)
        radius = int(rng.uniform(6, 20))
        light = 0.55 + 0.6 * (1 - row / (0.8 * rows)) + rng.normal(0, 0.12)
        ink = tuple(float(v) for v in np.clip(base * light, 0, 255))
        cv2.circle(image, (int(col), int(row)), radius, ink, -1)
        cv2.circle(mask, (int(col), int(row)), radius, 255, -1)
    leaves = cloud(rng, size, 8, 3)
    image = to_bytes(image.astype(np.float32) * (1 + 0.24 * leaves[..., None]))
    ragged = cv2.GaussianBlur(mask, (0, 0), 5).astype(np.float32) + 42 * leaves
    ragged[int(0.8 * rows) :] = mask[int(0.8 * rows) :]
    return Texture.of(image, to_bytes((ragged > 118).astype(np.float32) * 255))


def bare_tree(rng: Rng, size: tuple[int, int] = (384, 288)) -> Texture:
    """A tree in winter: branches that fork until they are twigs, the twigs as a thin veil."""
    cv2 = require("cv2", "video", _PURPOSE)
    mask = np.zeros(size, np.uint8)
    tips = [(size[1] / 2, size[0] - 1.0, -np.pi / 2, 0.27 * size[0], 10.0)]
    while tips:
        col, row, angle, length, width = tips.pop()
        end = (col + length * np.cos(angle), row + length * np.sin(angle))
        cv2.line(mask, (int(col), int(row)), (int(end[0]), int(end[1])), 255, max(int(width), 1), cv2.LINE_AA)
        inside = 0.1 * size[1] < end[0] < 0.9 * size[1] and end[1] > 0.06 * size[0]
        if width < 0.9 or not inside:
            continue
        for _ in range(3 if width < 6 else 4):
            turn = angle + rng.normal(0, 0.5)
            tips.append((end[0], end[1], turn, length * rng.uniform(0.62, 0.88), width * 0.57))
    tone = float(rng.uniform(48, 84))
    image = to_bytes(plain(rng, size, (tone * 1.08, tone, tone * 0.86), (8.0, 8.0)))
    return Texture.of(image, mask)


def hedge(rng: Rng) -> Texture:
    """A clipped hedge."""
    leaves = cloud(rng, (64, 512), 8, 3)[..., None]
    image = np.array([66, 84, 46], np.float32) * (1 + 0.28 * leaves)
    return Texture.of(to_bytes(image * np.linspace(1.15, 0.7, 64, dtype=np.float32)[:, None, None]))


def railings(rng: Rng) -> Texture:
    """Iron or galvanised railings; what lies behind shows between the bars."""
    tone = float(rng.choice([38.0, 62.0, 150.0]))
    mask = np.zeros((64, 768), np.uint8)
    mask[:, ::12] = mask[:, 1::12] = mask[:, 2::12] = mask[:, 3::12] = 255
    mask[3:8] = mask[54:59] = 255
    return Texture.of(to_bytes(plain(rng, (64, 768), (tone, tone + 3, tone + 4), (5.0, 4.0))), mask)


def boards(rng: Rng) -> Texture:
    """A fence of upright boards."""
    image = plain(rng, (96, 640), (124, 98, 70), (5.0, 9.0))
    image += np.repeat(rng.normal(0, 9, 40), 16).astype(np.float32)[None, :, None]
    image[:, ::16] -= 45
    return Texture.of(to_bytes(image))


def sky(rng: Rng, size: tuple[int, int], sun: float, haze: Colour) -> Bytes:
    """The sky, wider than the picture so that it can turn with the road: uint8[H, 2 W, 3]."""
    rows, cols = size[0], 2 * size[1]
    small = (max(rows // 4, 8), max(cols // 4, 8))
    cv2 = require("cv2", "video", _PURPOSE)
    up = np.linspace(1, 0, small[0], dtype=np.float32)[:, None, None]
    blue = np.array([92, 140, 205], np.float32) if sun else np.array(haze, np.float32) * 0.82
    clear = np.array(haze, np.float32) * (1 - up) + blue * up
    puffs = cloud(rng, small, max(small[1] // 6, 4), 6)[..., None]
    cover = np.clip((puffs + float(rng.uniform(-0.7, 0.8))) * 0.55, 0, 1)
    level = 248.0 if sun else float(np.mean(haze)) * 1.04
    body = level - 24 * np.clip(cloud(rng, small, max(small[1] // 10, 4), 4), -1, 1.6)[..., None]
    image = clear * (1 - cover) + body * cover
    return np.asarray(cv2.resize(to_bytes(image), (cols, rows), interpolation=cv2.INTER_CUBIC), np.uint8)
