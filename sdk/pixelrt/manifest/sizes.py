"""Sizes: what they may be, and what they are called."""

from __future__ import annotations


def check_sides(what: str, sides: tuple[int, ...]) -> None:
    """Refuse a size that is none.

    Raises:
        ValueError: Saying that `what` is `sides`, and what was expected.
    """
    if not sides or min(sides) < 1:
        raise ValueError(f"{what} is {list(sides)}; whole numbers of at least 1 were expected")


def size_name(size: tuple[int, int]) -> str:
    """`256x352`: height, then width."""
    return f"{size[0]}x{size[1]}"
