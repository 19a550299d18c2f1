"""Dataclasses from plain data (JSON, TOML), where every surprise is an error that names its place."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class SurpriseError(ValueError):
    """Data that does not fit the dataclass; the message names the place and what was expected."""


_HINTS: dict[Any, dict[str, Any]] = {}
"""Types of the fields of a dataclass: looking them up takes longer than all the rest."""


def decode(kind: type[T], data: object, where: str = "") -> T:
    """Build `kind` from plain data.

    Understands dataclasses, str, int, float, bool, None, Literal, unions, `tuple[X, ...]`, `tuple[X, Y]`,
    `dict[str, X]` and Any, nested in any way. Fields with a default may be left out.

    Args:
        kind: The type to build.
        data: What a JSON or TOML parser returned.
        where: The place of `data` in its file, for messages.

    Raises:
        SurpriseError: On an unknown or missing key, or a value of another type.
    """
    result: T = _decode(kind, data, where)
    return result


def _decode(kind: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast("type[Any]", kind), data, where)
    if origin is Literal:
        return _choice(typing.get_args(kind), data, where)
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(kind), data, where)
    if origin is tuple:
        return _tuple(typing.get_args(kind), data, where)
    if origin is dict:
        _check(isinstance(data, Mapping), data, "a table", where)
        return {
            str(key): _decode(typing.get_args(kind)[1], value, f"{where}.{key}")
            for key, value in data.items()
        }
    return _scalar(kind, data, where)


def _scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    matches = data is None if kind is type(None) else type(data) is kind
    _check(matches, data, "nothing" if kind is type(None) else kind.__name__, where)
    return data


def _choice(choices: tuple[Any, ...], data: Any, where: str) -> Any:
    if data in choices and type(data) in {type(choice) for choice in choices}:
        return data
    hint = suggestion(str(data), [str(choice) for choice in choices])
    raise SurpriseError(
        f"{where or 'value'} is {data!r}, expected one of {', '.join(map(repr, choices))}{hint}"
    )


def _union(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    problems = []
    # that a value could have been left out helps nobody who gave one
    for kind in (kind for kind in kinds if data is None or kind is not type(None)):
        try:
            return _decode(kind, data, where)
        except SurpriseError as problem:  # noqa: PERF203 - a handful of alternatives, and each may fail
            problems.append(str(problem))
    raise SurpriseError("; or ".join(dict.fromkeys(problems)))


def _tuple(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    _check(isinstance(data, (list, tuple)), data, "a list", where)
    if kinds[-1] is Ellipsis:
        return tuple(_decode(kinds[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if len(data) != len(kinds):
        raise SurpriseError(f"{where} has {len(data)} values, expected {len(kinds)}")
    return tuple(
        _decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, data, strict=True))
    )


def _dataclass(kind: type[Any], data: Any, where: str) -> Any:
    _check(isinstance(data, Mapping), data, "a table", where)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = _HINTS.get(kind) or _HINTS.setdefault(kind, typing.get_type_hints(kind))
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in fields:
            known = ", ".join(fields)
            raise SurpriseError(
                f"unknown key {prefix}{key}{suggestion(str(key), list(fields))}; known here: {known}"
            )
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _decode(hints[name], data[name], f"{prefix}{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SurpriseError(f"missing key {prefix}{name}")
    try:
        return kind(**values)
    except ValueError as problem:
        raise SurpriseError(f"{where or kind.__name__}: {problem}") from problem


def _check(matches: bool, data: object, expected: str, where: str) -> None:
    if not matches:
        raise SurpriseError(
            f"{where or 'value'} is {type(data).__name__} {str(data)[:60]!r}, expected {expected}"
        )


def suggestion(word: str, known: list[str]) -> str:
    """` (did you mean 'x'?)` where something known is close to `word`, else nothing."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def type_of(value: object) -> str:
    """What a value is, for messages: `a dict`, `an Image`, `an ndarray`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOaeio' or name.startswith('nd') else 'a'} {name}"
