"""Addresses of sources and sinks: `scheme://place?key=value`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pixelrt.errors import PixelRTError, SourceError
from pixelrt.strict import suggestion

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Address:
    """A URI taken apart.

    The options of PixelRT stand behind `?`; behind `#` for network addresses, whose query is the camera's own
    (`rtsp://camera/live?channel=1#transport=tcp`).
    """

    text: str
    """All of it, as it was given."""
    scheme: str
    """In lower case, without `://`; empty for paths."""
    rest: str
    """What stands between scheme and options."""
    query: Mapping[str, str] = field(default_factory=dict)
    """The options."""

    def options(
        self, readers: Mapping[str, Callable[[str], Any]], error: type[PixelRTError] = SourceError
    ) -> dict[str, Any]:
        """Read the options.

        Args:
            readers: What each known option makes of its text; raises ValueError, saying what it expects.
            error: What is raised.

        Raises:
            PixelRTError: Of the kind `error`, if an option is unknown, or its value cannot be used.
        """
        values: dict[str, Any] = {}
        for key, text in self.query.items():
            if key not in readers:
                hint = suggestion(key, list(readers))
                known = ", ".join(readers) or "none"
                kind = f"{self.scheme}://" if self.scheme else Path(self.rest).suffix or self.rest
                raise error(f"{self.text}: {kind} has no option {key!r}{hint}; known: {known}")
            try:
                values[key] = readers[key](text)
            except ValueError as problem:
                raise error(f"{self.text}: {key}={text}: {problem}") from None
        return values


def parse_address(text: str, *, network: bool = False, error: type[PixelRTError] = SourceError) -> Address:
    """Take a URI apart.

    Args:
        text: `scheme://place?key=value&key=value`.
        network: Whether options stand behind `#`, because the query belongs to the camera.
        error: What is raised.

    Raises:
        PixelRTError: Of the kind `error`, if options are no list of key=value, or one is there twice.
    """
    scheme, _, rest = text.partition("://")
    place, _, query = rest.partition("#" if network else "?")
    return Address(text, scheme.lower(), place, _pairs(text, query, error))


def parse_path(text: str, *, error: type[PixelRTError] = SourceError) -> Address:
    """Take a path with options apart; its scheme is empty.

    Args:
        text: `path?key=value&key=value`.
        error: What is raised.

    Raises:
        PixelRTError: Of the kind `error`, if options are no list of key=value, or one is there twice.
    """
    place, _, query = text.partition("?")
    return Address(text, "", place, _pairs(text, query, error))


def _pairs(text: str, query: str, error: type[PixelRTError]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as problem:
        raise error(f"{text}: {query!r} is not a list of key=value ({problem})") from problem
    values: dict[str, str] = {}
    for key, value in pairs:
        if key in values:
            raise error(f"{text}: {key} is there twice; give it once")
        values[key] = value
    return values


def scheme_of(text: str) -> str | None:
    """The scheme of a URI in lower case; None for paths and numbers."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return match[1].lower() if match else None


def one_of(*choices: str) -> Callable[[str], str]:
    """Reads an option that is one of several words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}{suggestion(text, list(choices))}")
        return text

    return read


def number(least: float, most: float, what: str) -> Callable[[str], float]:
    """Reads an option that is a number, such as `number(0.1, 3600, "seconds")`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ValueError(f"expected {what}, {least:g} to {most:g}")
        return value

    return read


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads an option that is a whole number."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number, {least} to {most}")
        return int(text)

    return read


def switch(text: str) -> bool:
    """Reads an option that is on or off."""
    values = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False}
    values["off"] = False
    if text.lower() not in values:
        raise ValueError("expected yes or no")
    return values[text.lower()]
