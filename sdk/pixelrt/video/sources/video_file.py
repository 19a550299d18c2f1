"""A video file, decoded by FFmpeg."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from pixelrt.dependency import require
from pixelrt.encoding import FASTEST_FPS, SLOWEST_FPS
from pixelrt.errors import SourceError
from pixelrt.machine import processor
from pixelrt.manifest import ColorOrder
from pixelrt.video.frame import Frame
from pixelrt.video.sources.base import DEFAULT_FPS, BaseSource
from pixelrt.video.sources.resizing import SizeWatch
from pixelrt.video.sources.upright import upright

_NOT_VIDEO = ("tty", "concat", "hls", "dash", "image2", "png_pipe")
_SHORTFALL_S = 0.5
_MOST_THREADS = 16
"""Of a decoder, as FFmpeg recommends: each holds a frame back, and its memory."""


class VideoFile(BaseSource):
    """Every frame of a file's first video stream, turned as the camera was held.

    A damaged frame ends the run with an error, after all frames before it were delivered: FFmpeg would
    show pixels of other frames in its place. A file that ends before its header says does the same.

    Args:
        path: The file.
        fps: Frames a second, for a file that does not say, or names a rate that no video has.
        color: Order of the channels.

    Raises:
        SourceError: If FFmpeg does not know the file as a video, or it holds no frame.
    """

    def __init__(self, path: Path, *, fps: float = DEFAULT_FPS, color: ColorOrder = "rgb") -> None:
        self._av = require("av", "video", "reading video")
        self._color = color
        self._path, self.name, self.paths = path, path.name, (str(path),)
        self._container = self._open()
        try:
            self._stream = self._pick_stream()
            self.fps = _rate(self._stream) or fps
            self._frames = self._decode()
            first = self._first()
        except BaseException:
            self._container.close()
            raise
        self._rest: Iterator[Frame] = chain([first], self._frames)
        self.size: tuple[int, int] = first.image.shape[:2]
        self.num_frames: int | None = self._stream.frames or _estimate(self._container, self.fps)

    def __enter__(self) -> VideoFile:
        return self

    def __iter__(self) -> Iterator[Frame]:
        sizes = SizeWatch(self, self.size)
        while not self.interrupted and (frame := next(self._rest, None)) is not None:
            sizes.see(frame.size)
            yield frame

    def close(self) -> None:
        """Close the file."""
        self._frames.close()
        self._container.close()

    def _first(self) -> Frame:
        first = next(self._frames, None)
        if first is None:
            raise SourceError(f"{self._path} has a video stream without a single frame; record it again")
        return first

    def _open(self) -> Any:
        hint = "expected a video such as MP4, MKV, AVI or MPEG-TS"
        try:
            # `file:` keeps FFmpeg from taking a colon in the name for a protocol; no other protocol is
            # allowed, so that a file with a list of addresses in it cannot reach the network
            container = self._av.open(f"file:{self._path}", options={"protocol_whitelist": "file"})
        except (OSError, self._av.FFmpegError) as problem:
            raise SourceError(self._refusal(problem, hint)) from problem
        if container.format.name in _NOT_VIDEO:
            container.close()
            raise SourceError(f"{self._path} is {container.format.long_name}, not a video; {hint}")
        return container

    def _refusal(self, problem: Exception, hint: str) -> str:
        length = self._path.stat().st_size
        if length == 0:
            return f"{self._path} is empty (0 bytes); {hint}"
        with self._path.open("rb") as stream:
            head = stream.read(64)
        if head[4:8] == b"ftyp":
            return (
                f"{self._path} begins as an MP4 and its index is missing: the recording or the copy was cut "
                f"short ({length} bytes); copy it again, or repair it"
            )
        reason = getattr(problem, "strerror", None) or problem
        return f"{self._path} cannot be read as a video ({reason}; it begins with {head[:16]!r}); {hint}"

    def _pick_stream(self) -> Any:
        streams = self._container.streams
        if not streams.video:
            kinds = ", ".join(stream.type for stream in streams) or "nothing"
            raise SourceError(
                f"{self._path} holds no video stream (found: {kinds}); give a file with a picture"
            )
        stream = streams.video[0]
        if stream.codec_context is None:
            raise SourceError(
                f"{self._path} is coded in a way that this FFmpeg cannot decode; convert it to H.264"
            )
        stream.thread_type = "AUTO"
        # FFmpeg would take every core and one more thread: its bursts then hold up a network on the CPU
        stream.codec_context.thread_count = min(max(processor().cores - 1, 1), _MOST_THREADS)
        if stream.codec_context.name == "mjpeg":
            # a JPEG with a hole is decoded all the same, to its end, unless this is asked for
            stream.codec_context.options = {"err_detect": "explode"}
        return stream

    def _decode(self) -> Generator[Frame, None, None]:
        start_s: float | None = None
        last_s, ended_s, index = 0.0, 0.0, 0
        for picture in self._guarded():
            time_s = index / self.fps if picture.pts is None else float(picture.pts * self._stream.time_base)
            start_s = time_s if start_s is None else start_s
            last_s = time_s - start_s
            shown_s = float((picture.duration or 0) * self._stream.time_base)
            ended_s = last_s + max(shown_s, 1 / self.fps)
            yield Frame(
                image=upright(picture, self._color, self._path),
                color=self._color,
                source=self.name,
                index=index,
                time_s=last_s,
                name=f"{self._path.stem}-{index:06d}",
            )
            index += 1
        self._check_end(index, ended_s)

    def _guarded(self) -> Iterator[Any]:
        """Decoded pictures; what FFmpeg refuses is damage."""
        pictures, count = self._pictures(), 0
        while True:
            try:
                picture = next(pictures, None)
            except self._av.FFmpegError as problem:
                raise self._damage(count, str(problem.strerror)) from problem
            if picture is None:
                return
            count += 1
            yield picture

    def _pictures(self) -> Iterator[Any]:
        """Decoded pictures up to the first damaged one."""
        count = 0
        for packet in self._container.demux(self._stream):
            cut = packet.is_corrupt
            # a decoder holds frames back: those before the damage are whole, and are asked for
            for picture in self._stream.codec_context.decode(None) if cut else packet.decode():
                if picture.is_corrupt:
                    raise self._damage(count, "the next frame is damaged")
                count += 1
                yield picture
            if cut:
                raise self._damage(count, "the packet that follows is cut short")

    def _damage(self, count: int, reason: str) -> SourceError:
        return SourceError(
            f"{self._path} is damaged after frame {count - 1} ({count} frames were read: {reason}); "
            f"copy or record it again, or use what is whole with --limit {count}"
            if count
            else f"{self._path} is damaged from its first frame on ({reason}); copy or record it again"
        )

    def _check_end(self, count: int, ended_s: float) -> None:
        """Refuse a file that ends early: some formats (Matroska) just stop."""
        promised_s = _duration_s(self._container, self._stream)
        if count and promised_s - ended_s > _SHORTFALL_S + 2 / self.fps:
            raise self._damage(count, f"it ends at {ended_s:.1f} s, and its header says {promised_s:.1f} s")


def _rate(stream: Any) -> float | None:
    """Frames a second by the header; None where it does not say, or names a clock's rate."""
    said = (float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate)
    return next((rate for rate in said if SLOWEST_FPS <= rate <= FASTEST_FPS), None)


def _duration_s(container: Any, stream: Any) -> float:
    """How long the picture lasts by the header; 0 where it does not say."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return (_length_s(container) or 0.0) if len(container.streams) == 1 else 0.0


def _length_s(container: Any) -> float | None:
    """How long a file lasts by its header; None where it does not say."""
    if container.duration is None:
        return None
    # Matroska has the time of the end, which is no length where the times of a part of a film go on
    begin = container.start_time or 0 if "matroska" in container.format.name else 0
    return float((container.duration - begin) / 1e6)


def _estimate(container: Any, fps: float) -> int | None:
    seconds = _length_s(container)
    return None if seconds is None or seconds < 0 else max(round(seconds * fps), 1)
