"""From URIs to sinks."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from pixelrt.encoding import FORMATS, IMAGES
from pixelrt.errors import InputError, MisspeltSink, SinkError
from pixelrt.strict import type_of
from pixelrt.video.sinks.arrays import open_arrays
from pixelrt.video.sinks.base import Sink
from pixelrt.video.sinks.json_lines import STDOUT, open_lines, open_stdout
from pixelrt.video.sinks.kinds import SinkKind, SinkOptions, no_path
from pixelrt.video.sinks.mcap_file import open_mcap
from pixelrt.video.sinks.null import open_null
from pixelrt.video.sinks.pictures import open_masks, open_picture
from pixelrt.video.sinks.places import (
    FIELD,
    behind_links,
    check_fields,
    check_places,
    per_source,
    place_of,
    refuse_scheme,
    timed,
    unknown_place,
)
from pixelrt.video.sinks.rerun_log import open_rrd, open_viewer
from pixelrt.video.sinks.routing import each_its_own
from pixelrt.video.sinks.systemd import open_systemd
from pixelrt.video.sinks.video_file import open_video
from pixelrt.video.sinks.web import open_web, web_label
from pixelrt.video.sources import Source

_KNOWN = (
    "a video (.mp4, .mov, .mkv), a recording (.mcap, .rrd, .jsonl), a folder of masks (masks/) or arrays "
    "(results.npz/), an image (.png, .jpg, ...), web://, rerun://, jsonl:, systemd: or null:"
)

_SCHEMES: dict[str, SinkKind] = {
    STDOUT: SinkKind(open=open_stdout, paths=no_path),
    "null:": SinkKind(open=open_null, paths=no_path),
    "rerun://": SinkKind(open=open_viewer, paths=no_path),
    "systemd:": SinkKind(open=open_systemd, paths=no_path),
    "web://": SinkKind(open=open_web, paths=no_path, label=web_label),
}
"""By how the URI begins: `null:`, `web://`."""

_SUFFIXES: dict[str, SinkKind] = {
    **dict.fromkeys(FORMATS, SinkKind(open=open_video, one_source=True)),
    **dict.fromkeys(IMAGES, SinkKind(open=open_picture, one_source=True)),
    ".mcap": SinkKind(open=open_mcap),
    ".jsonl": SinkKind(open=open_lines),
    ".rrd": SinkKind(open=open_rrd),
}
"""By how the file's name ends: `.mp4`."""

_FOLDERS: dict[str, SinkKind] = {
    "": SinkKind(open=open_masks, one_source=True),
    ".npz": SinkKind(open=open_arrays, one_source=True),
}
"""By how the folder's name ends, without the slash: `.npz` for `results.npz/`, empty for every other one."""


def open_sink(uri: str | os.PathLike[str], *sources: Source, num_frames: int | None = None) -> Sink:
    """Open a sink by its URI.

    Args:
        uri: See `pixelrt.video.sinks`.
        *sources: Where the frames come from: gives their size and rate, and must not be overwritten.
        num_frames: How many will come of each source, where it is not all of it.

    Raises:
        SinkError: If it cannot be written, has an unknown suffix, or lies where a source is read; or if it
            is one per source (`open_sinks` opens those).
        InputError: If a source is not opened.
        MissingDependency: If a library is needed that is not installed.
    """
    text = os.fspath(uri)
    sinks = open_sinks([text], *sources, num_frames=num_frames)
    if len(sinks) == 1:
        return sinks[0]
    for sink in sinks:
        sink.abort()
    raise SinkError(f"{text} is one per source, {len(sinks)} in all; open them with open_sinks")


