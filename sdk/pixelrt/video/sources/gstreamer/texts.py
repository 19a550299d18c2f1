"""Pipelines as `gst-launch-1.0` has them, and GStreamer's errors in words that help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pixelrt.manifest import ColorOrder

SINK = "pixelrt"
"""The name of our appsink."""
FLIPS = {
    "none": 0,
    "counterclockwise": 1,
    "rotate-180": 2,
    "clockwise": 3,
    "horizontal-flip": 4,
    "upper-right-diagonal": 5,
    "vertical-flip": 6,
    "upper-left-diagonal": 7,
}
"""`flip-method` of nvvidconv."""
INSTALL = "sudo apt install python3-gi gir1.2-gstreamer-1.0 gstreamer1.0-plugins-good"
_TEGRA = Path("/etc/nv_tegra_release")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsiOptions:
    """How a camera at a Jetson's CSI connector is read."""

    number: int = 0
    """`sensor-id`."""
    size: tuple[int, int] | None = None
    """Height and width of the sensor's picture, before it is turned; None: the sensor's first mode."""
    fps: float | None = None
    mode: int | None = None
    """`sensor-mode`; None: what fits size and rate."""
    flip: str = "none"
    """One of `FLIPS`."""


def csi_pipeline(options: CsiOptions) -> str:
    """From the sensor through the image processor to packed pixels; what turns it is no work for the CPU."""
    sensor = f"nvarguscamerasrc sensor-id={options.number}"
    if options.mode is not None:
        sensor += f" sensor-mode={options.mode}"
    caps = "video/x-raw(memory:NVMM),format=NV12"
    if options.size is not None:
        caps += f",width={options.size[1]},height={options.size[0]}"
    if options.fps is not None:
        rate = Fraction(options.fps).limit_denominator(1001)
        caps += f",framerate={rate.numerator}/{rate.denominator}"
    turn = f"nvvidconv flip-method={FLIPS[options.flip]}"
    return f"{sensor} ! {caps} ! {turn} ! video/x-raw,format=BGRx"


def has_sink(pipeline: str) -> bool:
    """Whether a pipeline has an appsink of its own."""
    return re.search(r"\bappsink\b", pipeline) is not None


def with_sink(pipeline: str, color: ColorOrder, settings: Mapping[str, str] | None = None) -> str:
    """A pipeline with what hands its pictures over, where it has nothing of its own.

    Args:
        pipeline: Its last element gives raw video.
        color: Order of the channels.
        settings: Properties of the appsink.
    """
    if has_sink(pipeline):
        return pipeline
    chosen = {"name": SINK, "sync": "false", **(settings or {})}
    sink = " ".join(f"{key}={value}" for key, value in chosen.items())
    end = f"videoconvert ! video/x-raw,format={color.upper()} ! appsink {sink}"
    return f"{pipeline.strip().rstrip('!').strip()} ! {end}"


def explained(message: str) -> str:
    """An error of GStreamer, with what to do where that is known."""
    missing = re.search(r"no element \"([^\"]+)\"", message)
    if missing:
        return f"{message}; {_missing(missing[1])}"
    if "not-negotiated" in message or "could not link" in message:
        return (
            f"{message}; each element must take what the one before it gives, and the last one must give raw "
            "video (no sink): videoconvert changes pixels, decodebin decodes"
        )
    return message


def _missing(element: str) -> str:
    if element in ("nvarguscamerasrc", "nvvidconv") or element.startswith("nvv4l2"):
        if not _TEGRA.exists():
            return f"{element} is part of JetPack, and this machine is no Jetson"
        return (
            f"{element} is part of JetPack: sudo apt install nvidia-l4t-gstreamer; "
            "a container needs NVIDIA's runtime"
        )
    return (
        f"gst-inspect-1.0 {element} says whether it is there; "
        "it may be in gstreamer1.0-plugins-base, -good, -bad, -ugly or gstreamer1.0-libav"
    )
