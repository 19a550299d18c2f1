"""Videos, encoded by FFmpeg."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.dependency import require
from pixelrt.encoding.film import FORMATS, FilmEncoder
from pixelrt.encoding.images import Bytes, as_rgb
from pixelrt.errors import SinkError

_ENCODERS = {"libx264": {"preset": "veryfast", "crf": "20"}, "mpeg4": {"qscale": "3"}}
"""The first that this FFmpeg has is used."""
_TICKS_PER_S = 90_000
_BT709 = 1


class VideoEncoder(FilmEncoder):
    """An H.264 video. It is complete with its index in front, so that it can be played while it is copied.

    Sides of an odd length are made even by repeating the last row or column (4:2:0 needs it).

    Args:
        path: Ends in .mp4, .mov or .mkv.
        size: Height and width of the images to come.
        fps: Their nominal rate.
        instead: What could be written where sizes or the rate do not fit, for the message.

    Raises:
        SinkError: If the file cannot be made, or at that rate.
        MissingDependency: If PyAV or OpenCV is not installed.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], fps: float, instead: str = "a folder of images"
    ) -> None:
        self._cv2 = require("cv2", "video", "writing video")
        super().__init__(path, size=size, fps=fps, instead=instead)
        self._duration = max(round(1 / self._fps / self._tick), 1)

    @property
    def codec(self) -> str:
        """Name of the encoder: libx264, or mpeg4 where this FFmpeg lacks it."""
        return str(self._stream.codec_context.codec.name)

    def _tick_for(self, fps: Fraction) -> Fraction:
        return Fraction(1, fps.numerator * max(1, _TICKS_PER_S // fps.numerator))

    def _open(self, file: str) -> tuple[Any, Any]:
        name = next((name for name in _ENCODERS if name in self._av.codecs_available), None)
        suffix = self.path.suffix.lower()
        if name is None:
            raise SinkError(f"{self.path}: this FFmpeg has no encoder for it (tried {', '.join(_ENCODERS)})")
        if suffix not in FORMATS:
            raise SinkError(f"{self.path} ends in {suffix}, expected a video: {', '.join(FORMATS)}")
        options = {} if suffix == ".mkv" else {"movflags": "+faststart"}
        self._container = self._av.open(file, "w", format=FORMATS[suffix], options=options)
        stream = self._container.add_stream(name, rate=self._fps, options=_ENCODERS[name])
        rows, cols = self.size
        stream.height, stream.width = rows + rows % 2, cols + cols % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._tick
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        return self._container, stream

    def _encode(self, image: Bytes) -> None:
        picture = self._av.VideoFrame.from_ndarray(self._even(as_rgb(image)), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=_BT709)
        picture.pts, picture.time_base = self._last, self._tick
        picture.duration = self._duration
        self._container.mux(self._stream.encode(picture))

    def _flush(self) -> None:
        self._container.mux(self._stream.encode(None))

    def _even(self, image: Bytes) -> Bytes:
        rows, cols = self.size
        if rows % 2 == 0 and cols % 2 == 0:
            return image
        border = self._cv2.BORDER_REPLICATE
        return np.asarray(self._cv2.copyMakeBorder(image, 0, rows % 2, 0, cols % 2, border), np.uint8)
