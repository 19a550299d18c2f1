"""Bundles for smaller inputs, inside a bundle: which there may be, and where they lie."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pixelrt.manifest.sizes import check_sides, size_name

SIZES = "sizes"
"""Folder in a bundle, for the bundles of smaller inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Smaller:
    """The same network for a smaller input: a whole bundle of its own, inside this one."""

    size: tuple[int, int]
    """Height and width of the network's input."""
    sha256: str
    """Of its manifest.json."""
    becoming: str = ""
    """While an engine is added to it: what that SHA-256 is about to be. Either is right then."""

    def __post_init__(self) -> None:
        check_sides("size", self.size)
        for name, value in (("sha256", self.sha256), ("becoming", self.becoming or "0" * 64)):
            if not re.fullmatch(r"[0-9a-f]{64}", value):
                raise ValueError(f"{name} is {value!r}; 64 hexadecimal digits were expected")

    @property
    def folder(self) -> str:
        """Its place in the bundle."""
        return smaller_folder(self.size)


def smaller_folder(size: tuple[int, int]) -> str:
    """Where in a bundle the bundle for a smaller input lies: `sizes/256x352`."""
    return f"{SIZES}/{size_name(size)}"


def check_smaller(size: tuple[int, int], smaller: Sequence[tuple[int, int]]) -> None:
    """Refuse smaller sizes that are none, or not from large to small.

    Raises:
        ValueError: Saying which, and what was expected.
    """
    known = [size]
    for each in smaller:
        called, largest = size_name(each), size_name(size)
        if min(each) < 1:
            raise ValueError(f"the smaller size {called} has a side below 1")
        if each in known:
            raise ValueError(f"the size {called} is there twice; each was expected once")
        if each[0] > size[0] or each[1] > size[1]:
            raise ValueError(
                f"the smaller size {called} is higher or wider than the size {largest}; size is the largest "
                "(height x width)"
            )
        if each[0] * each[1] > known[-1][0] * known[-1][1]:
            raise ValueError(f"the smaller size {called} comes late; from large to small was expected")
        known.append(each)
