"""Pictures whose classes are known: a bundle of three colours finds its stripes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = (96, 144)


def stripes(first: int) -> NDArray[np.uint8]:
    """Three upright stripes of equal width: red, green, blue, beginning with class `first`; RGB."""
    image = np.zeros((*SIZE, 3), np.uint8)
    for place in range(3):
        image[:, 48 * place : 48 * (place + 1), (first + place) % 3] = 220
    return image
