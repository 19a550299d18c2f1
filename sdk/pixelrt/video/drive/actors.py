"""Those who move: cars, people on foot, cyclists. Built from few solid parts, true to scale."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pixelrt.video.drive.camera import Camera
from pixelrt.video.drive.canvas import Canvas, Part
from pixelrt.video.drive.light import Colour, Light

Floats = NDArray[np.float64]
CAR, WALKER, CYCLIST = 8, 9, 10

_COATS: tuple[Colour, ...] = (
    (168, 172, 176),
    (36, 38, 44),
    (206, 208, 208),
    (40, 62, 112),
    (146, 28, 30),
    (70, 76, 82),
    (30, 66, 52),
    (112, 120, 130),
    (20, 22, 26),
    (150, 134, 96),
)
_CLOTHES: tuple[Colour, ...] = (
    (34, 36, 48),
    (96, 30, 34),
    (60, 74, 104),
    (112, 106, 96),
    (40, 40, 40),
    (168, 160, 150),
    (58, 84, 60),
    (150, 110, 40),
)
# (along the length 0..1 from the rear, height 0..1) of the roof line, and the body below it
_SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "hatch": ((0.0, 0.62), (0.10, 1.0), (0.55, 1.0), (0.78, 0.62), (1.0, 0.50)),
    "saloon": ((0.0, 0.60), (0.22, 0.97), (0.58, 1.0), (0.76, 0.62), (1.0, 0.52)),
    "van": ((0.0, 0.62), (0.02, 1.0), (0.74, 1.0), (0.90, 0.60), (1.0, 0.46)),
}
_RING = [(math.cos(turn * math.pi / 7), math.sin(turn * math.pi / 7)) for turn in range(14)]
_SIZES = {"hatch": (3.9, 1.68, 1.46), "saloon": (4.5, 1.76, 1.43), "van": (5.2, 1.95, 2.2)}


class _Car:
    """One car while it is drawn: its frame of reference and its paint."""

    def __init__(
        self, canvas: Canvas, camera: Camera, light: Light, place: tuple[float, float, float]
    ) -> None:
        self.canvas, self.camera, self.light = canvas, camera, light
        self.x, self.z, variant = place
        self.shape = ("hatch", "saloon", "hatch", "saloon", "van")[int(variant * 97) % 5]
        self.length, self.width, self.height = _SIZES[self.shape]
        self.coat = _COATS[int(variant * 1009) % len(_COATS)]
        self._points: list[tuple[float, float, float]] = []
        self._parts: list[Part] = []

    def face(
        self, points: list[tuple[float, float, float]], colour: Colour, shade: float, solid: bool
    ) -> None:
        """Add a convex part; points are (right, up, ahead) of the middle of the car's rear end."""
        self._points += points
        tint = self.light.tint(colour, self.z, shade)
        self._parts.append((len(points), tint, CAR if solid else None))

    def paint(self) -> None:
        """Draw the parts in the order in which they were added."""
        there = np.array(self._points) + np.array([self.x, 0.0, self.z])
        self.canvas.polygons(self.camera.project(there), self._parts)

    def profile(self, oncoming: bool) -> list[tuple[float, float]]:
        """(ahead, up) of the roof line from the end that is near the camera to the far end."""
        line = [(a * self.length, h * self.height) for a, h in _SHAPES[self.shape]]
        return [(self.length - a, h) for a, h in reversed(line)] if oncoming else line


def draw_car(
    canvas: Canvas, camera: Camera, light: Light, place: tuple[float, float, float], oncoming: bool
) -> None:
    """Draw a car; `place` is (x, z of its near end, variant), and `oncoming` shows its front."""
    car = _Car(canvas, camera, light, place)
    if car.z + car.length < 1.2:
        return
    half, line = car.width / 2, car.profile(oncoming)
    centre = camera.offset_m - float(camera.bend(np.array([max(car.z, 1.0)]))[0])
    side = -1.0 if car.x > centre else 1.0
    if abs(car.x - centre) > half * 0.6:
        _flank(car, line, side * half, 0.92 + 0.25 * light.sun * (light.sun_x * side > 0))
    _end(car, line, half, oncoming)
    car.paint()


