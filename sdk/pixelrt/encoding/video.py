"""Videos, encoded by FFmpeg."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.dependency import require
from pixelrt.encoding.encoders import SOFTWARE, choose_encoders, said_by
from pixelrt.encoding.film import FORMATS, FilmEncoder
from pixelrt.encoding.images import Bytes, as_rgb
from pixelrt.errors import SinkError

_BT709 = 1
_FRAGMENT_US = 1_000_000


class VideoEncoder(FilmEncoder):
    """An H.264 video. It is complete with its index in front, so that it can be played while it is copied.

    With `keep` it is written in pieces of a second that can be played without an index, which comes at the
    end, by an encoder that holds nothing back (files are larger for it). What was written outlives an error
    and a full disk (as `out-unfinished.mp4`), the end of the process but for the last second and a frame, and
    a power cut but for 4 seconds (under the hidden name). Sides of an odd length are made even by repeating
    the last row or column (4:2:0 needs it).

    Args:
        path: Ends in .mp4, .mov or .mkv.
        size: Height and width of the images to come.
        fps: Their nominal rate.
        instead: What could be written where sizes or the rate do not fit, for the message.
        encoder: A name of `ENCODERS`, `auto` for the hardware's where it works, or `software`.
        keep: Keep what there is of a film that cannot be finished.

    Attributes:
        note: Why a slower encoder than the best one is used; empty where it is not.

    Raises:
        SinkError: If the file cannot be made, at that rate or by that encoder.
        MissingDependency: If PyAV or OpenCV is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        fps: float,
        instead: str = "a folder of images",
        encoder: str = SOFTWARE,
        keep: bool = False,
    ) -> None:
        self._cv2 = require("cv2", "video", "writing video")
        self._encoder, *self._others = choose_encoders(encoder, size, str(path))
        self.note = ""
        super().__init__(path, size=size, fps=fps, instead=instead, keep=keep)
        self._duration = max(round(1 / self._fps / self._tick), 1)

    @property
    def codec(self) -> str:
        """Name of the encoder: `libx264`, `h264_nvenc`, ..."""
        return self._encoder.name

    def _tick_for(self, fps: Fraction) -> Fraction:
        most = self._encoder.ticks_per_s
        if fps.numerator > most:
            return Fraction(1, most)
        return Fraction(1, fps.numerator * (most // fps.numerator))

    def _open(self, file: str) -> tuple[Any, Any]:
        suffix = self.path.suffix.lower()
        if suffix not in FORMATS:
            raise SinkError(f"{self.path} ends in {suffix}, expected a video: {', '.join(FORMATS)}")
        while True:
            self._container = self._av.open(file, "w", format=FORMATS[suffix], options=self._layout(suffix))
            stream = self._new_stream()
            try:
                stream.codec_context.open()
            except self._failures as problem:  # NVIDIA's encoder has few sessions for all
                self._take_another(problem)
            else:
                return self._container, stream

    def _new_stream(self) -> Any:
        options = self._encoder.options | (self._encoder.prompt if self._keep else {})
        stream = self._container.add_stream(self._encoder.name, rate=self._fps, options=options)
        if bit_rate := self._encoder.bit_rate(self.size, self._fps):
            stream.bit_rate = bit_rate
        rows, cols = self.size
        stream.height, stream.width = rows + rows % 2, cols + cols % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._tick
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        return stream

    def _take_another(self, problem: Exception) -> None:
        """Go on with the next encoder, since this one cannot be opened."""
        self._container.close()
        self._container = None
        failed = f"the encoder {self._encoder.name} cannot be opened now ({said_by(problem)})"
        if not self._others:
            hint = ": its hardware may be in use; leave encoder away for one that can be"
            raise SinkError(f"{self.path}: {failed}{hint * self._encoder.is_hardware}") from problem
        self._encoder, *self._others = self._others
        self._tick = self._tick_for(self._fps)
        self.note = f"{failed}, so {self._encoder.name} is used"

    def _layout(self, suffix: str) -> dict[str, str]:
        is_matroska = suffix == ".mkv"  # which needs no index
        if not self._keep:
            return {} if is_matroska else {"movflags": "+faststart"}
        pieces = {"cluster_time_limit": str(_FRAGMENT_US // 1000)}
        if not is_matroska:
            pieces = {"movflags": "+hybrid_fragmented", "frag_duration": str(_FRAGMENT_US)}
        return {**pieces, "flush_packets": "1"}

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
