"""Addresses of sources and sinks: `scheme://place?key=value`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from pixelrt.errors import MisspeltSource, PixelRTError
from pixelrt.strict import suggestion
from pixelrt.video.sources.hiding import HIDDEN, may_be_secret, without_secrets

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Address:
    """A URI taken apart.

    The options of PixelRT stand behind `?`; behind `#` for network addresses, whose query is the camera's own
    (`rtsp://camera/live?channel=1#transport=tcp`).
    """

    shown: str
    """For people: without options, and without secrets."""
    scheme: str
    """In lower case, without `://`; empty for paths."""
    rest: str = field(repr=False)
    """What stands between scheme and options."""
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The options."""
    network: bool = False
    """Whether the options stand behind `#`."""

    def options(
        self,
        readers: Mapping[str, Callable[[str], Any]],
        error: type[PixelRTError] = MisspeltSource,
        elsewhere: Collection[str] = (),
    ) -> dict[str, Any]:
        """Read the options.

        Args:
            readers: What each known option makes of its text; raises ValueError, saying what it expects.
            error: What is raised.
            elsewhere: Options of other schemes.

        Raises:
            PixelRTError: Of the kind `error`, if an option is unknown, or its value cannot be used.
        """
        values: dict[str, Any] = {}
        for key, text in self.query.items():
            if key not in readers:
                raise error(
                    f"{self.shown}: {self._kind} has no option {self._unknown(key, readers, elsewhere)}"
                )
            try:
                values[key] = readers[key](text)
            except ValueError as problem:
                given = HIDDEN if may_be_secret(key) else text
                raise error(f"{self.shown}: {key}={given}: {problem}") from None
        return values

    @property
    def _kind(self) -> str:
        return f"{self.scheme}://" if self.scheme else Path(self.rest).suffix or self.shown

    def _unknown(self, key: str, known: Iterable[str], elsewhere: Collection[str]) -> str:
        """A key and what is known instead; behind `#` it may be the rest of a password."""
        choices = list(known)
        hint = suggestion(key, choices)
        if HIDDEN in self.shown and not self.network:
            key, hint = HIDDEN, ""
        elif self.network and not hint and key not in elsewhere:
            key, hint = HIDDEN, " (if it is a part of the camera's own address, write its '#' as %23)"
        else:
            key = repr(key)
        return f"{key}{hint}; known: {', '.join(choices) or 'none'}"


def parse_address(text: str, *, network: bool = False, error: type[PixelRTError] = MisspeltSource) -> Address:
    """Take a URI apart.

    Args:
        text: `scheme://place?key=value&key=value`.
        network: Whether options stand behind `#`, because the query belongs to the camera.
        error: What is raised.

    Raises:
        PixelRTError: Of the kind `error`, if options are no list of key=value, or one is there twice.
    """
    scheme, _, rest = text.partition("://")
    mark = "#" if network else "?"
    place, _, query = rest.partition(mark)
    shown = _shown(text, f"{scheme}://{place}")
    return Address(shown, scheme.lower(), place, _pairs(shown, mark, query, error), network)


def parse_path(text: str, *, error: type[PixelRTError] = MisspeltSource) -> Address:
    """Take a path with options apart; its scheme is empty.

    Args:
        text: `path?key=value&key=value`.
        error: What is raised.

    Raises:
        PixelRTError: Of the kind `error`, if options are no list of key=value, or one is there twice.
    """
    place, _, query = text.partition("?")
    shown = _shown(text, place)
    return Address(shown, "", place, _pairs(shown, "?", query, error))


def _shown(text: str, place: str) -> str:
    """What people see of a place; nothing, if its mark stands in the midst of a user and a password."""
    whole = without_secrets(text)
    return whole if f"{HIDDEN}@" in whole or whole.endswith(f"://{HIDDEN}") else without_secrets(place)


def _pairs(shown: str, mark: str, query: str, error: type[PixelRTError]) -> dict[str, str]:
    pairs = []
    for pair in query.split("&") if query else []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise error(f"{shown}: what stands behind its '{mark}' is not a list of key=value")
        pairs.append((unquote_plus(key), unquote_plus(value)))
    values: dict[str, str] = {}
    for key, value in pairs:
        if key in values:
            raise error(f"{shown}: {key} is there twice; give it once")
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
