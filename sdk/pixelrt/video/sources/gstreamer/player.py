"""What plays a pipeline."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

from pixelrt.errors import MissingDependency
from pixelrt.manifest import ColorOrder
from pixelrt.video.frame import Bytes
from pixelrt.video.sources.gstreamer.texts import INSTALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of a pipeline."""

    image: Bytes
    """uint8[H, W, 3], which nobody else has."""
    color: ColorOrder
    time_s: float | None
    """By the pipeline's own count, from its beginning; None where it has none."""
    captured_s: float | None
    """The same by `time.monotonic`; None where the pipeline has another clock."""


class Player(Protocol):
    """A pipeline that plays."""

    live: bool
    """Whether pictures come at their own time."""
    tells_end: bool
    """Whether it tells its end from a failure."""
    fps: float | None
    """Nominal; None where nobody says, and before the first picture."""
    lost: int
    """Pictures that were there and were replaced by newer ones before anybody took them."""

    def pull(self, look_s: float) -> Picture | None:
        """The next picture.

        Args:
            look_s: How long to wait for it.

        Returns:
            None if none came in that time, or at the end.

        Raises:
            SourceError: If the pipeline failed.
        """

    @property
    def ended(self) -> bool:
        """Whether there are no more."""

    def close(self) -> None:
        """Stop, and give back what is held."""


def open_player(pipeline: str, color: ColorOrder) -> Player:
    """Play a pipeline through what this machine has.

    Args:
        pipeline: As `gst-launch-1.0` has it; where it has no appsink, one is put at its end.
        color: Order of the channels that is wanted.

    Raises:
        SourceError: If it is no pipeline, or it does not start.
        MissingDependency: If there is no GStreamer that Python can reach.
    """
    without = _no_gobject()
    if not without:
        from pixelrt.video.sources.gstreamer.gobject import GObjectPlayer

        return GObjectPlayer(pipeline, color)
    no_opencv = _no_opencv()
    if not no_opencv:
        from pixelrt.video.sources.gstreamer.opencv import OpenCvPlayer

        return OpenCvPlayer(pipeline, color)
    raise MissingDependency(
        f"GStreamer is needed, through PyGObject ({without}) or OpenCV ({no_opencv}); on JetPack, Ubuntu and "
        f"Debian: {INSTALL}, and a virtual environment made with python3 -m venv --system-site-packages, or "
        "with PyGObject in it: pip install PyGObject"
    )


def tells_end() -> bool:
    """Whether what plays pipelines on this machine tells their end from a failure."""
    return not _no_gobject()


def describe_gstreamer() -> str:
    """Which GStreamer `csi://` and `gst://` would play through, or why none."""
    if not (without := _no_gobject()):
        from pixelrt.video.sources.gstreamer.gobject import load_gstreamer

        return f"{load_gstreamer().version_string()}, through PyGObject"
    if not (no_opencv := _no_opencv()):
        return f"through OpenCV, which says less; PyGObject: {without}"
    return f"not usable for csi:// and gst://; PyGObject: {without}; OpenCV: {no_opencv}"


def _no_gobject() -> str:
    """Why PyGObject cannot be used; empty if it can."""
    try:
        importlib.import_module("gi").require_version("Gst", "1.0")
    except ImportError as problem:
        return f"it cannot be imported: {problem}"
    except ValueError as problem:
        return f"it does not find GStreamer: {problem}"
    return ""


def _no_opencv() -> str:
    """Why OpenCV cannot be used; empty if it can."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as problem:
        return f"it cannot be imported: {problem}"
    lines = (line.split(":") for line in cv2.getBuildInformation().splitlines() if "GStreamer" in line)
    built = any("YES" in line[-1] for line in lines)
    return "" if built else "it was built without; the wheels of PyPI are"
