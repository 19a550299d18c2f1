"""Sun, haze and the camera's own faults: what turns flat colours into a photograph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Bytes = NDArray[np.uint8]

_RAMP = np.arange(256.0)[None, :, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """The light of one drive. Colours are RGB, 0..255."""

    sun_x: float
    """-1: the sun stands on the left, 1: on the right."""
    sun: float
    """0: overcast, 1: a clear day."""
    haze: Colour
    haze_m: float
    """The distance at which haze hides 63 % of a thing."""
    exposure: float
    white: Colour
    gamma: float
    noise: float
    blur_px: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Light:
        """The light of a random day."""
        sun = float(rng.choice([0.0, rng.uniform(0.4, 1.0)], p=[0.4, 0.6]))
        grey = rng.uniform(165, 225) if sun == 0 else rng.uniform(195, 235)
        warm = float(rng.normal(-0.005, 0.03))
        return cls(
            sun_x=float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)),
            sun=sun,
            haze=(grey * (0.97 + warm), grey, grey * (1.03 - warm)),
            haze_m=float(rng.uniform(180, 500)),
            exposure=float(np.clip(rng.normal(1.0, 0.17), 0.5, 1.3)),
            white=(1 + warm, 1.0, 1 - warm),
            gamma=float(rng.uniform(0.9, 1.25)),
            noise=float(rng.uniform(1.5, 5.0)),
            blur_px=float(rng.uniform(0.45, 0.8)),
        )

    def clear(self, z: float) -> float:
        """The share of a thing's own colour that is left at the distance `z`."""
        return math.exp(-max(z, 0.0) / self.haze_m)

    def wall(self, side: int) -> float:
        """Brightness of a facade on the left (-1) or the right (1) of the road."""
        return 0.86 - 0.42 * self.sun * self.sun_x * side * (1.0 if side * self.sun_x > 0 else 0.75)

    def tint(self, colour: Colour, z: float, shade: float = 1.0) -> Colour:
        """A colour as the camera sees it at the distance `z`."""
        own, (red, green, blue), haze = self.clear(z), colour, self.haze
        lit, rest = own * shade, 1 - own
        return (
            min(lit * red + rest * haze[0], 255.0),
            min(lit * green + rest * haze[1], 255.0),
            min(lit * blue + rest * haze[2], 255.0),
        )

    def table(self, z: float, shade: float = 1.0) -> Bytes:
        """The same as `tint` for a whole texture: a look-up table uint8[1, 256, 3]."""
        own = self.clear(z)
        ramp = _RAMP * (own * shade) + (1 - own) * np.array(self.haze)
        return np.minimum(ramp, 255).astype(np.uint8)

    def sensor_table(self, flicker: float) -> Bytes:
        """Exposure, white balance and gamma as a look-up table uint8[1, 256, 3]."""
        level = np.arange(256.0)[None, :, None] / 255.0 * self.exposure * flicker * np.array(self.white)
        # a soft shoulder, as cameras have it, keeps bright skies from clipping to a flat patch
        level = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.2), level)
        table: Bytes = np.clip(255 * level**self.gamma, 0, 255).astype(np.uint8)
        return table
