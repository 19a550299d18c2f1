"""`pixelrt run`: segments a video, images, a camera or a drawn drive."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelrt.bundle import Bundle
from pixelrt.cli.options import add_machine_options, machine_options
from pixelrt.cli.places import check_outside
from pixelrt.cli.stopping import Stop, stopping
from pixelrt.cli.wording import counted, say_times
from pixelrt.errors import SourceError
from pixelrt.progress import showing_progress
from pixelrt.terminal import complain, heading, say, say_table

if TYPE_CHECKING:
    from pixelrt.segmentation import Segmenter
    from pixelrt.video.report import RunReport
    from pixelrt.video.run import Progress, Run
    from pixelrt.video.sinks import Sink
    from pixelrt.video.sources import Source

_EPILOG = """\
SOURCE:
  drive.mp4            a video file (MP4, MKV, AVI, MPEG-TS, ...)
  photo.png            an image
  photos/              a folder of images; with images/ and labels/ in it (CamVid layout) mIoU is measured
  0, /dev/video0       a camera
  test://drive?frames=300&size=720x1280&seed=7
                       a drawn drive with exact ground truth (size is height x width)

OUT (may be repeated):
  out.mp4              the frames with the classes drawn over them (.mp4, .mov, .mkv)
  masks/               a PNG of class ids per frame, at the frame's size; mind the slash
  out.png              the overlay of a single frame
  null:                nothing, for measuring

examples:
  pixelrt run engines/road-unet/bundle drive.mp4 --out overlay.mp4 --out masks/
  pixelrt run engines/road-unet/bundle 'test://drive?frames=300' --out drive.mp4 --sheet sheet.png
  pixelrt run engines/road-unet/bundle camvid/test --json figures.json
  pixelrt run engines/road-unet/bundle photo.jpg --out overlay.png

