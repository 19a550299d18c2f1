"""Images out of noise, classes, masks and images: `Generator`, and the strategies that say what to draw."""

from __future__ import annotations

from pixelrt.generation.generated import Generated
from pixelrt.generation.generator import GenerationTicket, Generator
from pixelrt.generation.strategies import (
    Conditional,
    Drawn,
    Grid,
    Interpolate,
    Labels,
    Latents,
    Random,
    Strategy,
)

__all__ = [
    "Conditional",
    "Drawn",
    "Generated",
    "GenerationTicket",
    "Generator",
    "Grid",
    "Interpolate",
    "Labels",
    "Latents",
    "Random",
    "Strategy",
]
