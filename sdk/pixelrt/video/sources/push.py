"""Frames that the program hands over when it has them, such as from a camera's own callback."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, Literal

from pixelrt.errors import PixelRTError, SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.strict import type_of
from pixelrt.video.frame import Frame
from pixelrt.video.sources.arrays import check_captured, checked_image
from pixelrt.video.sources.base import DEFAULT_FPS, BaseSource, check_color, check_fps, frame_prefix
from pixelrt.video.sources.resizing import SizeWatch
from pixelrt.video.waiting import Changes

Keep = Literal["newest", "all"]


class PushSource(BaseSource):
    """`push` takes a frame in one thread, iteration gives it in another.

    Args:
        name: Of the source, and of its frames, such as `front`; a topic's name is one, too.
        size: Height and width, where they are known before the first frame.
        fps: Nominal frames a second.
        color: Order of the channels of what is pushed.
        keep: `newest`: `push` returns at once, and where `capacity` frames wait, the oldest is dropped and
            counted in `losses["replaced"]`. `all`: `push` waits until there is room.
        capacity: Frames that may wait.
        copy: Whether host arrays are copied, so that the camera may use their memory again as soon as `push`
            returns. Arrays on a GPU are never copied: leave them as they are until their result has been
            delivered.

    Raises:
        SourceError: If an option makes no sense.
    """

    live = True
    num_frames = None

    def __init__(
        self,
        *,
        name: str = "pushed",
        size: tuple[int, int] | None = None,
        fps: float = DEFAULT_FPS,
        color: ColorOrder = "rgb",
        keep: Keep = "newest",
        capacity: int = 2,
        copy: bool = True,
    ) -> None:
        if not isinstance(name, str) or not name.isprintable() or not name.strip():
            raise SourceError(f"name is {name!r}, expected a text such as 'front'")
        check_fps(fps)
        check_color(color)
        if keep not in ("newest", "all"):
            raise SourceError(f"keep is {keep!r}, expected 'newest' or 'all'")
        if capacity < 1:
            raise SourceError(f"capacity is {capacity}, expected at least 1 frame")
        self.name, self.fps, self._color = name, fps, color
        self._keep, self._capacity, self._copy = keep, capacity, copy
        self._size = size
        self._lock = threading.RLock()
        self._changes = Changes(self._lock)
        # all below is read and written with the lock held
        self._waiting: deque[Frame] = deque()
        self._losses: dict[str, int] = {}
        self._pushed = 0
        self._start_s = self._last_s = -float("inf")
        self._ended = ""
        self._failure: PixelRTError | None = None

    def __enter__(self) -> PushSource:
        return self

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame; (0, 0) before it, where nobody said."""
        return self._size or (0, 0)

    @property
    def losses(self) -> Mapping[str, int]:  # type: ignore[override]
        """`replaced`: pushed while the reader was too slow. `unread`: waiting when the reader left."""
        with self._lock:
            return dict(self._losses)

    def push(self, image: Any, captured_s: float | None = None, clock_s: float | None = None) -> bool:
        """Hand a frame over. From any thread.

        Args:
            image: uint8[H, W, 3] on the host or a GPU; or a `Frame`, whose times and name are its own.
            captured_s: `time.monotonic` when it was taken; None for now.
            clock_s: The same by the camera's own clock, in seconds since 1970.

        Returns:
            Whether anybody still takes frames: False once the reader has gone.

        Raises:
            SourceError: If it is no frame, its time makes no sense, or `end` or `fail` came before.
        """
        what = f"frame {self._pushed} of {self.name}"
        if isinstance(image, Frame):
            if captured_s is not None or clock_s is not None:
                raise SourceError(f"{what} is a Frame, which has its own times; give them there")
        else:
            image = checked_image(image, what, copy=self._copy)
            captured_s = _seconds(what, "captured_s", captured_s)
            clock_s = _seconds(what, "clock_s", clock_s)
        while True:
            with self._lock:
                seen = self._changes.count
                self._check_open(what)
                if self.interrupted:
                    return False
                if self._keep == "newest" or len(self._waiting) < self._capacity:
                    taken_s = _taken_s(image, captured_s)
                    check_captured(taken_s, self._last_s, what)
                    self._last_s = taken_s
                    self._take(image if isinstance(image, Frame) else self._made(image, taken_s, clock_s))
                    return True
                change = self._changes.register(seen)
            change.wait()

    def end(self) -> None:
        """Say that no more frames come: the iteration ends after those that wait. From any thread."""
        with self._lock:
            self._ended = self._ended or "it was ended with end()"
            self._changes.notify_all()

    def fail(self, error: Exception | str) -> None:
        """Say that the camera failed: the iteration raises after the frames that wait. From any thread.

        Args:
            error: What happened. A PixelRTError is raised as it is, all else as a SourceError.
        """
        failure = error if isinstance(error, PixelRTError) else SourceError(f"{self.name} failed: {error}")
        if isinstance(error, Exception) and failure is not error:
            failure.__cause__ = error
        with self._lock:
            if not self._ended:
                self._ended, self._failure = f"it failed ({error})", failure
            self._changes.notify_all()

    def __iter__(self) -> Iterator[Frame]:
        index, sizes = 0, SizeWatch(self, self._size)
        while (frame := self._next()) is not None:
            sizes.see(frame.size)
            name, source = frame.name or f"{frame_prefix(self.name)}-{index:06d}", frame.source or self.name
            yield dataclasses.replace(frame, index=index, name=name, source=source)
            index += 1

    def interrupt(self) -> None:
        """End the iteration now; whoever waits in `push` returns."""
        with self._lock:
            self.interrupted = True
            if self._waiting:
                self._lose("unread", len(self._waiting))
                self._waiting.clear()
            self._changes.notify_all()

    def close(self) -> None:
        """Take no more frames."""
        self.interrupt()

    def _next(self) -> Frame | None:
        """The oldest frame that waits, as soon as there is one; None at the end."""
        while True:
            with self._lock:
                seen = self._changes.count
                if self._waiting or self._ended or self.interrupted:
                    return self._oldest()
                change = self._changes.register(seen)
            change.wait()

    def _oldest(self) -> Frame | None:
        if self._waiting:
            frame = self._waiting.popleft()
            self._changes.notify_all()
            return frame
        if self._failure is not None and not self.interrupted:
            raise self._failure
        return None

    def _check_open(self, what: str) -> None:
        if self._ended:
            raise SourceError(f"{what} was pushed after the end: {self._ended}; make a new PushSource")

    def _made(self, image: Any, taken_s: float, clock_s: float | None) -> Frame:
        if self._start_s == -float("inf"):
            self._start_s = taken_s
        return Frame(
            image=image,
            color=self._color,
            source=self.name,
            index=0,
            time_s=taken_s - self._start_s,
            name="",
            captured_s=taken_s,
            clock_s=clock_s,
        )

    def _take(self, frame: Frame) -> None:
        self._size = self._size or frame.size
        self._pushed += 1
        if len(self._waiting) == self._capacity:
            self._waiting.popleft()
            self._lose("replaced", 1)
        self._waiting.append(frame)
        self._changes.notify_all()

    def _lose(self, reason: str, count: int) -> None:
        self._losses[reason] = self._losses.get(reason, 0) + count


def _seconds(what: str, name: str, time_s: object) -> float | None:
    if time_s is None:
        return None
    if isinstance(time_s, bool) or not isinstance(time_s, Real):
        raise SourceError(f"{what}: {name} is {type_of(time_s)}, expected seconds as a number, or None")
    return float(time_s)


def _taken_s(image: Any, captured_s: float | None) -> float:
    if isinstance(image, Frame):
        return image.captured_s
    return time.monotonic() if captured_s is None else captured_s
