"""Overlays as a video file, encoded by FFmpeg."""

from __future__ import annotations

from pathlib import Path

from pixelrt.encoding import VideoEncoder
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.kinds import SinkOptions


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
        self.path, self.size = path, size
        self._encoder = VideoEncoder(path, size=size, fps=fps, instead="a folder of masks (masks/)")

    def __enter__(self) -> VideoSink:
        return self

    @property
    def codec(self) -> str:
        """Name of the encoder: libx264, or mpeg4 where this FFmpeg lacks it."""
        return self._encoder.codec

    def write(self, delivery: Delivery) -> None:
        """Encode an overlay.

        Raises:
            SinkError: If it has another size than the first one, or cannot be written.
        """
        self._encoder.write(delivery.overlay(), delivery.frame.time_s, delivery.frame.name)

    def close(self) -> tuple[Path, ...]:
        """Finish the file and give it its name."""
        return (self.path,) if self._encoder.close() else ()

    def abort(self) -> None:
        """Remove what was written."""
        self._encoder.abort()


def open_video(uri: str, options: SinkOptions) -> VideoSink:
    """Open a video.

    Raises:
        SinkError: If the file cannot be made.
    """
    return VideoSink(Path(uri), size=options.source.size, fps=options.source.fps)
