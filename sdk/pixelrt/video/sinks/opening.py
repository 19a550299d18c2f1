"""From URIs to sinks."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from pixelrt.encoding import FORMATS, IMAGES
from pixelrt.errors import SinkError
from pixelrt.strict import suggestion
from pixelrt.video.sinks.base import Sink
from pixelrt.video.sinks.null import NullSink
from pixelrt.video.sinks.pictures import MaskFolder, PictureSink
from pixelrt.video.sinks.video_file import VideoSink
from pixelrt.video.sources import Source

_KNOWN = "a video (.mp4, .mov, .mkv), a folder of masks (masks/), an image (.png, .jpg, ...) or null:"


def open_sink(uri: str | os.PathLike[str], source: Source, *, num_frames: int | None = None) -> Sink:
    """Open a sink by its URI.

    Args:
        uri: `out.mp4`, `masks/` (with the slash, or an existing folder), `out.png` for a single frame,
            or `null:`.
        source: Where the frames come from: gives their size and rate, and must not be overwritten.
        num_frames: How many will come, where it is not all of the source.

    Raises:
        SinkError: If it cannot be written, has an unknown suffix, or lies where the source is read.
    """
    text = os.fspath(uri)
    if text == "null:":
        return NullSink()
    refuse_scheme(text, _KNOWN)
    path = Path(text)
    check_places([path], source)
    if text.endswith(("/", os.sep)) or path.is_dir():
        return MaskFolder(path)
    suffix = path.suffix.lower()
    if suffix in FORMATS:
        return VideoSink(path, size=source.size, fps=source.fps)
    if suffix not in IMAGES:
        raise SinkError(unknown_place(text, (*FORMATS, *IMAGES), _KNOWN, "a folder of masks"))
    if (num_frames or source.num_frames) != 1:
        raise SinkError(
            f"{path} holds one image, and {source.name} has more frames; "
            "write a video (.mp4) or a folder of masks (masks/), or stop with --limit 1"
        )
    return PictureSink(path)


def open_sinks(
    uris: Sequence[str | os.PathLike[str]], source: Source, *, num_frames: int | None = None
) -> tuple[Sink, ...]:
    """Open several sinks, or none of them.

    Raises:
        SinkError: As `open_sink`, and if two would write the same file.
    """
    texts = [os.fspath(uri) for uri in uris]
    check_places(texts, source)
    with contextlib.ExitStack() as opened:
        sinks: list[Sink] = []
        for text in texts:
            sink = open_sink(text, source, num_frames=num_frames)
            opened.callback(sink.abort)
            sinks.append(sink)
        opened.pop_all()
    return tuple(sinks)


class Read(Protocol):
    """Something that is read, such as a source."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files and folders."""


def check_places(places: Iterable[str | os.PathLike[str]], *sources: Read) -> None:
    """Protect what is read from being overwritten, and results from each other.

    Args:
        places: Every file and folder that will be written; `null:` is none.
        *sources: What is read.

    Raises:
        SinkError: If a place is a file or folder of a source, or is there twice.
    """
    read = {Path(path).resolve(): source.name for source in sources for path in source.paths}
    seen: set[Path] = set()
    for text in (os.fspath(place) for place in places):
        if text == "null:":
            continue
        place = Path(text).resolve()
        if place in read:
            raise SinkError(f"{text} is where {read[place]} is read from; write somewhere else")
        if place in seen:
            raise SinkError(f"{text} was asked for twice; write each result to a place of its own")
        seen.add(place)


def refuse_scheme(text: str, known: str) -> None:
    """Refuse a place with a scheme, such as `web://`.

    Args:
        text: The place; `null:` was taken before.
        known: Which places there are.

    Raises:
        SinkError: If it has one.
    """
    if scheme := re.match(r"([a-z][a-z0-9+.-]*)://|([a-z]{2,}):$", text):
        hint = suggestion(scheme[0], ["null:"])
        raise SinkError(f"{text}: unknown scheme {scheme[0]}{hint}; expected {known}")


def unknown_place(text: str, suffixes: Sequence[str], known: str, folder: str) -> str:
    """What to say about a place with a suffix that nobody knows, or without one.

    Args:
        text: The place.
        suffixes: Those that are known.
        known: Which places there are.
        folder: What a folder would hold.
    """
    suffix = Path(text).suffix.lower()
    if not suffix:
        return f"{text} has no suffix; expected {known}; for {folder} write {text}/"
    return f"{text} ends in {suffix}{suggestion(suffix, list(suffixes))}; expected {known}"
