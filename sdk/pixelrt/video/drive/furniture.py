"""What stands on the pavement: trees, lamps, signs, traffic lights, bins, posts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pixelrt.video.drive.camera import Camera
from pixelrt.video.drive.canvas import Canvas, Texture
from pixelrt.video.drive.light import Colour, Light

Dark = Callable[[list[tuple[float, float]], int], None]
Place = tuple[float, float, float]
POLE, SIGN, TREE, NOTHING = 2, 6, 5, 11


def draw_tree(canvas: Canvas, camera: Camera, light: Light, place: Place, trees: tuple[Texture, ...]) -> None:
    """Draw a tree as an upright picture that faces the camera; `place` is (x, z, variant)."""
    x, z, variant = place
    if z < 3.0:
        return
    high = 5.0 + 5.5 * variant
    texture = trees[int(variant * 1000) % len(trees)]
    half = high * texture.levels[0].shape[1] / texture.levels[0].shape[0] / 2
    box = [(x - half, high, z), (x + half, high, z), (x + half, 0.0, z), (x - half, 0.0, z)]
    canvas.texture(camera.project(np.array(box)), texture, light.table(z, 0.8 + 0.3 * light.sun), TREE)


def draw_furniture(canvas: Canvas, camera: Camera, light: Light, place: Place, kind: str) -> None:
    """Draw one `lamp`, `sign`, `lights`, `post` or `bin`; `place` is (x, z, variant)."""
    stand = _Stand(canvas, camera, light, place)
    {"lamp": _lamp, "sign": _sign, "lights": _lights, "post": _post, "bin": _bin}[kind](stand)


class _Stand:
    """Something upright at one place; coordinates in metres right of and above its foot."""

    def __init__(self, canvas: Canvas, camera: Camera, light: Light, place: Place) -> None:
        self.canvas, self.light = canvas, light
        self.x, self.z, self.variant = place
        self.foot = camera.project(np.array([[self.x, 0.0, self.z]]))[0]
        self.scale = camera.scale(self.z)

    def at(self, x: float, y: float) -> NDArray[np.float64]:
        return np.array([self.foot[0] + self.scale * x, self.foot[1] - self.scale * y])

    def bar(self, start: tuple[float, float], end: tuple[float, float], wide: float, colour: Colour) -> None:
        tint = self.light.tint(colour, self.z)
        self.canvas.line(self.at(*start), self.at(*end), wide * self.scale, tint, POLE)

    def plate(self, outline: list[tuple[float, float]], colour: Colour, label: int | None) -> None:
        points = np.array([self.at(x, y) for x, y in outline])
        self.canvas.polygon(points, self.light.tint(colour, self.z), label)

    def disc(self, centre: tuple[float, float], radius: float, colour: Colour, label: int | None) -> None:
        size = radius * self.scale
        self.canvas.disc(self.at(*centre), (size, size), self.light.tint(colour, self.z), label)


def _box(x: float, y: float, wide: float, high: float) -> list[tuple[float, float]]:
    return [(x - wide / 2, y), (x - wide / 2, y + high), (x + wide / 2, y + high), (x + wide / 2, y)]


def _lamp(stand: _Stand) -> None:
    inward, grey = (1.0 if stand.x < 0 else -1.0), (92.0, 96.0, 98.0)
    stand.bar((0, 0), (0, 1.3), 0.2, grey)
    stand.bar((0, 1.3), (0, 7.6), 0.12, grey)
    stand.bar((0, 7.55), (1.2 * inward, 7.9), 0.09, grey)
    stand.bar((1.1 * inward, 7.88), (1.7 * inward, 7.95), 0.17, (120, 120, 116))


def _sign(stand: _Stand) -> None:
    kind = int(stand.variant * 5)
    stand.bar((0, 0), (0, 2.5), 0.08, (120, 122, 124))
    if kind == 0:
        stand.disc((0, 2.5), 0.38, (190, 24, 28), SIGN)
        stand.disc((0, 2.5), 0.27, (236, 236, 232), None)
        stand.plate(_box(-0.08, 2.38, 0.07, 0.24), (30, 30, 30), None)
        stand.plate(_box(0.08, 2.38, 0.09, 0.24), (30, 30, 30), None)
    elif kind == 1:
        stand.plate([(-0.48, 2.2), (0, 3.0), (0.48, 2.2)], (190, 24, 28), SIGN)
        stand.plate([(-0.32, 2.28), (0, 2.84), (0.32, 2.28)], (236, 236, 232), None)
        stand.plate(_box(0, 2.36, 0.07, 0.26), (30, 30, 30), None)
    elif kind == 2:
        stand.disc((0, 2.5), 0.36, (26, 76, 160), SIGN)
        stand.plate(_box(0, 2.32, 0.09, 0.34), (236, 236, 232), None)
    elif kind == 3:
        stand.plate(_box(0, 2.0, 0.75, 1.05), (28, 84, 158), SIGN)
        stand.plate(_box(0, 2.15, 0.42, 0.5), (232, 234, 236), None)
    else:
        stand.plate(_box(0, 2.0, 1.5, 0.8), (22, 92, 62), SIGN)
        for row in (2.15, 2.48):
            stand.plate(_box(0, row, 1.15, 0.14), (230, 232, 226), None)


def _lights(stand: _Stand) -> None:
    stand.bar((0, 0), (0, 2.4), 0.13, (56, 58, 60))
    stand.plate(_box(0, 2.3, 0.52, 1.2), (18, 18, 20), SIGN)
    lit = int(stand.variant * 3)
    colours: tuple[Colour, ...] = ((40, 240, 120), (250, 180, 40), (250, 40, 34))
    for lamp, colour in enumerate(colours):
        dim = (colour[0] * 0.2, colour[1] * 0.2, colour[2] * 0.2)
        stand.disc((0, 2.52 + 0.36 * lamp), 0.14, colour if lamp == lit else dim, None)


def _post(stand: _Stand) -> None:
    stand.bar((0, 0), (0, 1.0), 0.14, (36, 36, 38))
    if stand.scale > 30:
        stand.plate(_box(0, 0.82, 0.14, 0.07), (196, 190, 170), None)


def _bin(stand: _Stand) -> None:
    stand.plate(_box(0, 0, 0.6, 1.0), (34, 52, 44), NOTHING)
    stand.plate(_box(0, 0.72, 0.4, 0.16), (14, 18, 18), None)