Ctrl-C ends the run after the current frame: the files are complete up to there, the table is shown,
and the exit code is 130. A source that breaks does the same with exit code 1.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "run",
        help="segment a video, images, a camera or a drawn drive",
        description="Run a segmentation bundle on every frame of a source; write overlays and masks, and\n"
        "show where the time goes. With ground truth, measure mIoU.",
        epilog=_EPILOG,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="the folder that `pixelrt export` wrote")
    parser.add_argument("source", metavar="SOURCE", help="where frames come from (below)")
    _add_outputs(parser)
    add_machine_options(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("frames and results")
    group.add_argument(
        "--out", metavar="OUT", action="append", default=[], help="where results go (below); repeatable"
    )
    group.add_argument("--sheet", metavar="FILE", help="write a contact sheet of overlays, such as sheet.png")
    group.add_argument(
        "--json", metavar="FILE", help="write all figures as JSON; `-` for standard output, without tables"
    )
    group.add_argument("--limit", metavar="N", type=int, help="stop after N frames")
    group.add_argument("--labels", metavar="DIR", help="folder of label PNGs for a folder of images")
    group.add_argument("--head", metavar="NAME", help="head to draw, write and score (default: the first)")
    group.add_argument(
        "--alpha", type=float, default=0.5, help="weight of the classes' colours, 0..1 (default: 0.5)"
    )
    group.add_argument("--no-legend", action="store_true", help="draw no class names into overlays")
    group.add_argument(
        "--fps",
        type=float,
        help="frames a second of a folder, or of a source that does not say (default: 25)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run, and show the figures.

    Returns:
        0; 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        PixelRTError: If something cannot be opened, read or written.
    """
    # From here on, because a library that is interrupted while it is imported may swallow the Ctrl-C.
    with stopping() as stop:
        return _run(arguments, stop)


def _run(arguments: argparse.Namespace, stop: Stop) -> int:
    from pixelrt.encoding import temporary_for
    from pixelrt.loading import load
    from pixelrt.video.run import Run, RunOptions, check_channels
    from pixelrt.video.sinks import check_places
    from pixelrt.video.sources import DEFAULT_FPS, open_source

    options = RunOptions(
        alpha=arguments.alpha,
        legend=not arguments.no_legend,
        limit=arguments.limit,
        head=arguments.head,
    )
    bundle = Bundle.open(arguments.bundle)
    check_channels(bundle)
    check_outside(bundle, _places(arguments))
    if arguments.json not in (None, "-"):
        temporary_for(Path(arguments.json))
    fps = DEFAULT_FPS if arguments.fps is None else arguments.fps
    with open_source(arguments.source, labels=arguments.labels, fps=fps) as source:
        check_places(_places(arguments), source)
        segmenter = load(bundle, color="rgb", **machine_options(arguments))
        if stop():
            segmenter.close()
            complain("interrupted before the first frame; nothing was written")
            return stop.exit_code
        with segmenter, _open_sinks(arguments, segmenter, source) as sinks:
            _announce(segmenter, source)
            with showing_progress() as show:

                def progress(now: Progress) -> None:
                    show("frames", now.frames, now.total, f"{now.fps:.1f} frames/s, p50 {now.p50_ms:.1f} ms")

                job = Run(segmenter, source, sinks, options=options, progress=progress, stop=stop)
                failure = _execute(job)
            report = job.report()
            _show(report, arguments.json)
            if failure is not None:
                raise failure
            return stop.exit_code


def _places(arguments: argparse.Namespace) -> list[str]:
    """Everything that will be written."""
    others = [place for place in (arguments.sheet, arguments.json) if place not in (None, "-")]
    return [*arguments.out, *others]


def _execute(job: Run) -> SourceError | None:
    """Run; a source that breaks is returned, so that the figures are shown first."""
    try:
        job.execute()
    except SourceError as problem:
        return problem
    return None


@contextlib.contextmanager
def _open_sinks(arguments: argparse.Namespace, segmenter: Segmenter, source: Source) -> Iterator[list[Sink]]:
    """Open all sinks; whatever is not finished at the end is given up."""
    from pixelrt.video.run import pick_head
    from pixelrt.video.sinks import ContactSheet, open_sinks

    sinks: list[Sink] = []
    try:
        if arguments.sheet is not None:
            head = pick_head(segmenter, arguments.head)
            title = f"{segmenter.bundle.manifest.name} on {source.name}"
            sinks.append(
                ContactSheet(Path(arguments.sheet), head.classes, alpha=arguments.alpha, title=title)
            )
        sinks[:0] = open_sinks(arguments.out, source, num_frames=arguments.limit)
        yield sinks
    finally:
        for sink in sinks:
            sink.abort()


def _announce(segmenter: Segmenter, source: Source) -> None:
    info, (rows, cols) = segmenter.session.info, source.size
    frames = "" if source.num_frames is None else f", {counted(source.num_frames, 'frame')}"
    name = segmenter.bundle.manifest.name
    complain(f"{name} on {info.backend} {info.version} ({info.device}, {info.precision}: {info.why})")
    complain(f"{source.name}: {rows}x{cols}{frames}, {source.fps:.6g} frames/s")


def _show(report: RunReport, json_file: str | None) -> None:
    from pixelrt.encoding import write_whole

    if json_file == "-":
        sys.stdout.write(report.to_json())
        return
    if json_file is not None:
        write_whole(Path(json_file), report.to_json().encode())
    _show_times(report)
    _show_classes(report)
    _show_files([*report.outputs, *([json_file] if json_file else [])])


def _show_times(report: RunReport) -> None:
    rows, cols = report.frame_size
    ended = ", then interrupted" if report.interrupted else ""
    say(
        f"{counted(report.frames, 'frame')} of {rows}x{cols} in {report.seconds:.1f} s: "
        f"{report.fps:.1f} frames/s with everything in it{ended}"
    )
    if not report.stages:
        return
    heading("Milliseconds per frame")
    say_times(report.stages)


def _show_classes(report: RunReport) -> None:
    if not report.frames:
        return
    heading(f"Classes of head {report.head}")
    if report.accuracy is None:
        say_table(("class", ">share"), [(name, f"{share:.1%}") for name, share in report.coverage.items()])
        if report.no_accuracy:
            say(f"no mIoU: {report.no_accuracy}")
        return
    iou = report.accuracy.iou
    say_table(
        ("class", ">share", ">IoU"),
        [(name, f"{share:.1%}", _share_text(iou[name])) for name, share in report.coverage.items()],
    )
    say(
        f"mIoU {_share_text(report.accuracy.miou)}, "
        f"right pixels {_share_text(report.accuracy.pixel_accuracy)} (of those with a label)"
    )


def _share_text(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _show_files(files: list[str]) -> None:
    if files:
        heading("Written")
        for file in files:
            say(f"  {file}")
