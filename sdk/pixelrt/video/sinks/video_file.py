"""Overlays as a video file, encoded by FFmpeg."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.dependency import require
from pixelrt.errors import SinkError
from pixelrt.segmentation import Segmentation
from pixelrt.video.sinks.base import BaseSink, Bytes, explained, temporary_for
from pixelrt.video.sources import Frame
from pixelrt.video.sources.base import FASTEST_FPS, SLOWEST_FPS

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_ENCODERS = {"libx264": {"preset": "veryfast", "crf": "20"}, "mpeg4": {"qscale": "3"}}
"""The first that this FFmpeg has is used."""
_TICKS_PER_S = 90_000
_BT709 = 1


class VideoSink(BaseSink):
    """A video of the overlays, with the times of their frames.

    It is written under a hidden name and appears under its own when it is closed: complete, with its index in
    front, so that it can be played while it is still being copied. A crash leaves no file that looks whole.
    Sides of an odd length are made even by repeating the last row or column (4:2:0 needs it).

    Args:
        path: Ends in .mp4, .mov or .mkv.
        size: Height and width of the frames to come.
        fps: Their nominal rate.

    Raises:
        SinkError: If the file cannot be made, or at that rate.
    """

    wants_overlay = True

    def __init__(self, path: Path, *, size: tuple[int, int], fps: float) -> None:
        self._av = require("av", "video", "writing video")
        self._cv2 = require("cv2", "video", "writing video")
        self.path, self.size, self._frames, self._last = path, size, 0, -1
        if not SLOWEST_FPS <= fps <= FASTEST_FPS:
            raise SinkError(
                f"{path} cannot have {fps:g} frames per second, expected {SLOWEST_FPS:g} to {FASTEST_FPS:g}; "
                "write a folder of masks (masks/), which has no rate"
            )
        rate = Fraction(fps).limit_denominator(1001)
        self._tick = Fraction(1, rate.numerator * max(1, _TICKS_PER_S // rate.numerator))
        self._duration = max(round(1 / rate / self._tick), 1)
        self._temporary = temporary_for(path)
        self._container: Any = None
        self._failures: tuple[type[Exception], ...] = (OSError, self._av.FFmpegError)
        try:
            with explained(path, kinds=self._failures):
                self._container = self._av.open(
                    f"file:{self._temporary}",
                    "w",
                    format=FORMATS[path.suffix.lower()],
                    options={} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"},
                )
                self._stream = self._add_stream(rate)
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> VideoSink:
        return self

    @property
    def codec(self) -> str:
        """Name of the encoder: libx264, or mpeg4 where this FFmpeg lacks it."""
        return str(self._stream.codec_context.codec.name)

    def write(self, frame: Frame, result: Segmentation, overlay: Bytes | None) -> None:
        """Encode an overlay.

        Raises:
            SinkError: If it has another size than the first one, or cannot be written.
        """
        if overlay is None:
            raise SinkError(f"{self.path} shows the overlay, and none was given")
        if overlay.shape[:2] != self.size:
            raise SinkError(
                f"{self.path} was begun with frames of {self.size} (height, width), and frame {frame.name} "
                f"is {overlay.shape[:2]}; a video has one size: write masks/ instead, or resize the images"
            )
        picture = self._av.VideoFrame.from_ndarray(self._even(overlay), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=_BT709)
        self._last = max(round(Fraction(frame.time_s) / self._tick), self._last + 1)
        picture.pts, picture.time_base = self._last, self._tick
        picture.duration = self._duration
        with explained(self.path, kinds=self._failures):
            self._container.mux(self._stream.encode(picture))
        self._frames += 1

    def close(self) -> tuple[Path, ...]:
        """Finish the file and give it its name."""
        if self._container is not None:
            if not self._frames:
                self.abort()
                return ()
            try:
                with explained(self.path, kinds=self._failures):
                    self._container.mux(self._stream.encode(None))
                    container, self._container = self._container, None
                    container.close()
                    self._temporary.replace(self.path)
            except BaseException:
                self.abort()
                raise
        return (self.path,) if self._frames else ()

    def abort(self) -> None:
        """Remove what was written."""
        container, self._container = self._container, None
        if container is not None:
            # what made us give up may stand in its way again, and the file goes anyway
            with contextlib.suppress(*self._failures):
                container.close()
        with contextlib.suppress(OSError):  # a disk that is read only holds nothing to remove
            self._temporary.unlink(missing_ok=True)

    def _add_stream(self, rate: Fraction) -> Any:
        name = next((name for name in _ENCODERS if name in self._av.codecs_available), None)
        if name is None:
            raise SinkError(f"{self.path}: this FFmpeg has no encoder for it (tried {', '.join(_ENCODERS)})")
        stream = self._container.add_stream(name, rate=rate, options=_ENCODERS[name])
        rows, cols = self.size
        stream.height, stream.width = rows + rows % 2, cols + cols % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._tick
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        return stream

    def _even(self, image: Bytes) -> Bytes:
        rows, cols = self.size
        if rows % 2 == 0 and cols % 2 == 0:
            return image
        border = self._cv2.BORDER_REPLICATE
        return np.asarray(self._cv2.copyMakeBorder(image, 0, rows % 2, 0, cols % 2, border), np.uint8)
