"""What `run` and `serve` do: open everything, run, show the figures, and close everything."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pixelrt.bundle import Bundle
from pixelrt.cli.display import displayed
from pixelrt.cli.live_options import run_options
from pixelrt.cli.live_report import show
from pixelrt.cli.options import machine_options
from pixelrt.cli.places import check_outside
from pixelrt.cli.stopping import Stop
from pixelrt.cli.wording import counted
from pixelrt.errors import InputError, SinkError, SourceError
from pixelrt.terminal import complain

if TYPE_CHECKING:
    from pixelrt.segmentation import Segmenter
    from pixelrt.video.live.metrics import MetricsServer
    from pixelrt.video.live.statistics import StreamView
    from pixelrt.video.report import RunReport
    from pixelrt.video.run import Run
    from pixelrt.video.sinks import Sink
    from pixelrt.video.sources import Source

Play: TypeAlias = "Callable[[Source, Callable[[], Source]], Source]"
"""What is made of an opened source; it may be opened again."""


def as_it_comes(source: Source, again: Callable[[], Source]) -> Source:
    """The source, as fast as it comes."""
    return source


def run_live(arguments: argparse.Namespace, stop: Stop, outs: Sequence[str], play: Play = as_it_comes) -> int:
    """Run, and show the figures.

    Args:
        arguments: Of `add_live_options`.
        stop: Whether a signal asked for the end.
        outs: URIs of the sinks.
        play: What is made of each source.

    Returns:
        0; 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        PixelRTError: If something cannot be opened, read or written.
    """
    from pixelrt.loading import load
    from pixelrt.video.run import Run, check_channels
    from pixelrt.video.sinks import prints

    options = run_options(arguments)
    bundle = Bundle.open(arguments.bundle)
    check_channels(bundle)
    with contextlib.ExitStack() as opened:
        metrics = [opened.enter_context(server) for server in _metrics(arguments)]
        sources = _open_sources(arguments, play, stop, opened)
        if stop():
            return _too_early(stop)
        sheets = _sheets(arguments, sources)
        _check_places(arguments, [*outs], sheets, bundle, sources)
        segmenter = opened.enter_context(load(bundle, color="rgb", **machine_options(arguments)))
        if stop():
            return _too_early(stop)
        sinks = opened.enter_context(_opened_sinks(arguments, segmenter, sources, outs, sheets))
        _announce(segmenter, sources)
        views = [partial(_measured, server, segmenter) for server in metrics]
        plain = prints(outs) and sys.stdout.isatty()
        with displayed(sources, _title(segmenter), views, plain=plain) as observers:
            job = Run(segmenter, sources, sinks, options=options, observers=observers, stop=stop)
            failure = _execute(job)
        report = job.report()
        show(report, arguments.json, tables=not prints(outs))
        _raise_what_failed(report, failure, sinks)
        return stop.exit_code


def _raise_what_failed(report: RunReport, failure: SourceError | None, sinks: Sequence[Sink]) -> None:
    from pixelrt.video.sinks.json_lines import StandardOutput

    if failure is not None:
        raise failure
    gone = [sink.name for sink in sinks if isinstance(sink, StandardOutput) and sink.reader_is_gone]
    failed = [f"{sink.name}: {sink.failed}" for sink in report.sinks if sink.failed and sink.name not in gone]
    if failed:
        raise SinkError(f"results are missing in {'; '.join(failed)}")
    if gone:
        raise BrokenPipeError


def _too_early(stop: Stop) -> int:
    complain("interrupted before the first frame; nothing was written")
    return stop.exit_code


def _open_sources(
    arguments: argparse.Namespace, play: Play, stop: Stop, opened: contextlib.ExitStack
) -> list[Source]:
    """All sources; none where a signal comes meanwhile, which does not wait for a camera."""
    try:
        with stop.at_once():
            return [opened.enter_context(source) for source in _sources(arguments, play)]
    except KeyboardInterrupt:
        if not stop():
            raise
        return []


def _sources(arguments: argparse.Namespace, play: Play) -> Iterator[Source]:
    from pixelrt.video.sources import DEFAULT_FPS, open_source

    fps = DEFAULT_FPS if arguments.fps is None else arguments.fps
    if arguments.labels is not None and len(arguments.sources) > 1:
        raise InputError(
            f"labels belong to one source, and there are {len(arguments.sources)}; run them one by one"
        )
    for uri in arguments.sources:
        again = partial(open_source, uri, labels=arguments.labels, fps=fps)
        yield play(again(), again)


def _sheets(arguments: argparse.Namespace, sources: Sequence[Source]) -> list[str]:
    from pixelrt.video.sinks.places import per_source

    return [] if arguments.sheet is None else per_source(arguments.sheet, sources)


def _check_places(
    arguments: argparse.Namespace,
    outs: Sequence[str],
    sheets: Sequence[str],
    bundle: Bundle,
    sources: Sequence[Source],
) -> None:
    """Refuse places that are read, or are in the bundle, before anything takes long."""
    from pixelrt.encoding import temporary_for
    from pixelrt.video.sinks import check_places, prints, written_by

    if prints(outs) and arguments.json == "-":
        raise InputError("standard output cannot hold both results and --json; write one into a file")
    files = [] if arguments.json in (None, "-") else [arguments.json]
    places = [*written_by(outs, *sources), *sheets, *files]
    check_outside(bundle, places)
    check_places(places, *sources)
    for file in files:
        temporary_for(Path(file))


@contextlib.contextmanager
def _opened_sinks(
    arguments: argparse.Namespace,
    segmenter: Segmenter,
    sources: Sequence[Source],
    outs: Sequence[str],
    sheets: Sequence[str],
) -> Iterator[list[Sink]]:
    """Open all sinks; whatever is not finished at the end is given up."""
    from pixelrt.video.run import pick_head
    from pixelrt.video.sinks import ContactSheet, open_sinks
    from pixelrt.video.sinks.routing import each_its_own

    sinks: list[Sink] = []
    try:
        sinks += open_sinks(outs, *sources, num_frames=arguments.limit)
        if sheets:
            head = pick_head(segmenter, arguments.head)
            titles = [f"{segmenter.bundle.manifest.name} on {source.name}" for source in sources]
            made = [
                ContactSheet(Path(file), head.classes, alpha=arguments.alpha, title=title)
                for file, title in zip(sheets, titles, strict=True)
            ]
            sinks += each_its_own(made, sources)
        yield sinks
    finally:
        for sink in sinks:
            sink.abort()


def _title(segmenter: Segmenter) -> str:
    info = segmenter.session.info
    return (
        f"{segmenter.bundle.manifest.name} on {info.backend} {info.version} ({info.device}, {info.precision})"
    )


def _announce(segmenter: Segmenter, sources: Sequence[Source]) -> None:
    info = segmenter.session.info
    name = segmenter.bundle.manifest.name
    complain(f"{name} on {info.backend} {info.version} ({info.device}, {info.precision}: {info.why})")
    for source in sources:
        rows, cols = source.size
        frames = "" if source.num_frames is None else f", {counted(source.num_frames, 'frame')}"
        complain(f"{source.name}: {rows}x{cols}{frames}, {source.fps:.6g} frames/s")


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


def _execute(job: Run) -> SourceError | None:
    """Run; a source that breaks is returned, so that the figures are shown first."""
    try:
        job.execute()
    except SourceError as problem:
        return problem
    return None
