"""Where results may go: never over what is read, and each to a place of its own."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from pixelrt.errors import MisspeltSink, SinkError
from pixelrt.strict import suggestion

FIELD = "{source}"
"""Stands for the name of the source in the URI of a sink."""
TIME = "{time}"
"""Stands for the time at which a run began: `20261128T175646Z`."""


class Read(Protocol):
    """Something that is read, such as a source."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files and folders."""


def place_of(uri: str) -> str:
    """The path in the URI of a sink, without its options."""
    return uri.partition("?")[0]


def check_places(places: Iterable[str | os.PathLike[str]], *sources: Read) -> None:
    """Protect what is read from being overwritten, and results from each other.

    Args:
        places: Every file and folder that will be written; `null:` is none.
        *sources: What is read.

    Raises:
        SinkError: If a place is a file or folder of a source, or is there twice.
    """
    read = {behind_links(path): source.name for source in sources for path in source.paths}
    seen: set[Path] = set()
    for text in (os.fspath(place) for place in places):
        if text == "null:":
            continue
        place = behind_links(text)
        if place in read:
            raise SinkError(f"{text} is where {read[place]} is read from; write somewhere else")
        if place in seen:
            raise SinkError(f"{text} was asked for twice; write each result to a place of its own")
        seen.add(place)


def behind_links(path: str | os.PathLike[str]) -> Path:
    """Where a path leads, whether or not something is there."""
    return Path(os.path.realpath(path))


def timed(text: str, when: datetime.datetime | None = None) -> str:
    """A place with the time at which the run began, in UTC, where it has `{time}` in it.

    Args:
        text: The place.
        when: The time, with its zone; None for now.
    """
    utc = (when or datetime.datetime.now(datetime.timezone.utc)).astimezone(datetime.timezone.utc)
    return text.replace(TIME, utc.strftime("%Y%m%dT%H%M%SZ"))


def file_names(sources: Sequence[Read]) -> tuple[str, ...]:
    """What `{source}` stands for, per source: its name as part of a file's name, unlike every other's.

    Also on a disk for which `front` and `Front` are one, as that of a USB stick.
    """
    plains: list[str] = []
    for source in sources:
        name = Path(source.name).stem if source.paths else source.name
        plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "source"
        plains.append(plain)
    taken = {plain.casefold() for plain in plains}
    names: dict[str, str] = {}
    for plain in plains:
        name, number = plain, 1
        while name.casefold() in names or (number > 1 and name.casefold() in taken):
            number += 1
            name = f"{plain}-{number}"
        names[name.casefold()] = name
    return tuple(names.values())


def per_source(text: str, sources: Sequence[Read]) -> list[str]:
    """A place for each source, where one place holds one source only.

    Args:
        text: The place, with `{source}` in it where there are several sources.
        sources: Where the frames come from.

    Raises:
        SinkError: If it does not name them apart.
    """
    check_fields(text)
    if len(sources) > 1 and FIELD not in text:
        raise MisspeltSink(
            f"{text} holds one source, and there are {len(sources)}; put {FIELD} in it, "
            f"such as {_apart(text)}"
        )
    return [text.replace(FIELD, name) for name in file_names(sources)]


def check_fields(text: str) -> None:
    """Refuse a place with something in braces that nobody fills in.

    Raises:
        SinkError: If there is something.
    """
    for field in re.findall(r"\{\w*\}", text):
        if field not in (FIELD, TIME):
            hint = suggestion(field, [FIELD, TIME])
            raise MisspeltSink(f"{text} has {field} in it{hint}; expected {FIELD}, {TIME}, or no braces")


def _apart(text: str) -> str:
    """An example of a place that names sources apart."""
    place, mark, options = text.partition("?")
    path = Path(place)
    slash = "/" if place.endswith("/") else ""
    return f"{path.with_name(f'{path.stem}-{FIELD}{path.suffix}')}{slash}{mark}{options}"


def refuse_scheme(text: str, known: str, schemes: Sequence[str] = ("null:",)) -> None:
    """Refuse a place with a scheme that nobody knows, such as `ftp://`.

    Args:
        text: The place; known schemes were taken before.
        known: Which places there are.
        schemes: The schemes that are known.

    Raises:
        SinkError: If it has one.
    """
    if scheme := re.match(r"([a-z][a-z0-9+.-]*)://|([a-z]{2,}):$", text):
        hint = suggestion(scheme[0], list(schemes))
        raise MisspeltSink(f"{text}: unknown scheme {scheme[0]}{hint}; expected {known}")


def unknown_place(text: str, suffixes: Sequence[str], known: str, folder: str) -> SinkError:
    """The error of a place with a suffix that nobody knows, or without one, which is no folder yet.

    Args:
        text: The place.
        suffixes: Those that are known.
        known: Which places there are.
        folder: What a folder would hold.
    """
    suffix = Path(text).suffix.lower()
    if not suffix:
        return SinkError(f"{text} has no suffix; expected {known}; for {folder} write {text}/")
    return MisspeltSink(f"{text} ends in {suffix}{suggestion(suffix, list(suffixes))}; expected {known}")
