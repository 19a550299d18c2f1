"""What `run` and `serve` have in common: where frames come from, where results go, and how live they are."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pixelrt.cli.options import add_machine_options, count, rate, seconds, share

if TYPE_CHECKING:
    from pixelrt.video.live.metrics import Place
    from pixelrt.video.run import RunOptions

SOURCES = """\
SOURCE (several run in one loop):
  drive.mp4            a video file (MP4, MKV, AVI, MPEG-TS, ...)
  photo.png, photos/   an image, a folder of images; with images/ and labels/ in it (CamVid layout)
                       mIoU is measured
  0, /dev/video0       a camera; v4l2:///dev/video0?size=720x1280&fps=30 (size is height x width)
  rtsp://camera/live   a network camera, also http, https, udp, tcp and rtmp; srt where FFmpeg has it
  csi://0, gst://...   a camera on a Jetson's ribbon, any GStreamer pipeline
  drive.mcap           a recording: MCAP, ROS 2 or ROS 1 bag; drive.mcap?topic=/camera/image_raw
  test://drive?frames=300&size=720x1280&seed=7
                       a drawn drive with exact ground truth
Every user of this machine sees a command line (`ps`): where it would hold a password or a token, write its
arguments into a file, one a line, and give that as @FILE.
"""

SINKS = """\
OUT (may be repeated; {time} in it stands for the start; with several sources {source} stands for each name,
but is refused where one OUT holds all of them: .mcap, .rrd, .jsonl and what is no file):
  out.mp4              the frames with the classes drawn over them (.mp4, .mov, .mkv);
                       out-{time}.mp4?segment=600&keep=yes begins a new file every ten minutes
  out.png              the overlay of a single frame
  masks/               a PNG of class ids per frame, at the frame's size; mind the slash
  results.npz/         every output of every frame, for NumPy
  out.mcap, out.rrd    pictures, masks, shares and ages for Foxglove, for the Rerun viewer (or rerun://)
  out.jsonl, -         a JSON object per frame: times, ages, shares; - is standard output
  web://:8080          the live page, for this machine; web://0.0.0.0:8080 for others, with a token
  systemd:             nothing, but tells systemd that results come (Type=notify, WatchdogSec=)
  null:                nothing, for measuring
A file that is there is replaced when the run ends; a recording of a camera, or with segment= or keep=yes,
replaces nothing and goes on as out-2.mp4, out-3.mp4, ...

"""

ENDING = """\
Ctrl-C ends the run after the frames on their way: the files are complete up to there, the figures are
shown, and the exit code is 130; SIGTERM does the same with 143, and a terminal that goes (SIGHUP) with 129.
A source that breaks does the same with exit code 1. Where an OUT fails, a run of files ends, and a live one
goes on without it; the exit code is 1. It is 1 as well where the deadline dropped every result. Where whoever
reads standard output goes, a run of files ends at once, and a live one goes on as long as it has another OUT
or the page; the exit code is 141.
"""


def add_live_options(parser: argparse.ArgumentParser) -> None:
    """Add the bundle, the sources and all options but those of one command."""
    parser.add_argument("bundle", metavar="BUNDLE", help="the folder that `pixelrt export` wrote")
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="where frames come from (below)")
    _add_results(parser)
    _add_loop(parser)
    add_machine_options(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("frames and results")
    group.add_argument(
        "--out",
        metavar="OUT",
        action="append",
        default=[],
        help="where results go (below), repeatable; without it nothing is kept but the figures",
    )
    group.add_argument("--sheet", metavar="FILE", help="write a contact sheet of overlays, such as sheet.png")
    group.add_argument(
        "--json", metavar="FILE", help="write all figures as JSON; `-` for standard output, without tables"
    )
    group.add_argument(
        "--limit",
        metavar="N",
        type=count,
        help="stop after N frames of each source; those that are dropped count, so results may be fewer",
    )
    group.add_argument("--labels", metavar="DIR", help="folder of label PNGs for a folder of images")
    group.add_argument("--head", metavar="NAME", help="head to draw, write and score (default: the first)")
    group.add_argument(
        "--alpha", type=share, default=0.5, help="weight of the classes' colours, 0..1 (default: 0.5)"
    )
    group.add_argument("--no-legend", action="store_true", help="draw no class names into overlays")
    group.add_argument(
        "--fps",
        type=rate,
        help="frames a second of a folder, or of a source that does not say (default: 25)",
    )


def _add_loop(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the loop")
    group.add_argument(
        "--policy",
        choices=("latest", "all"),
        help="latest: compute the newest frame, drop those that it replaced; all: compute every frame, in "
        "order (default: latest for live sources, all for files)",
    )
    group.add_argument(
        "--deadline", metavar="SECONDS", type=seconds, help="drop results whose frame is older than this"
    )
    group.add_argument(
        "--adaptive",
        action="store_true",
        help="take a smaller input size under load, of a bundle that has several",
    )
    group.add_argument(
        "--keep-going",
        action="store_true",
        help="go on with the other sources when one fails, or is not there at the start",
    )
    group.add_argument(
        "--watchdog", metavar="SECONDS", type=seconds, help="warn when no result came for so long"
    )
    group.add_argument(
        "--log",
        metavar="SECONDS",
        type=seconds,
        help="write a line with the statistics to standard error so often, and at the end",
    )
    group.add_argument(
        "--metrics",
        metavar="[HOST]:PORT",
        type=_place,
        help="answer Prometheus there; :9090 is for this machine alone, 0.0.0.0:9090 for others",
    )


def _place(text: str) -> Place:
    """Where to answer Prometheus.

    Raises:
        argparse.ArgumentTypeError: If it is no address.
    """
    from pixelrt.errors import InputError
    from pixelrt.video.live.metrics import Place

    try:
        return Place.parse(text)
    except InputError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem


def run_options(arguments: argparse.Namespace) -> RunOptions:
    """What was asked for.

    Raises:
        InputError: If a value cannot be used.
    """
    from pixelrt.video.run import RunOptions

    return RunOptions(
        alpha=arguments.alpha,
        legend=not arguments.no_legend,
        limit=arguments.limit,
        head=arguments.head,
        policy=arguments.policy,
        deadline=arguments.deadline,
        adaptive=arguments.adaptive,
        watchdog=arguments.watchdog,
        keep_going=arguments.keep_going,
        log=arguments.log,
    )
