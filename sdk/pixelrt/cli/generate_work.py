"""What `pixelrt generate` does, once its arguments are read."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pixelrt.bundle import Bundle
from pixelrt.cli.generate_files import MadeWriter, open_writer
from pixelrt.cli.generate_inputs import Inputs, opened_inputs
from pixelrt.cli.generate_options import check_options
from pixelrt.cli.generate_plan import Plan, making, planned
from pixelrt.cli.generate_run import GenerateReport, Production
from pixelrt.cli.options import machine_options
from pixelrt.cli.places import check_outside
from pixelrt.cli.stopping import INTERRUPTED_LOAD, Stop
from pixelrt.cli.wording import counted, say_times
from pixelrt.encoding import temporary_for, write_whole
from pixelrt.errors import SourceError
from pixelrt.generation import Generator
from pixelrt.loading import load
from pixelrt.progress import showing_progress
from pixelrt.terminal import complain, heading, say
from pixelrt.video.sinks.places import check_places


def generate(arguments: argparse.Namespace, stop: Stop) -> int:
    """Do what the arguments say.

    Args:
        arguments: Those of the command.
        stop: Whether a signal asked the run to end.

    Returns:
        The exit code.

    Raises:
        PixelRTError: If something cannot be opened, made or written.
    """
    bundle = Bundle.open(arguments.bundle)
    check_options(arguments, bundle.generation)
    if arguments.json not in (None, "-"):
        temporary_for(Path(arguments.json))
    with opened_inputs(arguments, bundle.generation) as inputs:
        places = [place for place in (arguments.out, arguments.json) if place not in (None, "-")]
        check_outside(bundle, places)
        check_places(places, *inputs.sources)
        plan = planned(arguments, bundle.generation, inputs)
        writer = open_writer(arguments, bundle.generation, inputs, plan.total)
        with stop.answering(INTERRUPTED_LOAD):
            loaded = load(bundle, task="generation", color="rgb", **machine_options(arguments))
        with loaded as generator:
            if stop():
                complain("interrupted before the first image; nothing was written")
                return stop.exit_code
            _announce(generator, inputs)
            job, failure = _produced(generator, plan, inputs, writer, stop)
            report = job.report(inputs.names, interrupted=stop() or failure is not None)
    if failure is not None and not report.images:
        raise failure
    _show(report, writer, arguments.json)
    if failure is not None:
        raise failure
    return stop.exit_code


def _produced(
    generator: Generator, plan: Plan, inputs: Inputs, writer: MadeWriter, stop: Stop
) -> tuple[Production, SourceError | None]:
    """Run; a source that breaks is returned, so that the figures are shown first."""
    with showing_progress() as show:

        def progress(done: int, per_s: float) -> None:
            show("images", done, plan.total, f"{per_s:.1f} images/s")

        job = Production(generator, making(plan, generator, inputs), writer, progress=progress, stop=stop)
        try:
            job.execute()
        except SourceError as problem:
            return job, problem
    return job, None


def _announce(generator: Generator, inputs: Inputs) -> None:
    info, name = generator.session.info, generator.bundle.manifest.name
    complain(f"{name} on {info.backend} {info.version} ({info.device}, {info.precision}: {info.why})")
    for source in inputs.sources:
        rows, cols = source.size
        frames = "" if source.num_frames is None else f", {counted(source.num_frames, 'frame')}"
        complain(f"{source.name}: {rows}x{cols}{frames}")


def _show(report: GenerateReport, writer: MadeWriter, json_file: str | None) -> None:
    text = json.dumps(report.plain(), indent=2, allow_nan=False) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
        return
    if json_file is not None:
        write_whole(Path(json_file), text.encode())
    rows, cols = report.image_size
    ended = ", then interrupted" if report.interrupted else ""
    say(
        f"{counted(report.images, 'image')} of {rows}x{cols} in {report.seconds:.2f} s: "
        f"{report.images_per_s:.1f} images/s with everything in it{ended}"
    )
    if report.stages:
        heading("Milliseconds per image")
        say_times(report.stages)
    files = [*report.outputs, *([json_file] if json_file else [])]
    if files:
        heading("Written")
        for file in files:
            say(f"  {file}")
    if writer.note:
        complain(writer.note)
