"""What `run` and `serve` do: open everything, run, show the figures, and close everything."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pixelrt.bundle import Bundle
from pixelrt.cli.display import Look, View, displayed
from pixelrt.cli.live_checks import check_arguments, check_load, check_sizes, check_written, head_of
from pixelrt.cli.live_options import run_options
from pixelrt.cli.live_report import advice_on_deadline, show
from pixelrt.cli.options import machine_options
from pixelrt.cli.stopping import INTERRUPTED_LOAD, Stop
from pixelrt.cli.wording import counted
from pixelrt.errors import InputError, MisspeltSource, PixelRTError, SinkError, SourceError
from pixelrt.interrupts import running
from pixelrt.manifest import Head
from pixelrt.terminal import complain, is_terminal

if TYPE_CHECKING:
    from pixelrt.segmentation import Segmenter
    from pixelrt.video.live.metrics import MetricsServer
    from pixelrt.video.live.statistics import StreamView
    from pixelrt.video.report import RunReport
    from pixelrt.video.run import Run, RunOptions
    from pixelrt.video.sinks import Sink
    from pixelrt.video.sources import Source

Outs: TypeAlias = Callable[[argparse.Namespace, Bundle], Sequence[str]]
"""The URIs of the sinks."""
Play: TypeAlias = "Callable[[Source, Callable[[], Source]], Source]"
"""What is made of an opened source; it may be opened again."""
_QUIET_S = 2.0
"""A source that takes longer to open is waited for, as a person wants to know."""


def as_asked(arguments: argparse.Namespace, bundle: Bundle) -> Sequence[str]:
    """Sinks that were asked for."""
    outs: Sequence[str] = arguments.out
    return outs


def as_it_comes(source: Source, again: Callable[[], Source]) -> Source:
    """The source, as fast as it comes."""
    return source


def run_live(
    arguments: argparse.Namespace, stop: Stop, outs: Outs = as_asked, play: Play = as_it_comes
) -> int:
    """Run, and show the figures.

    Args:
        arguments: Of `add_live_options`.
        stop: Whether a signal asked for the end.
        outs: What the sinks are.
        play: What is made of each source.

    Returns:
        0; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.

    Raises:
        UsageError: If arguments do not go together, or do not fit the bundle.
        PixelRTError: If something cannot be opened, read or written, or no result was young enough.
    """
    from pixelrt.loading import load

    options, machine = run_options(arguments), machine_options(arguments)
    check_arguments(arguments)
    _fill_in_time(arguments)
    bundle = Bundle.open(arguments.bundle)
    head, uris = head_of(bundle, arguments), outs(arguments, bundle)
    check_sizes(bundle, arguments)
    with contextlib.ExitStack() as opened:
        metrics = [opened.enter_context(server) for server in _metrics(arguments)]
        sources, missing = _open_sources(arguments, play, stop, opened)
        if stop():
            return _too_early(stop)
        check_load(sources, arguments)
        sinks = opened.enter_context(_opened_sinks(arguments, bundle, head, sources, uris))
        with stop.answering(INTERRUPTED_LOAD):
            segmenter = opened.enter_context(load(bundle, color="rgb", **machine))
        if stop():
            return _too_early(stop)
        _announce(segmenter, sources)
        views = [partial(_measured, server, segmenter) for server in metrics]
        _run(arguments, _Work(segmenter, sources, sinks, options, views), stop)
    if missing:
        raise missing[0]
    return stop.exit_code


def _fill_in_time(arguments: argparse.Namespace) -> None:
    """Put the time of the start, the same everywhere, into the places that ask for it."""
    from pixelrt.video.sinks.places import timed

    now = datetime.datetime.now(datetime.timezone.utc)
    arguments.out = [timed(out, now) for out in arguments.out]
    for name in ("sheet", "json"):
        if (place := getattr(arguments, name)) is not None:
            setattr(arguments, name, timed(place, now))


@dataclass(frozen=True, slots=True)
class _Work:
    """Everything that is open."""

    segmenter: Segmenter
    sources: Sequence[Source]
    sinks: Sequence[Sink]
    options: RunOptions
    views: Sequence[View]


def _run(arguments: argparse.Namespace, work: _Work, stop: Stop) -> None:
    """Run, show the figures however it ended, and then raise what went wrong."""
    from pixelrt.video.run import Run
    from pixelrt.video.sinks import prints

    printing = prints(arguments.out)
    plain = printing and is_terminal(sys.stdout)
    look = Look(title=_title(work.segmenter), plain=plain, logged=work.options.log is not None)
    with displayed(work.sources, look, work.views) as observers:
        with stop.answering(INTERRUPTED_LOAD):  # with --adaptive the smaller sizes are loaded now
            job = Run(
                work.segmenter, work.sources, work.sinks, options=work.options, observers=observers, stop=stop
            )
        failure = _execute(job)
    report = job.report()
    if failure is None:
        show(report, arguments.json, tables=not printing)
        _raise_what_failed(report, work.sinks, stop)
    else:
        _show_after(failure, report, arguments.json, tables=not printing)
        raise failure


def _execute(job: Run) -> PixelRTError | BrokenPipeError | None:
    """Run; what breaks is returned, so that the figures are shown first."""
    try:
        job.execute()
    except (PixelRTError, BrokenPipeError) as problem:
        return problem
    return None


def _show_after(failure: Exception, report: RunReport, json_file: str | None, *, tables: bool) -> None:
    """Show the figures after a failure, which is told also where they cannot be shown."""
    was_left = isinstance(failure, BrokenPipeError)
    try:
        show(report, json_file, tables=tables, failed=not was_left)
    except (SinkError, BrokenPipeError) as problem:
        if not was_left and str(problem) != str(failure):
            complain(f"error: {problem}")


def _raise_what_failed(report: RunReport, sinks: Sequence[Sink], stop: Stop) -> None:
    from pixelrt.video.sinks.json_lines import StandardOutput

    gone = [sink.name for sink in sinks if isinstance(sink, StandardOutput) and sink.reader_is_gone]
    failed = [f"{sink.name}: {sink.failed}" for sink in report.sinks if sink.failed and sink.name not in gone]
    if failed:
        raise SinkError(f"results are missing in {'; '.join(failed)}")
    if gone:
        raise BrokenPipeError
    if advice := advice_on_deadline(report):
        if not report.frames and not stop():
            raise InputError(advice)
        complain(f"note: {advice}")


def _too_early(stop: Stop) -> int:
    complain("interrupted before the first frame; nothing was written")
    return stop.exit_code


def _open_sources(
    arguments: argparse.Namespace, play: Play, stop: Stop, opened: contextlib.ExitStack
) -> tuple[list[Source], list[SourceError]]:
    """All sources; a signal that comes meanwhile does not wait for a camera.

    Returns:
        Those that are there, and what is wrong with those that are not and are left out.

    Raises:
        SourceError: If one is not there and shall not be left out, or none is there.
    """
    sources: list[Source] = []
    missing: list[SourceError] = []
    try:
        with stop.at_once():
            for uri in arguments.sources:
                with _told(uri), _leaving_out(missing) if arguments.keep_going else contextlib.nullcontext():
                    sources.append(opened.enter_context(_open_source(uri, arguments, play)))
    except KeyboardInterrupt:
        if not stop():
            raise
    if missing and not sources and not stop():
        raise missing[0]
    return sources, missing


@contextlib.contextmanager
def _told(uri: str) -> Iterator[None]:
    """Say what is waited for, where a source takes long to open."""
    from pixelrt.video.sources.hiding import without_secrets

    telling = threading.Timer(_QUIET_S, complain, [f"waiting for {without_secrets(uri)}"])
    telling.daemon = True
    with running(telling, telling.cancel):
        yield


@contextlib.contextmanager
def _leaving_out(missing: list[SourceError]) -> Iterator[None]:
    """Say what is wrong with a source that is not there, and go on; one that is misspelt ends the command."""
    try:
        yield
    except MisspeltSource:
        raise
    except SourceError as problem:
        missing.append(problem)
        complain(f"warning: left out: {problem}")


def _open_source(uri: str, arguments: argparse.Namespace, play: Play) -> Source:
    from pixelrt.video.sources import DEFAULT_FPS, open_source
    from pixelrt.video.sources.opening import open_or_wait

    fps = DEFAULT_FPS if arguments.fps is None else arguments.fps
    again = partial(open_source, uri, labels=arguments.labels, fps=fps)
    if not arguments.keep_going:
        return play(again(), again)
    return play(open_or_wait(lambda wait: again(wait=wait), _tell_waiting), again)


def _tell_waiting(problem: SourceError) -> None:
    complain(f"warning: {problem}; it is waited for")


@contextlib.contextmanager
def _opened_sinks(
    arguments: argparse.Namespace, bundle: Bundle, head: Head, sources: Sequence[Source], outs: Sequence[str]
) -> Iterator[list[Sink]]:
    """Open all sinks; whatever is not finished at the end is given up."""
    from pixelrt.video.sinks import ContactSheet, open_sinks
    from pixelrt.video.sinks.places import per_source
    from pixelrt.video.sinks.routing import each_its_own

    sheets = [] if arguments.sheet is None else per_source(arguments.sheet, sources)
    check_written(arguments, outs, sheets, bundle, sources)
    with contextlib.ExitStack() as undo:
        others = [*sheets, *([] if arguments.json in (None, "-") else [arguments.json])]
        sinks = list(open_sinks(outs, *sources, num_frames=arguments.limit, others=others))
        for sink in sinks:
            undo.callback(_give_up, sink)
        if sheets:
            titles = [f"{bundle.manifest.name} on {name}" for name in _names(sources)]
            made = [
                ContactSheet(Path(file), head.classes, alpha=arguments.alpha, title=title)
                for file, title in zip(sheets, titles, strict=True)
            ]
            sinks += each_its_own(made, sources)  # of which nothing is written before they are closed
        yield sinks


def _give_up(sink: Sink) -> None:
    """Abort a sink; what goes wrong with that hides no error, and keeps no other sink from it."""
    from pixelrt.video.live.failing import Failing

    name = getattr(sink, "name", type(sink).__name__)
    with Failing(lambda problem: complain(f"warning: {name} cannot be given up: {problem}"), Exception):
        sink.abort()


def _title(segmenter: Segmenter, *, why: str = "") -> str:
    info = segmenter.session.info
    how = ", ".join([info.device, f"{info.precision}: {why}" if why else info.precision])
    return f"{segmenter.bundle.manifest.name} on {info.backend} {info.version} ({how})"


def _announce(segmenter: Segmenter, sources: Sequence[Source]) -> None:
    complain(_title(segmenter, why=segmenter.session.info.why))
    for name, source in zip(_names(sources), sources, strict=True):
        if not all(source.size):
            complain(f"{name}: waited for")
            continue
        rows, cols = source.size
        frames = "" if source.num_frames is None else f", {counted(source.num_frames, 'frame')}"
        nominally = "nominally " if source.live else ""  # not every camera says
        complain(f"{name}: {rows}x{cols}{frames}, {nominally}{source.fps:.6g} frames/s")


def _names(sources: Sequence[Source]) -> list[str]:
    """What the stream calls them."""
    from pixelrt.video.live.opening import unique

    return unique([source.name for source in sources])


def _metrics(arguments: argparse.Namespace) -> Iterator[MetricsServer]:
    """What will answer Prometheus, if anything does: its address is taken before anything takes long."""
    from pixelrt.video.live.metrics import MetricsServer

    if arguments.metrics is not None:
        yield MetricsServer(arguments.metrics)


@contextlib.contextmanager
def _measured(server: MetricsServer, segmenter: Segmenter, stream: StreamView) -> Iterator[None]:
    """Answer Prometheus meanwhile."""
    from pixelrt import __version__

    session = segmenter.session.info
    info = {
        "version": __version__,
        "bundle": segmenter.bundle.manifest.name,
        "backend": session.backend,
        "device": session.device,
        "precision": session.precision,
    }
    server.answer(stream, info)
    complain(f"metrics: {server.url}")
    with server:
        yield