def _flank(car: _Car, line: list[tuple[float, float]], x: float, shade: float) -> None:
    sill, waist = 0.24, 0.63 * car.height
    sides = [(x, h, a) for a, h in line if h <= waist]
    car.face([(x, sill, 0.05), *sides, (x, sill, car.length - 0.05)], car.coat, shade * 0.78, True)
    top = [(x * (0.84 if h > 0.9 * car.height else 1.0), h, a) for a, h in line if h >= 0.59 * car.height]
    car.face(top, car.coat, shade * 0.7, True)
    if car.camera.scale(car.z) < 10:
        return
    middle = np.array(top).mean(axis=0)
    panes = [(0.82 * np.array(p) + 0.18 * middle).tolist() for p in top]
    car.face([(p[0], p[1], p[2]) for p in panes], (44, 50, 56), 1.0, False)
    post = 0.5 * (top[1][2] + top[-2][2])
    pillar = [
        (x, waist, post),
        (x * 0.86, 0.96 * car.height, post),
        (x * 0.86, 0.96 * car.height, post + 0.09),
    ]
    car.face([*pillar, (x, waist, post + 0.09)], car.coat, shade * 0.6, False)
    seam = [(x, 0.3, post), (x, waist, post), (x, waist, post + 0.03), (x, 0.3, post + 0.03)]
    car.face(seam, car.coat, shade * 0.45, False)
    car.face([(x, sill, 0.1), (x, 0.36, 0.1), (x, 0.36, car.length - 0.1), (x, sill, car.length - 0.1)],
             car.coat, shade * 0.55, False)  # fmt: skip
    for ahead in (0.18 * car.length, 0.81 * car.length):
        for radius, colour in ((0.32, (22.0, 22.0, 24.0)), (0.19, (120.0, 122.0, 126.0))):
            ring = [(x * 1.01, 0.32 + radius * up, ahead + radius * along) for along, up in _RING]
            car.face(ring, colour, 1.0, radius > 0.3)


def _end(car: _Car, line: list[tuple[float, float]], half: float, oncoming: bool) -> None:
    """The end that looks at the camera: roof, window or bonnet, then the upright part with its lamps."""
    height = car.height
    roof = next((a, h) for a, h in line if h > 0.9 * height)
    brow = [(a, h) for a, h in line if a <= roof[0]]
    for low, high in reversed(list(pairwise(brow))):
        _slope(car, low, high, half)
    near, top = line[0]
    for wheel in (-1, 1):
        car.face(_box(wheel * half * 0.80, 0.0, 0.19, 0.36, near + 0.25), (20, 20, 22), 1.0, True)
    right = [(0.93, top), (1.0, 0.46 * height), (1.0, 0.34), (0.90, 0.22)]
    body = [(-x, y) for x, y in reversed(right)] + right
    car.face([(x * half, y, near) for x, y in body], car.coat, 0.88, True)
    if car.camera.scale(car.z) >= 9:
        _trim(car, (near, top), half, oncoming)


def _slope(car: _Car, low: tuple[float, float], high: tuple[float, float], half: float) -> None:
    (a0, h0), (a1, h1) = low, high
    glass = h1 > 0.9 * car.height
    w0, w1 = half, half * (0.84 if glass else 1.0)  # the same as the flanks, or gaps would show
    car.face([(-w0, h0, a0), (-w1, h1, a1), (w1, h1, a1), (w0, h0, a0)], car.coat, 1.12, True)
    if not glass:
        return
    low_y, high_y, w0, w1 = h0 + 0.04, h1 - 0.07, w0 * 0.90, w1 * 0.90
    car.face(
        [(-w0, low_y, a0), (-w1, high_y, a1), (w1, high_y, a1), (w0, low_y, a0)], (48, 55, 62), 1.0, False
    )
    if car.camera.scale(car.z) > 20:  # the sky in the glass, and heads behind it
        shine = [(-w0, low_y, a0), (-w1, high_y, a1), (w1 * 0.1, high_y, a1), (-w0 * 0.45, low_y, a0)]
        car.face(shine, (76, 86, 94), 1.0, False)
        for seat in (-0.5, 0.5):
            car.face(
                _box(seat * w0, low_y, 0.26, 0.6 * (high_y - low_y), (a0 + a1) / 2), (30, 33, 37), 1.0, False
            )


