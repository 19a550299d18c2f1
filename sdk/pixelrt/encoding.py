"""Images and films as files, whole or not at all.

| file | how |
|---|---|
| `.png` and other images | OpenCV, lossless where the format is |
| `.mp4`, `.mov`, `.mkv` | H.264 in 4:2:0 by FFmpeg (MPEG-4 where it has no libx264), BT.709 |
| `.gif` | FFmpeg: a palette of its own for every image, errors diffused (Sierra 2-4A), repeated for ever |

Images are uint8[H, W] or uint8[H, W, 1] grey, or uint8[H, W, 3] RGB. 4:2:0 needs even sides: an odd one is
made even by repeating the last row or column, and no other pixel is touched. A GIF takes every size; grey
images are in it without loss, and those of up to 256 colours but for the rounding of their palette.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import write_file
from pixelrt.dependency import require
from pixelrt.errors import BundleError, InputError, SinkError

Bytes = NDArray[np.uint8]

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Videos: FFmpeg's format by suffix."""
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of images."""
SLOWEST_FPS, FASTEST_FPS = 0.01, 1000.0
"""What a container can hold as a rate: one frame in 100 s to one in a millisecond."""
FASTEST_GIF_FPS = 50.0
"""A GIF counts in hundredths of a second, and viewers slow down what changes at every one of them."""

_ENCODERS = {"libx264": {"preset": "veryfast", "crf": "20"}, "mpeg4": {"qscale": "3"}}
"""The first that this FFmpeg has is used."""
_TICKS_PER_S = 90_000
_GIF_TICK = Fraction(1, 100)
_GIF_LARGEST_PX = 65_535
_BT709 = 1


def temporary_for(path: Path) -> Path:
    """A hidden name beside `path`, to be renamed to it when it is whole.

    Raises:
        SinkError: If there is no folder to write into, or a folder is in the way.
    """
    if not path.parent.is_dir():
        raise SinkError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise SinkError(f"{path} is a folder, expected a file; give {path}/ for a folder of images")
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def explained(
    path: Path, doing: str = "written", kinds: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[None]:
    """Turn an error of the system (no permission, a full disk) into one that names the file."""
    try:
        yield
    except kinds as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise SinkError(f"{path} cannot be {doing} ({reason}); nothing half-written was left") from problem


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, also where the power goes (robots are switched off like that).

    Raises:
        SinkError: If it cannot be written.
    """
    temporary_for(path)
    try:
        write_file(path, content)
    except BundleError as problem:
        raise SinkError(str(problem)) from problem


def encode_png(image: Bytes) -> bytes:
    """An image as PNG, without loss.

    Args:
        image: uint8[H, W] or [H, W, 1] grey, or [H, W, 3] RGB.

    Raises:
        InputError: If it is something else.
        SinkError: If OpenCV cannot.
    """
    return encode_image(image, ".png")


def encode_image(image: Bytes, suffix: str) -> bytes:
    """An image in the format of a suffix, such as `.jpg`.

    Args:
        image: uint8[H, W] or [H, W, 1] grey, or [H, W, 3] RGB.
        suffix: One of `IMAGES`.

    Raises:
        InputError: If the image is something else.
        SinkError: If OpenCV cannot.
    """
    cv2 = require("cv2", "video", "writing images")
    seen = _checked(image)
    shown = cv2.cvtColor(seen, cv2.COLOR_RGB2BGR) if seen.ndim == 3 else seen
    encoded, content = cv2.imencode(suffix.lower(), shown)
    if not encoded:
        raise SinkError(f"OpenCV cannot encode {image.shape} as {suffix}; write .png")
    return content.tobytes() if isinstance(content, np.ndarray) else bytes(content)


def write_video(path: str | os.PathLike[str], images: Iterable[Bytes], fps: float) -> None:
    """Write images as a video, one after another, so that they may be made meanwhile.

    Args:
        path: Ends in .mp4, .mov or .mkv.
        images: uint8[H, W], [H, W, 1] or [H, W, 3] RGB, all of one size.
        fps: Images per second, 0.01 to 1000.

    Raises:
        InputError: If there is no image, or one is something else.
        SinkError: If it cannot be written, has another suffix, or the images differ in size.
        MissingDependency: If PyAV or OpenCV is not installed.
    """
    _write_film(VideoEncoder, Path(path), images, fps)


