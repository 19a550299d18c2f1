"""What a scheme or a suffix stands for: how its sink is opened, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pixelrt.video.sinks.base import Sink
from pixelrt.video.sinks.places import place_of
from pixelrt.video.sources.base import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """What holds for every sink."""

    sources: tuple[Source, ...]
    """Where the frames come from: exactly one for a kind that holds one source only."""
    num_frames: int | None = None
    """How many will come of each source, where it is not all of it."""

    @property
    def source(self) -> Source:
        """The first source; the only one for a kind that holds one."""
        return self.sources[0]


class NamedSink(Sink, Protocol):
    """What is opened by a URI: any sink on top of `BaseSink`."""

    name: str


Opener = Callable[[str, SinkOptions], NamedSink]
"""Gets the whole URI, with `{source}` filled in."""


def same_path(uri: str) -> tuple[str, ...]:
    """The URI is the path, and options."""
    return (place_of(uri),)


def no_path(uri: str) -> tuple[str, ...]:
    """Nothing is written to a disk."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkKind:
    """One kind of sink."""

    open: Opener
    one_source: bool = False
    """Whether it holds the results of one source only, as a video does; with several sources there is one
    per source, and the URI names them apart with `{source}`."""
    paths: Callable[[str], tuple[str, ...]] = same_path
    """The files and folders that a URI writes, so that none is a source's, or another sink's."""