def _trim(car: _Car, corner: tuple[float, float], half: float, oncoming: bool) -> None:
    near, top = corner
    plate: Colour = (222, 222, 208) if oncoming else (206, 184, 84)
    lamp: Colour = (226, 228, 222) if oncoming else (150, 24, 22)
    car.face(_box(0.0, 0.22, half * 1.8, 0.13, near), (32, 32, 35), 1.0, False)
    dull = (car.coat[0] * 0.75, car.coat[1] * 0.75, car.coat[2] * 0.75)
    car.face(_box(0.0, 0.48, half * 1.98, 0.035, near), dull, 0.8, False)
    car.face(_box(0.0, 0.40 if oncoming else 0.56, 0.50, 0.11, near), plate, 0.9, False)
    if oncoming:
        car.face(_box(0.0, top - 0.22, half * 0.8, 0.12, near), (34, 34, 37), 1.0, False)
    for wheel in (-1, 1):
        inner, outer = wheel * half * 0.62, wheel * half * 0.95
        high = 0.15 if oncoming else 0.24
        lens = [(inner, top - 0.08, near), (outer, top - 0.05, near), (outer * 1.02, top - 0.05 - high, near),
                (inner * 1.1, top - 0.02 - high, near)]  # fmt: skip
        car.face(lens, lamp, 1.0, False)
        middle = (inner + outer) / 2
        glow: Colour = (250, 250, 244) if oncoming else (196, 90, 50)
        car.face(_box(middle, top - 0.13, 0.1, 0.06, near), glow, 1.0, False)


def _box(x: float, y: float, wide: float, high: float, z: float) -> list[tuple[float, float, float]]:
    return [
        (x - wide / 2, y, z),
        (x - wide / 2, y + high, z),
        (x + wide / 2, y + high, z),
        (x + wide / 2, y, z),
    ]


class _Figure:
    """A person as seen from the camera: a flat cut-out in metres at one distance."""

    def __init__(
        self, canvas: Canvas, camera: Camera, light: Light, place: tuple[float, float, float]
    ) -> None:
        self.canvas, self.light, self.z = canvas, light, place[1]
        self.foot = camera.project(np.array([[place[0], 0.0, place[1]]]))[0]
        self.scale = camera.scale(place[1])

    def at(self, x: float, y: float) -> Floats:
        return np.array([self.foot[0] + self.scale * x, self.foot[1] - self.scale * y])

    def limb(self, joints: list[tuple[float, float]], wide: float, colour: Colour, label: int) -> None:
        tint = self.light.tint(colour, self.z)
        for start, end in pairwise(joints):
            self.canvas.line(self.at(*start), self.at(*end), wide * self.scale, tint, label)

    def torso(self, outline: list[tuple[float, float]], colour: Colour, label: int) -> None:
        tint = self.light.tint(colour, self.z)
        self.canvas.polygon(np.array([self.at(*p) for p in outline]), tint, label)

    def head(self, x: float, y: float, hair: Colour, label: int) -> None:
        size = 0.105 * self.scale
        self.canvas.disc(
            self.at(x, y), (0.85 * size, 1.12 * size), self.light.tint((186, 146, 122), self.z), label
        )
        self.canvas.disc(self.at(x, y + 0.04), (0.86 * size, 0.8 * size), self.light.tint(hair, self.z), None)


