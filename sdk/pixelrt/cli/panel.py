"""How a live run goes, in place on a terminal: sources, rates, drops and ages, drawn by rich."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pixelrt.cli.live_report import reasons_text
from pixelrt.dependency import require
from pixelrt.terminal import console
from pixelrt.video.health import HealthState
from pixelrt.video.live.statistics import SourceStatistics, StreamStatistics, StreamView

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_REFRESHES_A_SECOND = 4
_SHOWN_STAGES = ("decode", "wait", "network", "draw", "capture to delivery")
_LOOKS: dict[HealthState, tuple[str, str]] = {
    "ok": ("●", "green"),
    "overloaded": ("▲", "yellow"),
    "stalled": ("◌", "yellow"),
    "reconnecting": ("◌", "yellow"),
    "failed": ("✗", "bold red"),
}
"""The sign and the style of each state."""


class Panel:
    """Draws a stream anew whenever rich asks.

    Args:
        stream: What is shown.
        title: What runs.
    """

    def __init__(self, stream: StreamView, title: str) -> None:
        self._stream, self._title = stream, title
        self._table = require("rich.table", "cli", "the live panel").Table
        self._text = require("rich.text", "cli", "the live panel").Text
        self._group = require("rich.console", "cli", "the live panel").Group
        self._rule = require("rich.rule", "cli", "the live panel").Rule

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show it until this is left; lines on standard error appear above it."""
        live = require("rich.live", "cli", "the live panel").Live(
            get_renderable=self.draw,
            console=console(),
            transient=True,
            refresh_per_second=_REFRESHES_A_SECOND,
            redirect_stdout=False,
        )
        with live:
            yield

    def draw(self) -> Group:
        """The panel as it is now."""
        now = self._stream.statistics()
        group: Group = self._group(
            self._rule(self._heading(now), align="left", style="dim", characters="─"),
            self._sources(now),
            *self._troubles(now),
            self._text(""),
            self._ages(now),
            *([self._text(""), self._sinks(now)] if now.sinks else []),
        )
        return group

    def _heading(self, now: StreamStatistics) -> Any:
        heading = self._text(no_wrap=True)
        heading.append(self._title, "bold")
        heading.append(f"  {clock_text(now.seconds)}", "dim")
        return heading

    def _grid(self, *columns: str) -> Table:
        """A table without lines; `>` in front of a column aligns it to the right.

        Names go into it as `Text`: a `str` is read as markup, in which `drive[left].mp4` has a style.
        """
        table: Table = self._table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for place, column in enumerate(columns):
            name = column.lstrip(">")
            table.add_column(
                name,
                justify="right" if column != name else "left",
                overflow="ellipsis",
                min_width=None if place else max(map(len, _SHOWN_STAGES)),
            )
        return table

    def _sources(self, now: StreamStatistics) -> Table:
        table = self._grid("source", "state", ">in/s", ">out/s", ">waiting", "dropped", "lost")
        for source in now.sources:
            table.add_row(
                self._text(source.name),
                self._state(source),
                f"{source.fps_captured:.1f}",
                f"{source.fps_delivered:.1f}",
                str(source.queue_depth),
                self._text(reasons_text(source.dropped)),
                self._text(reasons_text(source.lost)),
            )
        return table

    def _state(self, source: SourceStatistics) -> Any:
        if source.ended:
            return self._text("■ ended", "dim")
        sign, style = _LOOKS[source.health.state]
        text = self._text(f"{sign} {source.health.state}", style)
        if not source.health.is_ok:
            text.append(f" {clock_text(time.monotonic() - source.health.since_s)}", "dim")
        return text

    def _troubles(self, now: StreamStatistics) -> list[Any]:
        """Why sources and sinks are not well."""
        why = {source.name: source.health.why for source in now.sources}
        why |= {sink.name: sink.failed for sink in now.sinks}
        return [self._text(f"{name}: {reason}", "yellow") for name, reason in why.items() if reason]

    def _ages(self, now: StreamStatistics) -> Table:
        table = self._grid("milliseconds", ">p50", ">p95", ">p99", ">max")
        for name in _SHOWN_STAGES:
            times = now.recent.get(name)
            if times is not None:
                values = (times.p50_ms, times.p95_ms, times.p99_ms, times.max_ms)
                style = "bold" if name == _SHOWN_STAGES[-1] else ""
                table.add_row(name, *(f"{value:.1f}" for value in values), style=style)
        return table

    def _sinks(self, now: StreamStatistics) -> Table:
        table = self._grid("sink", "state", ">written", ">dropped", ">waiting")
        for sink in now.sinks:
            sign, style = _LOOKS["failed" if sink.failed else "ok"]
            state = self._text(f"{sign} {'failed' if sink.failed else 'ok'}", style)
            counts = (f"{sink.written}", f"{sink.dropped}", f"{sink.queue_depth}")
            table.add_row(self._text(sink.name), state, *counts)
        return table


def clock_text(seconds: float) -> str:
    """`4 s`, `2:05`, `1:02:05`."""
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest} s"
