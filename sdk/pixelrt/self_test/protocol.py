"""What the child process is told, what it tells, and what the report is made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "failed", "impossible"]
Figures = dict[str, str | int | float]

WORDS: dict[Status, str] = {"ok": "ok", "failed": "FAILED", "impossible": "not possible here"}

GROUPS = "pixelrt.self_test.groups:all_groups"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to check, and on what."""

    folder: str = ""
    """A temporary folder: the cache of engines that are built for the test alone."""
    bundle: str = ""
    """A bundle of the user's; empty for none."""
    index: int = 0
    """The GPU, as CUDA_VISIBLE_DEVICES numbers them."""
    groups: str = GROUPS
    """`module:function` that gives the groups of checks for an order."""
    group: str = ""
    """The group that a child shall run."""
    skip: tuple[str, ...] = ()
    """Its checks whose results are known."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A check has begun."""

    group: str
    name: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check."""

    group: str
    name: str
    status: Status
    reason: str
    """Why it failed, or why it is not possible here; empty if it went well."""
    seconds: float
    figures: Figures = field(default_factory=dict)


def to_line(message: Begun | Result) -> str:
    """A message as one line."""
    return json.dumps({"kind": type(message).__name__, **dataclasses.asdict(message)}) + "\n"


def from_line(line: str) -> Begun | Result:
    """A message that `to_line` wrote."""
    values = json.loads(line)
    kinds: dict[str, Any] = {"Begun": Begun, "Result": Result}
    message: Begun | Result = kinds[values.pop("kind")](**values)
    return message


def order_to_text(order: Order) -> str:
    """An order as text."""
    return json.dumps(dataclasses.asdict(order))


def order_from_text(text: str) -> Order:
    """An order that `order_to_text` wrote."""
    values = json.loads(text)
    return Order(**{**values, "skip": tuple(values["skip"])})


def summary(results: Sequence[Result]) -> dict[Status, int]:
    """How many checks ended how."""
    return {status: sum(result.status == status for result in results) for status in WORDS}


def plain(results: Sequence[Result]) -> dict[str, Any]:
    """The report as plain data."""
    checks = [{**dataclasses.asdict(result), "status": WORDS[result.status]} for result in results]
    counts = {WORDS[status]: number for status, number in summary(results).items()}
    return {"counts": counts, "checks": checks}