def _outfit(variant: float) -> tuple[Colour, Colour, Colour]:
    number = int(variant * 7919)
    hair: Colour = ((40, 30, 24), (92, 70, 46), (24, 22, 22), (140, 132, 124))[number % 4]
    return _CLOTHES[number % len(_CLOTHES)], _CLOTHES[(number // 8) % len(_CLOTHES)], hair


def draw_walker(
    canvas: Canvas, camera: Camera, light: Light, place: tuple[float, float, float], stride: float
) -> None:
    """Draw a person on foot; `stride` is the phase of the step in radians (0: stands)."""
    body, (coat, legs, hair) = _Figure(canvas, camera, light, place), _outfit(place[2])
    tall = 0.92 + 0.14 * (place[2] * 31 % 1.0)
    if body.scale < 9:
        body.limb([(0, 0.0), (0, 0.85 * tall)], 0.26, legs, WALKER)
        body.limb([(0, 0.8 * tall), (0, 1.48 * tall)], 0.42, coat, WALKER)
        body.limb([(0, 1.48 * tall), (0, 1.72 * tall)], 0.2, hair, WALKER)
        return
    swing, darker = 0.16 * float(np.sin(stride)), (legs[0] * 0.7, legs[1] * 0.7, legs[2] * 0.7)
    for way, colour in ((-1, darker), (1, legs)):
        knee = (way * 0.06 + 0.6 * way * swing, 0.46 * tall)
        foot = (way * 0.07 + way * swing, 0.04)
        body.limb([(way * 0.06, 0.88 * tall), knee, foot], 0.15, colour, WALKER)
        body.limb([foot, (foot[0] + 0.09, 0.03)], 0.09, (26, 24, 24), WALKER)
    arm = [(-0.2, 1.38 * tall), (-0.25 - 0.3 * swing, 1.1 * tall), (-0.22 - 0.8 * swing, 0.86 * tall)]
    body.limb(arm, 0.1, (coat[0] * 0.75, coat[1] * 0.75, coat[2] * 0.75), WALKER)
    outline = [
        (-0.17, 0.8),
        (-0.19, 1.2),
        (-0.22, 1.42),
        (-0.08, 1.5),
        (0.08, 1.5),
        (0.22, 1.42),
        (0.19, 1.2),
        (0.17, 0.8),
    ]
    body.torso([(x, y * tall) for x, y in outline], coat, WALKER)
    arm = [(0.2, 1.38 * tall), (0.25 + 0.3 * swing, 1.1 * tall), (0.22 + 0.8 * swing, 0.86 * tall)]
    body.limb(arm, 0.1, (coat[0] * 1.15, coat[1] * 1.15, coat[2] * 1.15), WALKER)
    body.limb([(0, 1.48 * tall), (0, 1.56 * tall)], 0.1, (176, 138, 116), WALKER)
    body.head(0.0, 1.65 * tall, hair, WALKER)


def draw_cyclist(
    canvas: Canvas, camera: Camera, light: Light, place: tuple[float, float, float], stride: float
) -> None:
    """Draw a cyclist seen from behind or from the front; `stride` is the phase of the pedals in radians."""
    body, (coat, legs, hair) = _Figure(canvas, camera, light, place), _outfit(place[2])
    lean = 0.03 * float(np.sin(stride))
    if body.scale < 9:
        body.limb([(0, 0.0), (0, 0.9)], 0.22, legs, CYCLIST)
        body.limb([(0, 0.9), (0, 1.5)], 0.44, coat, CYCLIST)
        body.limb([(0, 1.5), (0, 1.74)], 0.2, hair, CYCLIST)
        return
    body.limb([(0, 0.0), (0, 0.68)], 0.07, (28, 28, 30), CYCLIST)
    body.limb([(0, 0.6), (0.0, 0.98)], 0.09, (60, 60, 66), CYCLIST)
    body.limb([(-0.28, 1.02), (0.28, 1.02)], 0.05, (40, 40, 44), CYCLIST)
    lift = 0.11 * float(np.sin(stride))
    for way in (-1, 1):
        foot = (way * 0.13, 0.26 + way * lift)
        body.limb([(way * 0.09, 0.98), (way * 0.17, 0.62 + 0.6 * way * lift), foot], 0.14, legs, CYCLIST)
        body.limb([foot, (foot[0], foot[1] - 0.06)], 0.1, (24, 24, 26), CYCLIST)
        body.limb([(way * 0.2 + lean, 1.46), (way * 0.31, 1.2), (way * 0.27, 1.03)], 0.09, coat, CYCLIST)
    outline = [(-0.16, 0.92), (-0.22, 1.46), (-0.1, 1.54), (0.1, 1.54), (0.22, 1.46), (0.16, 0.92)]
    body.torso([(x + lean, y) for x, y in outline], coat, CYCLIST)
    body.head(lean, 1.66, hair if place[2] < 0.5 else (210, 206, 60), CYCLIST)