def write_gif(path: str | os.PathLike[str], images: Iterable[Bytes], fps: float) -> None:
    """Write images as a GIF that is repeated for ever, one after another as `write_video` does.

    Args:
        path: Ends in .gif.
        images: uint8[H, W], [H, W, 1] or [H, W, 3] RGB, all of one size and form.
        fps: Images per second, 0.01 to 50; times are rounded to hundredths of a second.

    Raises:
        InputError: If there is no image, or one is something else.
        SinkError: If it cannot be written, has another suffix, or the images differ in size.
        MissingDependency: If PyAV is not installed.
    """
    _write_film(GifEncoder, Path(path), images, fps)


def _write_film(
    encoder: type[VideoEncoder] | type[GifEncoder], path: Path, images: Iterable[Bytes], fps: float
) -> None:
    check_film(path, fps)
    film: VideoEncoder | GifEncoder | None = None
    try:
        for image in images:
            if film is None:
                shape = _checked(image).shape
                film = encoder(path, size=(shape[0], shape[1]), fps=fps)
            film.write(image)
        if film is None:
            raise InputError(f"{path} was to be written, and there are no images for it; give at least 1")
        film.close()
    finally:
        if film is not None:
            film.abort()


def check_film(path: Path, fps: float, instead: str = "a folder of images") -> None:
    """Refuse a place or a rate of a film before any work.

    Args:
        path: Where it shall go.
        fps: Images per second.
        instead: What has no rate and no one size, for the message.

    Raises:
        SinkError: If there is no folder, or the suffix or the rate is none of a film.
    """
    suffix = path.suffix.lower()
    if suffix not in (*FORMATS, ".gif"):
        raise SinkError(
            f"{path} ends in {suffix or 'nothing'}, expected a film: {', '.join((*FORMATS, '.gif'))}"
        )
    fastest = FASTEST_GIF_FPS if suffix == ".gif" else FASTEST_FPS
    if not SLOWEST_FPS <= fps <= fastest:
        raise SinkError(
            f"{path} cannot have {fps:g} frames per second, expected {SLOWEST_FPS:g} to {fastest:g}; "
            f"write {instead}, which has no rate"
        )
    temporary_for(path)


class _FilmEncoder:
    """A film on its way into a file: under a hidden name until `close`, which gives it its own."""

    def __init__(self, path: Path, *, size: tuple[int, int], fps: float, instead: str) -> None:
        check_film(path, fps, instead)
        self._av = require("av", "video", "writing video")
        self.path, self.size = path, size
        self._fps, self._instead = Fraction(fps).limit_denominator(1001), instead
        self._written, self._last = 0, -1
        self._tick = self._tick_for(self._fps)
        self._failures: tuple[type[Exception], ...] = (OSError, self._av.FFmpegError)
        self._temporary = temporary_for(path)
        self._container: Any = None
        try:
            with explained(path, kinds=self._failures):
                self._container, self._stream = self._open(f"file:{self._temporary}")
        except BaseException:
            self.abort()
            raise

    def write(self, image: Bytes, time_s: float | None = None, name: str = "") -> None:
        """Encode an image.

        Args:
            image: uint8[H, W], [H, W, 1] or [H, W, 3] RGB.
            time_s: When it is shown, from the first one; None for the next turn at the nominal rate.
            name: What it is called in messages.

        Raises:
            InputError: If it is something else.
            SinkError: If it has another size than the first one, or cannot be written.
        """
        seen = _checked(image)
        if seen.shape[:2] != self.size:
            raise SinkError(
                f"{self.path} was begun with frames of {self.size} (height, width), and frame "
                f"{name or self._written} is {seen.shape[:2]}; a video has one size: write "
                f"{self._instead} instead, or resize the images"
            )
        at_s = self._written / self._fps if time_s is None else Fraction(time_s)
        self._last = max(round(at_s / self._tick), self._last + 1)
        with explained(self.path, kinds=self._failures):
            self._encode(seen)
        self._written += 1

    def close(self) -> bool:
        """Finish the file and give it its name. Safe to call twice.

        Returns:
            Whether there is a file: not without an image.

        Raises:
            SinkError: If it cannot be finished; nothing is left then.
        """
        if self._container is not None:
            if not self._written:
                self.abort()
                return False
            try:
                with explained(self.path, kinds=self._failures):
                    self._flush()
                    container, self._container = self._container, None
                    container.close()
                    self._temporary.replace(self.path)
            except BaseException:
                self.abort()
                raise
        return self._written > 0

    def abort(self) -> None:
        """Remove what was written. Safe after `close`, which it does not undo."""
        container, self._container = self._container, None
        if container is not None:
            # what made us give up may stand in its way again, and the file goes anyway
            with contextlib.suppress(*self._failures):
                container.close()
        with contextlib.suppress(OSError):  # a disk that is read only holds nothing to remove
            self._temporary.unlink(missing_ok=True)

    def _tick_for(self, fps: Fraction) -> Fraction:
        """The unit of the times, in seconds."""
        raise NotImplementedError

    def _open(self, file: str) -> tuple[Any, Any]:
        """The container and its stream."""
        raise NotImplementedError

    def _encode(self, image: Bytes) -> None:
        raise NotImplementedError

    def _flush(self) -> None:
        """Write what the encoder holds back."""
        raise NotImplementedError


