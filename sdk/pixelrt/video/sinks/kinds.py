"""What a scheme or a suffix stands for: how its sink is opened, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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

    taken: frozenset[Path] = frozenset()
    """Places of all sinks, behind all links: parts of one never go where another one goes."""

    @property
    def source(self) -> Source:
        """The first source; the only one for a kind that holds one."""
        return self.sources[0]

    @property
    def live(self) -> bool:
        """Whether some frames never come again, so that no recording of them is thrown away."""
        return any(source.live for source in self.sources)


class NamedSink(Sink, Protocol):
    """What is opened by a URI: any sink on top of `BaseSink`."""

    name: str


Opener = Callable[[str, SinkOptions], NamedSink]
"""Gets the whole URI, with `{source}` and `{time}` filled in."""


def same_path(uri: str) -> tuple[str, ...]:
    """The URI is the path, and options."""
    return (place_of(uri),)


def no_path(uri: str) -> tuple[str, ...]:
    """Nothing is written to a disk."""
    return ()


def place_label(uri: str, sink: NamedSink) -> str:
    """The URI without its options, which may hold a secret."""
    return place_of(uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkKind:
    """One kind of sink."""

    open: Opener
    one_source: bool = False
    """Whether it holds the results of one source only, as a video does; with several sources there is one
    per source, and the URI names them apart with `{source}`."""
    label: Callable[[str, NamedSink], str] = place_label
    """What its sink is called in statistics."""
    paths: Callable[[str], tuple[str, ...]] = same_path
    """The files and folders that a URI writes, so that none is a source's, or another sink's."""
