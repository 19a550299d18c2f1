"""Where images and masks come from, whatever the task."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import MisspeltSource, SourceError
from pixelrt.manifest import ColorOrder
from pixelrt_export.images import evenly_spread

Bytes = NDArray[np.uint8]
Place = str | os.PathLike[str]
"""A folder, or the address of a source."""
Arrays = Sequence[Bytes]
Images = Place | Arrays
"""A folder, the address of a source, or frames uint8[H, W, C]."""

ARRAYS = "arrays://"
"""Stands in a recipe for what came as arrays."""


class Numbered(Protocol):
    """One of the frames or masks of a source."""

    @property
    def index(self) -> int:
        """Position in the source, from 0."""


T = TypeVar("T", bound=Numbered)


@contextmanager
def of_recipe(key: str) -> Iterator[None]:
    """Say which key of a recipe has a misspelt address: the arguments of a command are right then.

    Raises:
        SourceError: Where the block raises `MisspeltSource`.
    """
    try:
        yield
    except MisspeltSource as problem:
        raise SourceError(f"{key}: {problem}") from problem


def arrays_of(images: Images | None) -> Arrays | None:
    """Images that came as arrays; None for a folder or the address of a source."""
    return None if images is None or isinstance(images, str | os.PathLike) else images


def is_folder(place: str) -> bool:
    """Whether images are read as files of a folder, and not by a source of the runtime."""
    return "://" not in place and not Path(place).is_file()


def spread(count: int | None, limit: int) -> set[int]:
    """Indices of at most `limit` frames, evenly spread; the first ones where their number is unknown."""
    return set(range(limit) if count is None else evenly_spread(count, limit))


def chosen(source: Iterable[T], indices: set[int]) -> Iterator[T]:
    """Frames of these indices; nothing after the last of them is read."""
    last = max(indices, default=-1)
    for frame in source:
        if frame.index in indices:
            yield frame
        if frame.index >= last:
            return


class Item(NamedTuple):
    """An image or a mask at the network's size."""

    name: str
    array: Bytes


@dataclass(slots=True)
class Choice:
    """Which of so many are used, and how many there were."""

    limit: int
    count: int | None = None

    def __call__(self, count: int | None) -> set[int]:
        """Indices of those that are used."""
        self.count = count
        return spread(count, self.limit)


def some(items: list[Item], place: str, what: str) -> list[Item]:
    """The items of a source that has some.

    Raises:
        SourceError: If there are none.
    """
    if not items:
        raise SourceError(f"{place} gives no {what}, at least one was expected; name another source")
    return items


def check_channels(address: str, channels: int) -> None:
    """Refuse a source of the runtime for a network that takes something else than colours.

    Raises:
        SourceError: If it does.
    """
    if channels != 3:
        raise SourceError(
            f"{address} gives frames of 3 channels, the network takes {channels}; name a folder of images"
        )


def in_order(image: Bytes, color: ColorOrder) -> Bytes:
    """An RGB image in the order in which frames arrive."""
    return image if color == "rgb" else np.ascontiguousarray(image[..., ::-1])


def found_text(value: object) -> str:
    """An array as messages write it, `uint8[4, 4]`, or the type of what is none."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__
