"""From a URI to its source."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pixelrt.errors import SourceError
from pixelrt.strict import suggestion
from pixelrt.video.sources.base import Source, check_fps
from pixelrt.video.sources.camera import Camera
from pixelrt.video.sources.drive import EXAMPLE, DriveSource
from pixelrt.video.sources.pictures import SUFFIXES, Pictures
from pixelrt.video.sources.video_file import VideoFile

DEFAULT_FPS = 25.0
"""Of folders, and of cameras and files that do not say."""

_KNOWN = f"a video file, an image, a folder of images, a camera (0, /dev/video0) or {EXAMPLE}"
_SCHEMES = ("test", "v4l2")


def open_source(
    uri: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    fps: float = DEFAULT_FPS,
) -> Source:
    """Open frames by their URI: a path, a camera's number, or `test://drive?...`.

    Args:
        uri: See `pixelrt.video.sources`. `./0` is a file of that name, `0` the first camera.
        labels: Folder of label PNGs, for an image or a folder of images.
        fps: Frames a second that a folder stands for, and of cameras and files that do not say;
            0.01 to 1000.

    Raises:
        SourceError: If there is nothing to open; the message says what is near.
        MissingDependency: If a library is needed that is not installed.
    """
    check_fps(fps)
    text = os.fspath(uri)
    label_folder = None if labels is None else Path(labels)
    source = _open_address(text, fps)
    if source is not None:
        if label_folder is not None:
            source.close()
            raise SourceError(
                f"labels were given, and {text} is no image or folder of images; leave them away"
            )
        return source
    return _open_path(text, label_folder, fps)


def _open_address(text: str, fps: float) -> Source | None:
    """A source that is no plain path; None for paths."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "test":
        kind, _, query = rest.partition("?")
        if kind != "drive":
            raise SourceError(f"{text}: no test source {kind!r}{suggestion(kind, ['drive'])}; try {EXAMPLE}")
        return DriveSource(query)
    if separator and re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) and scheme != "v4l2":
        hint = suggestion(scheme, list(_SCHEMES))
        raise SourceError(f"{text}: unknown scheme {scheme}://{hint}; expected {_KNOWN}")
    number = re.fullmatch(r"(?:(?:v4l2://)?/dev/video)?(\d+)", text)
    return Camera(int(number[1]), fps=fps) if number else None


def _open_path(text: str, labels: Path | None, fps: float) -> Source:
    if not text:
        raise SourceError(f"the source is empty; expected {_KNOWN}")
    path = Path(text)
    if not path.exists():
        raise SourceError(_missing(path))
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return Pictures(path, labels=labels, fps=fps)
    if not path.is_file():
        raise SourceError(f"{path} is neither a file nor a folder; expected {_KNOWN}")
    if labels is not None:
        raise SourceError(f"labels were given, and {path} is no image or folder of images; leave them away")
    return VideoFile(path, fps=fps)


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        present = next(parent for parent in folder.parents if parent.is_dir())
        return f"{path} does not exist: there is no folder {folder}; {present} exists"
    hint = suggestion(path.name, [item.name for item in folder.iterdir()])
    return f"{path} does not exist{hint}; expected {_KNOWN}"
