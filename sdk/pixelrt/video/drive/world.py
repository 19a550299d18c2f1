"""What stands where: every stretch of the street follows from the seed and its number alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixelrt.video.drive import paint
from pixelrt.video.drive.camera import BEND_STEP_M, Camera, Path
from pixelrt.video.drive.canvas import Texture
from pixelrt.video.drive.light import Light
from pixelrt.video.drive.paint import Street

SLOT_M = 12.0
HEIGHTS_M = (6.8, 8.5, 10.0, 11.5, 14.0, 7.8, 10.5)
Mover = Literal["oncoming", "leading", "walker", "cyclist"]


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing beside or on the road: what, where (x metres right, z metres along), and which variant."""

    kind: str
    x: float
    z: float
    variant: float


@dataclass(frozen=True, slots=True)
class Slot:
    """One stretch of `SLOT_M` metres on one side of the road, and what stands on it."""

    start_m: float
    side: int
    house: int
    """Number of the facade, or -1 for a gap with trees."""
    fence: int
    """Number of the fence in front of a gap, or -1."""
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Mass:
    """Something large where the street ends: a house, or trees with their crowns (metres along, radius)."""

    x: float
    wide: float
    high: float
    crowns: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Paints:
    """Everything that is painted once for a drive."""

    ground: Texture
    ground_labels: NDArray[np.uint8]
    facades: tuple[Texture, ...]
    trees: tuple[Texture, ...]
    fences: tuple[Texture, ...]
    sky: NDArray[np.uint8]
    noise: NDArray[np.uint8]


