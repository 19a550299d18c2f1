"""`pixelrt serve`: `run` with the live page."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pixelrt.cli.live_options import ENDING, SINKS, SOURCES, add_live_options
from pixelrt.cli.live_run import run_live
from pixelrt.cli.options import port
from pixelrt.cli.stopping import stopping

if TYPE_CHECKING:
    from pixelrt.bundle import Bundle
    from pixelrt.video.sources import Source

_EPILOG = f"""\
The page is for this machine alone; --host 0.0.0.0 serves it to others, who need the token in the address
that is shown. Files, folders and drawn drives are played at their own rate, as a camera would.

{SOURCES}
{SINKS}
examples:
  pixelrt serve engines/road-unet/bundle 0
  pixelrt serve engines/road-unet/bundle drive.mp4 --loop
  pixelrt serve engines/road-unet/bundle rtsp://front/live rtsp://rear/live --host 0.0.0.0 --metrics :9090

{ENDING}"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "serve",
        help="segment cameras or videos and show them on a live page",
        description="Run a segmentation bundle on the frames of one or several sources, as `pixelrt run`\n"
        "does, and show cameras, overlays, latency and health on a page for any browser.",
        epilog=_EPILOG,
    )
    group = parser.add_argument_group("the page")
    group.add_argument("--host", default="127.0.0.1", help="address to serve on (default: 127.0.0.1)")
    group.add_argument("--port", type=port, default=8080, help="0 for any that is free (default: 8080)")
    group.add_argument(
        "--token",
        type=_token,
        help="what viewers must know, 12 characters or more (default: a new one, where others can connect)",
    )
    group.add_argument("--loop", action="store_true", help="play files again and again")
    add_live_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until the sources end, or Ctrl-C.

    Returns:
        0; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.

    Raises:
        PixelRTError: If something cannot be opened, read, written or served.
    """
    with stopping() as stop:
        return run_live(arguments, stop, _with_page, partial(_at_its_rate, arguments.loop))


def _with_page(arguments: argparse.Namespace, bundle: Bundle) -> list[str]:
    """The URIs of the page, which is named after the bundle, and of the sinks that were asked for."""
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    options = {"title": bundle.manifest.name}
    if arguments.token is not None:
        options["token"] = arguments.token
    return [f"web://{host}:{arguments.port}?{urlencode(options, quote_via=quote)}", *arguments.out]


def _token(text: str) -> str:
    """A token for viewers.

    Raises:
        argparse.ArgumentTypeError: If it could be guessed.
    """
    from pixelrt.errors import InputError
    from pixelrt.web.options import check_token

    try:
        check_token(text)
    except InputError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem
    return text


def _at_its_rate(loop: bool, source: Source, again: Callable[[], Source]) -> Source:
    """A source that is not live, played as if it were."""
    from pixelrt.video.sources.paced import Paced

    if source.live:
        return source
    return Paced(source, again if loop else None)
