"""The report as plain text, to be pasted into an issue."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence

from pixelrt.self_test.protocol import WORDS, Result, summary

_WIDTH = 120
_VERDICT = 19
_NAME = 20
_SECONDS = 9
_FIGURES = 2 + _VERDICT + _NAME + _SECONDS + 2


def report_lines(results: Sequence[Result], titles: dict[str, str]) -> Iterator[str]:
    """The report, line by line.

    Args:
        results: In the order of the groups.
        titles: What each group is called.
    """
    for name, members in itertools.groupby(results, key=lambda result: result.group):
        yield ""
        yield titles.get(name, name)
        yield from _group_lines(list(members))
    counts = summary(results)
    yield ""
    yield ", ".join(f"{number} {WORDS[status]}" for status, number in counts.items())


def _group_lines(results: list[Result]) -> Iterator[str]:
    """One line per check; those that are impossible for one reason share a line; a reason stands once."""
    for (status, reason), members in itertools.groupby(results, key=lambda one: (one.status, one.reason)):
        if status == "impossible":
            yield from _impossible([member.name for member in members])
        else:
            for member in members:
                yield from textwrap.wrap(_line(member), _WIDTH, subsequent_indent=" " * _FIGURES)
        if reason:
            yield from _indented(reason)


def _impossible(names: list[str]) -> list[str]:
    line = f"  {WORDS['impossible'].ljust(_VERDICT)}{', '.join(names)}"
    return textwrap.wrap(line, _WIDTH, subsequent_indent=" " * (2 + _VERDICT))


def _line(result: Result) -> str:
    seconds = f"{result.seconds:.2f} s".rjust(_SECONDS)
    figures = ", ".join(_figure(name, value) for name, value in result.figures.items())
    verdict, name = WORDS[result.status].ljust(_VERDICT), result.name.ljust(_NAME)
    return f"  {verdict}{name}{seconds}  {figures}".rstrip()


def _figure(name: str, value: str | int | float) -> str:
    """`up 12.3 GB/s` of ("up, GB/s", 12.3)."""
    name, _, unit = name.partition(", ")
    return f"{name} {value} {unit}".rstrip()


def _indented(reason: str) -> Iterator[str]:
    for line in reason.splitlines():
        yield from textwrap.wrap(
            line, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False
        )