class World:
    """One town, its light, and the car that drives through it."""

    def __init__(self, seed: int, size: tuple[int, int]) -> None:
        rng = np.random.default_rng((seed, 1))
        self.seed, self.size = seed, size
        self.light = Light.random(rng)
        pavement = float(rng.uniform(2.4, 4.4))
        half = float(rng.uniform(2.9, 5.2))
        self.street = Street(half, pavement, half + pavement + float(rng.uniform(0, 2.5)), rng.random() < 0.4)
        self.path = Path(
            (float(rng.uniform(0, 7)), float(rng.uniform(0, 1.2))),
            (float(rng.uniform(70, 130)), float(rng.uniform(34, 50))),
            (float(rng.uniform(0, 6.28)), float(rng.uniform(0, 6.28))),
        )
        self.built = float(rng.uniform(0.35, 0.9))  # share of slots with a house
        self.busy = float(rng.uniform(0.2, 0.95))
        self.parked = float(rng.uniform(0, 0.55)) if half > 4.9 else 0.0
        self.speed_mps = float(rng.uniform(7, 12))
        self.height_m = float(rng.uniform(1.2, 1.55))
        self.focal = float(rng.uniform(0.92, 1.18))
        self.tilt = float(rng.uniform(0.43, 0.53))
        self.bonnet = float(rng.uniform(0.04, 0.10)) if rng.random() < 0.6 else 0.0
        self.first_m = float(rng.uniform(0, 2000))
        self.paints = self._paint(rng)
        self.skyline = tuple(_mass(seed, number) for number in range(26))
        self._slots: dict[tuple[int, int], Slot] = {}
        self._drawn: dict[tuple[int, int, int], tuple[float, ...]] = {}

    def _paint(self, rng: np.random.Generator) -> Paints:
        surface, labels = paint.ground(rng, self.street)
        houses = tuple(paint.facade(rng, SLOT_M, height) for height in HEIGHTS_M)
        winter = rng.random() < 0.45
        trees = tuple(paint.bare_tree(rng) if winter and n < 2 else paint.leafy_tree(rng) for n in range(3))
        rows, cols = self.size
        grain = np.clip(rng.standard_normal((rows + 32, cols + 32, 3), dtype=np.float32), -4, 4)
        return Paints(
            surface,
            labels,
            houses,
            trees,
            (paint.railings(rng), paint.hedge(rng), paint.boards(rng)),
            paint.sky(rng, self.size, self.light.sun, self.light.haze),
            (128 + self.light.noise * grain).astype(np.uint8),
        )

    def camera(self, time_s: float) -> Camera:
        """The view after `time_s` seconds."""
        rows, cols = self.size
        travelled = self.first_m + self.speed_mps * time_s
        bob = 0.0018 * np.sin(2.1 * time_s) + 0.001 * np.sin(7.3 * time_s + 1)
        return Camera(
            size=self.size,
            focal_px=self.focal * max(cols, rows * 4 / 3) * (0.9 if cols > 1.5 * rows else 1.0),
            horizon_px=rows * (self.tilt + float(bob)),
            centre_px=cols / 2,
            height_m=self.height_m,
            offset_m=-self.lane_m + 0.12 * float(np.sin(0.4 * time_s)),
            travelled_m=travelled,
            bends=self.path.bend(travelled, np.arange(0.0, 320.0, BEND_STEP_M)),
        )

    @property
    def lane_m(self) -> float:
        """The middle of a lane, from the road's centre; traffic keeps to the left."""
        return min(self.street.half_m / 2, 1.75)

    def slot(self, number: int, side: int) -> Slot:
        """The stretch `number` on the left (-1) or right (1) side."""
        key = (number, side)
        if key not in self._slots:
            if len(self._slots) > 400:
                self._slots.clear()
            self._slots[key] = self._make_slot(number, side)
        return self._slots[key]

    def _make_slot(self, number: int, side: int) -> Slot:
        rng = np.random.default_rng((self.seed, 2 + (side > 0), number))
        block = np.random.default_rng((self.seed, 4 + (side > 0), number // 3))
        built = bool(block.random() < self.built and rng.random() < 0.93)
        house = int(rng.integers(0, len(HEIGHTS_M))) if built else -1
        fence = int(rng.choice([-1, 0, 1, 2], p=[0.15, 0.4, 0.25, 0.2])) if not built else -1
        things = self._greens(rng, number * SLOT_M, side, built)
        things += self._kerbside(rng, number, side)
        things += self._standing(rng, number * SLOT_M, side)
        return Slot(number * SLOT_M, side, house, fence, tuple(things))

    def _kerb_m(self, side: int) -> float:
        return side * (self.street.half_m + 0.45)

    def _greens(self, rng: np.random.Generator, start: float, side: int, built: bool) -> list[Thing]:
        if built:
            lone = Thing("tree", self._kerb_m(side) + side * 0.3, start + 6.0, 0.3 * float(rng.random()))
            return [lone] if rng.random() < 0.32 else []
        walls = side * self.street.walls_m
        places = [(rng.uniform(1.5, 6), rng.uniform(0, SLOT_M)) for _ in range(int(rng.integers(1, 4)))]
        return [
            Thing("tree", float(walls + side * x), start + float(z), float(rng.random())) for x, z in places
        ]

    def _kerbside(self, rng: np.random.Generator, number: int, side: int) -> list[Thing]:
        start, kerb = number * SLOT_M, self._kerb_m(side)
        things = [Thing("lamp", kerb, start + 2.0, 0.0)] if (2 * number + (side > 0)) % 4 == 0 else []
        for kind, chance in _FURNITURE:
            if rng.random() < chance:
                things.append(Thing(kind, kerb, start + float(rng.uniform(3, 11)), float(rng.random())))
        if rng.random() < 0.25:
            x = kerb - side * 0.15
            things += [Thing("rail", x, start + 2.0 + 2.6 * bar, 2.6) for bar in range(3)]
        return things

    def _standing(self, rng: np.random.Generator, start: float, side: int) -> list[Thing]:
        """Parked cars, and people who wait."""
        bay, found = side * (self.street.half_m - 0.95), []
        for place in (1.0, 7.0):
            chance, variant = rng.random(2)
            if chance < self.parked:
                found.append(Thing("parked", bay, start + place, float(variant)))
        for _ in range(int(rng.poisson(0.5 * self.busy))):
            x = self._kerb_m(side) + side * rng.uniform(0.2, self.street.pavement_m - 0.6)
            found.append(Thing("stander", float(x), start + float(rng.uniform(0, 12)), float(rng.random())))
        return found

    def movers(self, kind: Mover, time_s: float, reach_m: float) -> list[Thing]:
        """Everything of one kind that moves, between the camera and `reach_m` ahead; z along the road."""
        here = self.first_m + self.speed_mps * time_s
        found: list[Thing] = []
        streams = _streams(kind, self.speed_mps, self.busy)
        if kind == "cyclist" and self.parked > 0:
            streams = []  # they would ride through the parked cars
        for stream, (speed, gap, chance) in enumerate(streams):
            shift = self.first_m + speed * time_s
            low = int((here - 4 - shift) // gap) - 1
            for number in range(low, low + int(reach_m / gap) + 3):
                exists, place, where, variant = self._draw(stream, _KINDS[kind], number)
                if exists > chance:
                    continue
                z = shift + (number + 0.1 + 0.65 * place) * gap
                if kind == "leading":
                    if z < here + 11.0:
                        continue
                    z += 2.5 * np.sin(0.25 * time_s + number)
                if here + 0.5 < z < here + reach_m:
                    found.append(Thing(kind, self._mover_x(kind, stream, where), float(z), variant))
        return found

    def _draw(self, stream: int, kind: int, number: int) -> tuple[float, ...]:
        """Four random numbers 0..1 that belong to one mover."""
        key = (stream, kind, number)
        if key not in self._drawn:
            if len(self._drawn) > 4000:
                self._drawn.clear()
            rng = np.random.default_rng((self.seed, 10 + stream, kind, number + 2**31))
            self._drawn[key] = tuple(float(value) for value in rng.random(4))
        return self._drawn[key]

    def _mover_x(self, kind: Mover, stream: int, where: float) -> float:
        street = self.street
        if kind == "oncoming":
            return self.lane_m + 0.2 * (where - 0.5)
        if kind == "leading":
            return -self.lane_m + 0.3 * (where - 0.5)
        if kind == "cyclist":
            return (-1 if stream == 0 else 1) * (street.half_m - 0.45 - 0.3 * where)
        side = -1 if stream % 2 == 0 else 1
        return side * (street.half_m + 0.7 + where * max(street.pavement_m - 1.2, 0.2))


_FURNITURE = (("sign", 0.42), ("lights", 0.14), ("bin", 0.15), ("post", 0.14), ("post", 0.1))
_KINDS: dict[str, int] = {"oncoming": 1, "leading": 2, "walker": 3, "cyclist": 4}


def _mass(seed: int, number: int) -> Mass:
    rng = np.random.default_rng((seed, 6, number))
    wide = float(rng.uniform(22, 40))
    crowns = [(float(rng.uniform(0, wide)), float(rng.uniform(3, 6))) for _ in range(3)]
    return Mass(
        x=-330 + 26.0 * number + float(rng.uniform(-6, 6)),
        wide=wide,
        high=float(rng.uniform(5, 15)),
        crowns=() if rng.random() < 0.45 else tuple(crowns),
    )


def _streams(kind: Mover, own: float, busy: float) -> list[tuple[float, float, float]]:
    """The streams of one kind: speed in m/s along the road, metres between two, how likely each exists."""
    if kind == "oncoming":
        return [(-9.0, 18.0, 0.75 * busy)]
    if kind == "leading":
        return [(own, 22.0, 0.85 * busy)]
    if kind == "cyclist":
        return [(4.6, 20.0, 0.15 + 0.35 * busy), (-4.4, 40.0, 0.6 * busy)]
    return [
        (1.3, 14.0, 0.6 * busy),
        (-1.2, 14.0, 0.6 * busy),
        (-1.35, 17.0, 0.5 * busy),
        (1.2, 17.0, 0.5 * busy),
    ]
