"""From a URI to its source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from pixelrt.errors import MisspeltSource, SourceError, UnusableSource
from pixelrt.manifest import ColorOrder
from pixelrt.strict import suggestion
from pixelrt.video.sources.address import scheme_of
from pixelrt.video.sources.bags import is_bag, open_bag
from pixelrt.video.sources.base import DEFAULT_FPS, Source, SourceOptions
from pixelrt.video.sources.camera import PLACES, open_camera
from pixelrt.video.sources.drive import EXAMPLE, open_test
from pixelrt.video.sources.gstreamer.source import open_csi, open_pipeline
from pixelrt.video.sources.hiding import without_secrets
from pixelrt.video.sources.missing import missing
from pixelrt.video.sources.network import SCHEMES, open_network
from pixelrt.video.sources.pictures import SUFFIXES, Pictures
from pixelrt.video.sources.video_file import VideoFile

_KNOWN = (
    "a video file, an image, a folder of images, a recording (.mcap, .bag, .db3), "
    "a camera (0, /dev/video0, csi://0, rtsp://...), a pipeline of GStreamer (gst://...) "
    f"or {EXAMPLE}"
)


Opener = Callable[[str, SourceOptions], Source]

_OPENERS: dict[str, Opener] = {
    "bag": open_bag,
    "csi": open_csi,
    "gst": open_pipeline,
    "test": open_test,
    "v4l2": open_camera,
    **dict.fromkeys(SCHEMES, open_network),
}
"""By scheme, without `://`. An opener gets the whole URI."""


def open_source(
    uri: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    fps: float = DEFAULT_FPS,
    color: ColorOrder = "rgb",
    wait: bool = False,
) -> Source:
    """Open frames by their URI: a path, a camera's number, or `scheme://...`.

    Args:
        uri: See `pixelrt.video.sources`. `./0` is a file of that name, `0` the first camera.
        labels: Folder of label PNGs, for an image or a folder of images.
        fps: Frames a second that a folder stands for, and of cameras and files that do not say;
            0.01 to 1000.
        color: Order of the channels of the frames, `rgb` or `bgr`.
        wait: Whether a camera that is not there yet is waited for, as by its option `wait=yes`: it is then
            opened by the iteration, and counts as live.

    Raises:
        SourceError: If there is nothing to open; the message says what is near.
        MissingDependency: If a library is needed that is not installed.
    """
    text = os.fsdecode(uri)
    options = SourceOptions(labels=None if labels is None else Path(labels), fps=fps, color=color, wait=wait)
    opener = _opener(text)
    if opener is None:
        try:
            return _open_path(text, options)
        except OSError as problem:  # of looking for it: its name is too long, its folder is not for this user
            raise SourceError(f"{without_secrets(text)} cannot be read ({problem.strerror})") from None
    if labels is not None:
        raise SourceError(
            f"labels were given, and {without_secrets(text)} is no image or folder of images; leave them away"
        )
    return opener(text, options)


def open_or_wait(
    opener: Callable[[bool], Source], on_wait: Callable[[SourceError], None] = lambda _: None
) -> Source:
    """Open a source now; a camera that is not there is opened by the iteration, as soon as it is.

    Args:
        opener: Opens it; asked with whether a camera that is not there is waited for.
        on_wait: Told why one is waited for.

    Raises:
        SourceError: If it cannot be opened, and waiting cannot help.
    """
    try:
        return opener(False)
    except UnusableSource:
        raise
    except SourceError as problem:
        away = problem
    source = opener(True)  # where nothing can be waited for this fails as before
    on_wait(away)
    return source


def _opener(text: str) -> Opener | None:
    """What opens an address; None for paths."""
    if re.fullmatch(PLACES, text):
        return open_camera
    scheme = scheme_of(text)
    if scheme is None:
        return None
    if scheme == "file":
        raise MisspeltSource(f"{text}: files have no scheme; give the path alone, {text[len('file://') :]}")
    if scheme not in _OPENERS:
        hint = suggestion(scheme, list(_OPENERS))
        raise MisspeltSource(f"{without_secrets(text)}: unknown scheme {scheme}://{hint}; expected {_KNOWN}")
    return _OPENERS[scheme]


def _open_path(text: str, options: SourceOptions) -> Source:
    if not text:
        raise MisspeltSource(f"the source is empty; expected {_KNOWN}")
    path = Path(text)
    if is_bag(text):
        return open_bag(text, options)
    if not path.exists():
        raise SourceError(missing(text, list(_OPENERS), _KNOWN))
    if path.suffix.lower() == ".rrd":
        raise SourceError(
            f"{path} is a recording for Rerun's viewer, from which no frames can be read; "
            f"record {path.stem}.mcap to play frames again"
        )
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return Pictures(path, labels=options.labels, fps=options.fps, color=options.color)
    if not path.is_file():
        raise SourceError(f"{path} is neither a file nor a folder; expected {_KNOWN}")
    if options.labels is not None:
        raise SourceError(f"labels were given, and {path} is no image or folder of images; leave them away")
    return VideoFile(path, fps=options.fps, color=options.color)
