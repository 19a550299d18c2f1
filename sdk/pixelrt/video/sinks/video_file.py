"""Overlays as a video file, encoded by FFmpeg."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pixelrt.encoding import AUTOMATIC, ENCODERS, SOFTWARE, VideoEncoder
from pixelrt.errors import MisspeltSink
from pixelrt.terminal import complain
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Frame
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sinks.parts import PART_READERS, Part, PartedSink, PartOptions
from pixelrt.video.sources.address import one_of, parse_path
from pixelrt.video.sources.base import Source

_INSTEAD = "a folder of masks (masks/)"
_JUMP_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions(PartOptions):
    """How a video is recorded; the options of its URI."""

    encoder: str = AUTOMATIC
    """`auto` (hardware where it works), `software`, `libx264`, `h264_nvenc`, ..."""


class VideoSink(PartedSink):
    """A video of the overlays, with the times of their frames.

    It is written under a hidden name and appears under its own when it is closed: complete, with its index in
    front, so that it can be played while it is still being copied. A crash leaves no file that looks whole.
    With `keep` the index comes last, and what was written is never lost but for its last second and a frame
    (4 s where the power goes): after an error or on a full disk it is in `out-unfinished.mp4`; the next run
    gives that name to what one that was killed has left.

    A video has one size and one clock: frames of another size, or after a clock that went back or jumped by
    more than an hour, begin a new part, `out-2.mp4`. Sides of an odd length are made even by repeating the
    last row or column (4:2:0 needs it).

    Args:
        path: Ends in .mp4, .mov or .mkv.
        source: Where the frames come from: gives their size and nominal rate. Where it does not know the size
            yet, the encoder is tried out with the first frame.
        options: How it is recorded.
        taken: Places of others, where no part goes.

    Raises:
        SinkError: If the file cannot be made, at that rate or by that encoder.
    """

    wants_overlay = True

    def __init__(
        self,
        path: Path,
        *,
        source: Source,
        options: VideoOptions | None = None,
        taken: Collection[Path] = (),
    ) -> None:
        self._options, self._source = options or VideoOptions(), source
        super().__init__(path, options=self._options, taken=taken)
        self.codec = ""
        if all(source.size):
            self._part = self._open(self._new_path(), source.size)

    def _open(self, path: Path, size: tuple[int, int]) -> _VideoPart:
        encoder = VideoEncoder(
            path,
            size=size,
            fps=self._source.fps,
            instead=_INSTEAD,
            encoder=self._options.encoder,
            keep=self._options.keep,
        )
        if encoder.note and encoder.codec != self.codec:
            complain(f"warning: {path}: {encoder.note}")
        self.codec = encoder.codec
        return _VideoPart(encoder)

    def _begin(self, path: Path, delivery: Delivery) -> _VideoPart:
        return self._open(path, delivery.frame.size)

    def _fits(self, part: Part, delivery: Delivery) -> bool:
        assert isinstance(part, _VideoPart)
        return part.fits(delivery.frame)


class _VideoPart:
    """A file whose times begin with its first frame."""

    def __init__(self, encoder: VideoEncoder) -> None:
        self.encoder = encoder
        self._first_s: float | None = None
        self._last_s: float | None = None

    def fits(self, frame: Frame) -> bool:
        """Whether a frame is of the size, and of the clock, of those before it."""
        last_s = frame.time_s if self._last_s is None else self._last_s
        return frame.size == self.encoder.size and 0 <= frame.time_s - last_s <= _JUMP_S

    @property
    def kept(self) -> Path | None:
        return self.encoder.kept

    def write(self, delivery: Delivery) -> None:
        frame = delivery.frame
        self._first_s = frame.time_s if self._first_s is None else self._first_s
        self._last_s = frame.time_s
        self.encoder.write(delivery.overlay(), frame.time_s - self._first_s, frame.name)

    def close(self) -> bool:
        return self.encoder.close()

    def abort(self) -> None:
        self.encoder.abort()


_READERS = {"encoder": one_of(AUTOMATIC, SOFTWARE, *ENCODERS), **PART_READERS}


def open_video(uri: str, options: SinkOptions) -> VideoSink:
    """Open a video: `out.mp4?encoder=libx264&segment=600&keep=yes`. Those of live sources are kept.

    Raises:
        SinkError: If an option is unknown, or the file cannot be made.
    """
    address = parse_path(uri, error=MisspeltSink)
    given = {"keep": options.live, **address.options(_READERS, MisspeltSink)}
    return VideoSink(
        Path(address.rest),
        source=options.source,
        options=VideoOptions(**given),
        taken=options.taken,
    )
