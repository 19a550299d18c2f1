"""What all films have in common: a place, a rate, one size, and that they are whole or not there."""

from __future__ import annotations

import contextlib
import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from pixelrt.dependency import require
from pixelrt.encoding.drafts import Draft
from pixelrt.encoding.files import temporary_for
from pixelrt.encoding.images import Bytes, checked
from pixelrt.errors import SinkError

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Videos: FFmpeg's format by suffix."""
SLOWEST_FPS, FASTEST_FPS = 0.01, 1000.0
"""What a container can hold as a rate: one frame in 100 s to one in a millisecond."""
FASTEST_GIF_FPS = 50.0
"""A GIF counts in hundredths of a second, and viewers slow down what changes at every one of them."""


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
    if not isinstance(fps, numbers.Real) or isinstance(fps, bool):
        raise SinkError(f"{path} cannot have {fps!r} frames per second, expected a number")
    fastest = FASTEST_GIF_FPS if suffix == ".gif" else FASTEST_FPS
    if not SLOWEST_FPS <= fps <= fastest:
        raise SinkError(
            f"{path} cannot have {fps:g} frames per second, expected {SLOWEST_FPS:g} to {fastest:g}; "
            f"write {instead}, which has no rate"
        )
    temporary_for(path)


class FilmEncoder(ABC):
    """A film on its way into a file: under a hidden name until `close`, which gives it its own."""

    def __init__(
        self, path: Path, *, size: tuple[int, int], fps: float, instead: str, keep: bool = False
    ) -> None:
        check_film(path, fps, instead)
        self._av = require("av", "video", "writing video")
        self.path, self.size, self._keep = path, size, keep
        self._fps, self._instead = Fraction(float(fps)).limit_denominator(1001), instead
        self._written, self._last = 0, -1
        self._finished = False
        self._tick = self._tick_for(self._fps)
        self._failures: tuple[type[Exception], ...] = (OSError, self._av.FFmpegError)
        self._container: Any = None
        self._draft = Draft(path, keep=keep)
        try:
            with self._explained():
                self._container, self._stream = self._open(f"file:{self._draft.hidden}")
        except BaseException:
            self.abort()
            raise

    @property
    def kept(self) -> Path | None:
        """Where a film is that was not finished and is kept all the same (`keep`)."""
        return self._draft.kept

    def write(self, image: Bytes, time_s: float | None = None, name: str = "") -> None:
        """Encode an image.

        Args:
            image: uint8[H, W], [H, W, 1] or [H, W, 3] RGB.
            time_s: When it is shown, from the first one; None for the next turn at the nominal rate.
            name: What it is called in messages.

        Raises:
            InputError: If it is something else.
            SinkError: If it has another size than the first one, or cannot be written; also after `close`,
                `abort`, and an error of the disk.
        """
        if self._container is None:
            raise SinkError(f"{self.path} takes no more frames: it was closed or given up")
        seen = checked(image)
        if seen.shape[:2] != self.size:
            raise SinkError(
                f"{self.path} was begun with frames of {self.size} (height, width), and frame "
                f"{name or self._written} is {seen.shape[:2]}; a video has one size: write "
                f"{self._instead} instead, or resize the images"
            )
        at_s = self._written / self._fps if time_s is None else Fraction(time_s)
        self._last = max(round(at_s / self._tick), self._last + 1)
        with self._explained():
            self._encode(seen)
            self._draft.sync()
        self._written += 1

    def close(self) -> bool:
        """Finish the file and give it its name. Safe to call twice.

        Returns:
            Whether there is a file: not without an image, nor after an error.

        Raises:
            SinkError: If it cannot be finished; nothing is left then.
        """
        if self._container is not None:
            if not self._written:
                self.abort()
                return False
            try:
                with self._explained():
                    self._flush()
                    self._container.close()
                    self._container = None
                    self._draft.finish()
            except BaseException:
                self.abort()
                raise
            self._finished = True
        return self._finished

    def abort(self) -> None:
        """Remove what was written, or keep it where that was asked for. Safe after `close`."""
        container = self._container
        if container is not None:
            # what made us give up may stand in its way again
            with contextlib.suppress(*self._failures):
                if self._keep and self._written:
                    self._flush()
            self._container = None
            with contextlib.suppress(*self._failures):
                container.close()
        self._draft.give_up(worth=self._written > 0)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an error of the system into one that names the file and what is left; then it is over."""
        try:
            yield
        except self._failures as problem:
            self.abort()
            reason = getattr(problem, "strerror", None) or problem
            raise SinkError(f"{self.path} cannot be written ({reason}); {self._draft.left}") from problem

    @abstractmethod
    def _tick_for(self, fps: Fraction) -> Fraction:
        """The unit of the times, in seconds."""

    @abstractmethod
    def _open(self, file: str) -> tuple[Any, Any]:
        """The container and its stream."""

    @abstractmethod
    def _encode(self, image: Bytes) -> None:
        """Encode an image of the right size, at the time of the last tick."""

    @abstractmethod
    def _flush(self) -> None:
        """Write what the encoder holds back."""
