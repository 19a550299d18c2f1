"""Whole films at once, of images that may be made meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pixelrt.encoding.film import check_film
from pixelrt.encoding.gif import GifEncoder
from pixelrt.encoding.images import Bytes, checked
from pixelrt.encoding.video import VideoEncoder
from pixelrt.errors import InputError


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
                shape = checked(image).shape
                film = encoder(path, size=(shape[0], shape[1]), fps=fps)
            film.write(image)
        if film is None:
            raise InputError(f"{path} was to be written, and there are no images for it; give at least 1")
        film.close()
    finally:
        if film is not None:
            film.abort()
