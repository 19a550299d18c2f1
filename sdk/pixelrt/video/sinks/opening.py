"""From URIs to sinks."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pixelrt.errors import SinkError
from pixelrt.strict import suggestion
from pixelrt.video.sinks.base import Sink
from pixelrt.video.sinks.null import NullSink
from pixelrt.video.sinks.pictures import MaskFolder, PictureSink
from pixelrt.video.sinks.video_file import FORMATS, VideoSink
from pixelrt.video.sources import Source

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
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
    if scheme := re.match(r"([a-z][a-z0-9+.-]*)://|([a-z]{2,}):$", text):
        hint = suggestion(scheme[0], ["null:"])
        raise SinkError(f"{text}: unknown scheme {scheme[0]}{hint}; expected {_KNOWN}")
    path = Path(text)
    refuse_source(path, source)
    if text.endswith(("/", os.sep)) or path.is_dir():
        return MaskFolder(path)
    suffix = path.suffix.lower()
    if suffix in FORMATS:
        return VideoSink(path, size=source.size, fps=source.fps)
    if suffix not in IMAGES:
        raise SinkError(_unknown(text, suffix))
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
    places = [Path(text).resolve() for text in texts if text != "null:"]
    for place in places:
        if places.count(place) > 1:
            raise SinkError(f"{place} was asked for twice; give it once")
    with contextlib.ExitStack() as opened:
        sinks: list[Sink] = []
        for text in texts:
            sink = open_sink(text, source, num_frames=num_frames)
            opened.callback(sink.abort)
            sinks.append(sink)
        opened.pop_all()
    return tuple(sinks)


def refuse_source(path: Path, source: Source) -> None:
    """Protect what is read from being overwritten.

    Raises:
        SinkError: If `path` is a file or folder of the source.
    """
    for read in source.paths:
        if path.resolve() == Path(read).resolve():
            raise SinkError(f"{path} is where {source.name} is read from; write somewhere else")


def _unknown(text: str, suffix: str) -> str:
    if not suffix:
        return f"{text} has no suffix; expected {_KNOWN}; for a folder of masks write {text}/"
    return f"{text} ends in {suffix}{suggestion(suffix, [*FORMATS, *IMAGES])}; expected {_KNOWN}"