def open_sinks(
    uris: Sequence[str | os.PathLike[str]],
    *sources: Source,
    num_frames: int | None = None,
    others: Sequence[str | os.PathLike[str]] = (),
) -> tuple[Sink, ...]:
    """Open several sinks, or none of them.

    A kind that holds one source only (a video, a folder of masks, an image) is opened once per source, its
    URI naming them apart: `{source}.mp4`. Every other kind is opened once.

    Args:
        uris: See `pixelrt.video.sinks`.
        *sources: Where the frames come from, opened (`open_source`), one argument each.
        num_frames: How many will come of each source, where it is not all of it.
        others: What else will be written, so that no part of a recording goes there.

    Raises:
        SinkError: As `open_sink`, and if two would write the same file, or to standard output.
        InputError: If a source is not opened.
        MissingDependency: If a library is needed that is not installed.
    """
    _check_opened(sources)
    now = datetime.datetime.now(datetime.timezone.utc)
    texts = [timed(os.fspath(uri), now) for uri in uris]
    if sum(prints([text]) for text in texts) > 1:
        raise MisspeltSink("standard output was asked for twice; give one sink for it")
    places = [*written_by(texts, *sources), *others]
    check_places(places, *sources)
    options = SinkOptions(sources=sources, num_frames=num_frames, taken=frozenset(map(behind_links, places)))
    with contextlib.ExitStack() as opened:
        sinks: list[Sink] = []
        for text in texts:
            for sink in _open(text, options):
                opened.callback(sink.abort)
                sinks.append(sink)
        opened.pop_all()
    return tuple(sinks)


def written_by(uris: Sequence[str | os.PathLike[str]], *sources: Source) -> tuple[str, ...]:
    """The files and folders that sinks write.

    Args:
        uris: Of the sinks.
        *sources: Where the frames come from.

    Raises:
        SinkError: If a URI is of no known kind, or of one per source and does not name them apart.
    """
    return tuple(
        path
        for text in (os.fspath(uri) for uri in uris)
        for kind in (_kind(text),)
        for each in _per_source(text, kind, sources)
        for path in kind.paths(each)
    )


def _check_opened(sources: Sequence[object]) -> None:
    for source in sources:
        if not hasattr(source, "paths"):
            raise InputError(
                f"a sink was given {type_of(source)} as its source, expected an opened one: "
                "source = pixelrt.video.sources.open_source('drive.mp4'), and of several each as an argument"
            )


def _open(text: str, options: SinkOptions) -> list[Sink]:
    kind, sources = _kind(text), options.sources
    uris = _per_source(text, kind, sources)
    groups = [(source,) for source in sources] if kind.one_source else [sources]
    with contextlib.ExitStack() as opened:
        sinks: list[Sink] = []
        for uri, group in zip(uris, groups, strict=True):
            sink = kind.open(uri, dataclasses.replace(options, sources=group))
            opened.callback(sink.abort)
            sink.name = kind.label(uri, sink)
            sinks.append(sink)
        opened.pop_all()
    return each_its_own(sinks, sources) if kind.one_source else sinks


def _per_source(text: str, kind: SinkKind, sources: tuple[Source, ...]) -> list[str]:
    """The URI once, or once per source."""
    if not kind.one_source:
        if FIELD in text:
            raise MisspeltSink(f"{text} holds all sources, so it has no {FIELD}; leave it away")
        if kind.paths is not no_path:
            check_fields(text)
        return [text]
    return per_source(text, sources)


def prints(uris: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether one of the sinks writes to standard output."""
    return any(os.fspath(uri) in (STDOUT, "-") for uri in uris)


def _kind(text: str) -> SinkKind:
    if text == "-":
        return _SCHEMES[STDOUT]
    for scheme, kind in _SCHEMES.items():
        if text.startswith(scheme):
            return kind
    refuse_scheme(text, _KNOWN, list(_SCHEMES))
    place = place_of(text)
    path = Path(place)
    suffix = path.suffix.lower()
    if path.name in ("", ".."):
        raise MisspeltSink(f"{text!r} names no file and no folder of its own; expected {_KNOWN}")
    if place.endswith(("/", os.sep)):
        return _FOLDERS.get(suffix, _FOLDERS[""])
    if path.is_dir():
        if suffix in _SUFFIXES:
            raise SinkError(f"{text} is a folder, expected a file; for a folder of masks write {place}/")
        return _FOLDERS.get(suffix, _FOLDERS[""])
    if suffix not in _SUFFIXES:
        raise unknown_place(text, list(_SUFFIXES), _KNOWN, "a folder of masks")
    return _SUFFIXES[suffix]
