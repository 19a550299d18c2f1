"""`pixelrt run`: segments videos, images, cameras and drawn drives."""

from __future__ import annotations

import argparse
from typing import Any

from pixelrt.cli.live_options import ENDING, SINKS, SOURCES, add_live_options
from pixelrt.cli.live_run import run_live
from pixelrt.cli.stopping import stopping

_EPILOG = f"""\
{SOURCES}
{SINKS}
examples:
  pixelrt run engines/road-unet/bundle drive.mp4 --out overlay.mp4 --out masks/
  pixelrt run engines/road-unet/bundle 'test://drive?frames=300' --out drive.mp4 --sheet sheet.png
  pixelrt run engines/road-unet/bundle camvid/test --json figures.json
  pixelrt run engines/road-unet/bundle photo.jpg --out overlay.png
  pixelrt run engines/road-unet/bundle rtsp://front/live rtsp://rear/live --out '{{source}}.mp4'

{ENDING}"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "run",
        help="segment videos, images, cameras or a drawn drive",
        description="Run a segmentation bundle on the frames of one or several sources; write overlays and\n"
        "masks, and show where the time goes. With ground truth, measure mIoU.",
        epilog=_EPILOG,
    )
    add_live_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run, and show the figures.

    Returns:
        0; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.

    Raises:
        PixelRTError: If something cannot be opened, read or written.
    """
    # From here on, because a library that is interrupted while it is imported may swallow the Ctrl-C.
    with stopping() as stop:
        return run_live(arguments, stop)
