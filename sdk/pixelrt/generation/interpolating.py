"""From one latent to another."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError

Mode = Literal["slerp", "lerp"]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_NO_ANGLE = 1e-9
"""Sine of an angle below which two directions are one, or opposite: float32 tells no smaller ones apart."""


def lerp(start: Floats, end: Floats, shares: Doubles) -> Floats:
    """Along the straight line. In the middle, latents of high dimension are shorter than those drawn.

    Args:
        start: float32[*size].
        end: float32[*size].
        shares: float64[N] from 0 (the start) to 1 (the end).

    Returns:
        float32[N, *size]; at 0 and 1 exactly start and end.
    """
    first, last = start.ravel().astype(np.float64), end.ravel().astype(np.float64)
    way = np.outer(1 - shares, first) + np.outer(shares, last)
    return _ends_exact(way, start, end, shares)


def slerp(start: Floats, end: Floats, shares: Doubles) -> Floats:
    """Along the arc between two directions at constant angular speed, while the norm goes straight.

    So every latent on the way has a norm between those of both ends: of two that were drawn, one as usual as
    theirs. K. Shoemake: Animating Rotation with Quaternion Curves, 1985, which has unit vectors.

    A zero vector has no direction, and takes the other's. Between opposite directions all arcs are equally
    short: the one through the coordinate axis that start has least of is taken.

    Args:
        start: float32[*size].
        end: float32[*size].
        shares: float64[N] from 0 (the start) to 1 (the end).

    Returns:
        float32[N, *size]; at 0 and 1 exactly start and end.

    Raises:
        InputError: If the latents have one value each, of opposite signs: there is no arc.
    """
    first, last = start.ravel().astype(np.float64), end.ravel().astype(np.float64)
    norms = _norm(first), _norm(last)
    if 0.0 in norms:
        return lerp(start, end, shares)
    side, up, angle = _plane(first / norms[0], last / norms[1])
    angles = shares * angle
    directions = np.outer(np.cos(angles), side) + np.outer(np.sin(angles), up)
    lengths = (1 - shares) * norms[0] + shares * norms[1]
    return _ends_exact(directions * lengths[:, np.newaxis], start, end, shares)


def _plane(first: Doubles, last: Doubles) -> tuple[Doubles, Doubles, float]:
    """The arc between two unit vectors: its first direction, the one at right angles to it, and the angle."""
    cosine = float(first @ last)
    up = last - cosine * first
    sine = _norm(up)
    if sine >= _NO_ANGLE:
        return first, up / sine, float(np.arctan2(sine, cosine))
    if cosine > 0:
        return first, np.zeros_like(first), 0.0
    return first, _across(first), float(np.pi)


def _across(direction: Doubles) -> Doubles:
    """A unit vector at right angles to one."""
    if direction.size == 1:
        raise InputError(
            "between latents of one value and opposite signs there is no arc; interpolate with mode='lerp'"
        )
    axis = np.zeros_like(direction)
    axis[np.argmin(np.abs(direction))] = 1.0
    across: Doubles = axis - (axis @ direction) * direction
    return across / _norm(across)


def _norm(vector: Doubles) -> float:
    return float(np.linalg.norm(vector))


def _ends_exact(way: Doubles, start: Floats, end: Floats, shares: Doubles) -> Floats:
    found: Floats = way.astype(np.float32).reshape(len(shares), *start.shape)
    found[shares == 0] = start
    found[shares == 1] = end
    return found