class VideoEncoder(_FilmEncoder):
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
        picture = self._av.VideoFrame.from_ndarray(self._even(_rgb(image)), format="rgb24")
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


class GifEncoder(_FilmEncoder):
    """A GIF that is repeated for ever. The first image decides whether it is grey or in colour.

    Every image has a palette of its own (FFmpeg's palettegen and paletteuse), so that memory does not grow
    with their number; a grey one has all 256 shades and no loss.

    Args:
        path: Ends in .gif.
        size: Height and width of the images to come.
        fps: Their nominal rate, up to 50.
        instead: What could be written where sizes or the rate do not fit, for the message.

    Raises:
        SinkError: If the file cannot be made, or at that rate.
        MissingDependency: If PyAV is not installed.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], fps: float, instead: str = "a folder of images"
    ) -> None:
        self._graph: Any = None
        self._is_grey = False
        if max(size) > _GIF_LARGEST_PX:
            raise SinkError(f"{path} cannot hold {size} (height, width), a GIF has at most {_GIF_LARGEST_PX}")
        super().__init__(path, size=size, fps=fps, instead=instead)

    def _tick_for(self, fps: Fraction) -> Fraction:
        return _GIF_TICK

    def _open(self, file: str) -> tuple[Any, Any]:
        if self.path.suffix.lower() != ".gif":
            raise SinkError(f"{self.path} ends in {self.path.suffix}, expected .gif")
        self._container = self._av.open(file, "w", format="gif", options={"loop": "0"})
        stream = self._container.add_stream("gif", rate=self._fps)
        stream.height, stream.width = self.size
        stream.time_base = stream.codec_context.time_base = self._tick
        return self._container, stream

    def _encode(self, image: Bytes) -> None:
        if not self._written:
            self._is_grey = image.ndim == 2
            self._stream.pix_fmt = "gray" if self._is_grey else "pal8"
            self._graph = None if self._is_grey else self._palettes()
        if self._is_grey and image.ndim == 3:
            raise SinkError(
                f"{self.path} was begun with grey images, and frame {self._written} is in colour; "
                "make all of them uint8[H, W, 3]"
            )
        form = "gray" if self._is_grey else "rgb24"
        shown = image if self._is_grey else _rgb(image)
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format=form)
        picture.pts, picture.time_base = self._last, self._tick
        if self._graph is None:
            self._container.mux(self._stream.encode(picture))
        else:
            self._graph.push(picture)
            self._pull()

    def _flush(self) -> None:
        if self._graph is not None:
            self._graph.push(None)
            self._pull()
        self._container.mux(self._stream.encode(None))

    def _palettes(self) -> Any:
        """The filters from colours to palettes."""
        rows, cols = self.size
        graph = self._av.filter.Graph()
        form = self._av.VideoFormat("rgb24")
        source = graph.add_buffer(width=cols, height=rows, format=form, time_base=self._tick)
        split = graph.add("split")
        palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(graph.add("buffersink"))
        graph.configure()
        return graph

    def _pull(self) -> None:
        """Encode what the filters have ready."""
        while True:
            try:
                picture = self._graph.pull()
            except (BlockingIOError, EOFError):
                return
            self._container.mux(self._stream.encode(picture))


def _checked(image: Bytes) -> Bytes:
    """The image as uint8[H, W] or uint8[H, W, 3].

    Raises:
        InputError: If it is something else.
    """
    found = image if isinstance(image, np.ndarray) else np.asarray(image)
    is_image = found.ndim == 2 or (found.ndim == 3 and found.shape[2] in (1, 3))
    if found.dtype != np.uint8 or not is_image or not found.size:
        raise InputError(
            f"an image is {found.dtype}{list(found.shape)}, expected uint8[H, W] or [H, W, 1] (grey) or "
            "uint8[H, W, 3] (RGB)"
        )
    return found[..., 0] if found.ndim == 3 and found.shape[2] == 1 else found


def _rgb(image: Bytes) -> Bytes:
    """uint8[H, W, 3] of an image that was checked."""
    return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
