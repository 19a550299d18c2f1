"""Encoders of H.264: those of the machine's hardware that really work, and those that always do."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import numpy as np

from pixelrt.dependency import require
from pixelrt.errors import SinkError
from pixelrt.strict import suggestion

AUTOMATIC, SOFTWARE = "auto", "software"
_PURPOSE = "writing video"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """How an encoder of FFmpeg is asked for good pictures at a small delay."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    prompt: dict[str, str] = field(default_factory=dict)
    """Options with which every picture is handed out at once, instead of after those that follow it."""

    is_hardware: bool = False
    bits_per_pixel: float = 0.0
    """For encoders that know a bit rate and no quality."""

    ticks_per_s: int = 90_000
    """The finest times that it can hold, about."""

    def bit_rate(self, size: tuple[int, int], fps: Fraction) -> int | None:
        """Bits a second for a size (height, width); None where the quality is constant."""
        return round(self.bits_per_pixel * size[0] * size[1] * fps) or None


ENCODERS = {
    encoder.name: encoder
    for encoder in (
        Encoder(
            name="h264_nvenc",
            options={"preset": "p4", "rc": "vbr", "cq": "23"},
            prompt={"zerolatency": "1", "delay": "0"},
            is_hardware=True,
        ),
        Encoder(name="h264_v4l2m2m", is_hardware=True, bits_per_pixel=0.12),
        Encoder(name="libx264", options={"preset": "veryfast", "crf": "20"}, prompt={"tune": "zerolatency"}),
        Encoder(name="mpeg4", options={"qscale": "3"}, ticks_per_s=65_535),
    )
}
"""In the order in which they are tried: NVIDIA's GPUs, the boards of Raspberry Pi and others, the CPU."""


def choose_encoders(asked: str, size: tuple[int, int], what: str) -> list[Encoder]:
    """The encoders to use, the best one first; the others are for when it cannot be opened.

    Args:
        asked: A name, `auto` for all that work here, or `software` for the first on the CPU.
        size: Height and width of the images to come.
        what: Which file it is for, for messages.

    Returns:
        At least one; exactly one unless `auto` was asked for.

    Raises:
        SinkError: If the one that was asked for is unknown or does not work here, or none does.
    """
    if asked not in (AUTOMATIC, SOFTWARE):
        return [_asked(asked, size, what)]
    wanted = [each for each in ENCODERS.values() if not (each.is_hardware and asked == SOFTWARE)]
    if working := [encoder for encoder in wanted if not problem_of(encoder.name, size)]:
        return working if asked == AUTOMATIC else working[:1]
    raise SinkError(f"{what}: this FFmpeg has no encoder for it (tried {', '.join(ENCODERS)})")


def _asked(name: str, size: tuple[int, int], what: str) -> Encoder:
    if name not in ENCODERS:
        hint = suggestion(name, [AUTOMATIC, SOFTWARE, *ENCODERS])
        known = ", ".join((AUTOMATIC, SOFTWARE, *ENCODERS))
        raise SinkError(f"{what}: there is no encoder {name!r}{hint}; expected one of {known}")
    if problem := problem_of(name, size):
        raise SinkError(
            f"{what}: the encoder {name} does not work here ({problem}); leave encoder away for one that does"
        )
    return ENCODERS[name]


@lru_cache(maxsize=64)
def problem_of(name: str, size: tuple[int, int]) -> str:
    """Why an encoder cannot encode images of a size here; empty where it can.

    FFmpeg lists encoders of hardware whether or not that and its driver are there. So two images are encoded.
    """
    av = require("av", "video", _PURPOSE)
    if name not in av.codecs_available:
        return "this FFmpeg was built without it"
    encoder, fps = ENCODERS[name], Fraction(25)
    if not encoder.is_hardware:
        return ""
    try:
        context = av.CodecContext.create(name, "w")
        context.height, context.width = (side + side % 2 for side in size)
        context.pix_fmt, context.framerate, context.time_base = "yuv420p", fps, 1 / fps
        context.options = encoder.options
        if rate := encoder.bit_rate(size, fps):
            context.bit_rate = rate
        black = av.VideoFrame.from_ndarray(
            np.zeros((context.height * 3 // 2, context.width), np.uint8), format="yuv420p"
        )
        packets = []
        for black.pts in range(2):
            packets += context.encode(black)
        packets += context.encode(None)
    except (av.FFmpegError, OSError, ValueError) as problem:
        return f"{said_by(problem)}: its hardware or driver is not there, or takes no such size"
    return "" if any(packet.size for packet in packets) else "it gave nothing"


def said_by(problem: Exception) -> str:
    """What FFmpeg says of an encoder."""
    reason = getattr(problem, "strerror", None) or problem
    return f"FFmpeg says {str(reason)!r}"
