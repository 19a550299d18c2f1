"""Frames that the program makes itself: a list, a generator, a function, a batch."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.strict import type_of
from pixelrt.video.frame import Frame
from pixelrt.video.sources.arrays import check_captured, checked_image
from pixelrt.video.sources.base import DEFAULT_FPS, BaseSource, check_color, check_fps
from pixelrt.video.sources.resizing import SizeWatch

_EXPECTED = (
    "expected an iterable of uint8[H, W, 3] arrays or Frames, or a function that gives the next one "
    "and raises StopIteration at the end"
)


class IteratorSource(BaseSource):
    """Each item is a frame. The first is taken at once: its size is the source's.

    `interrupt` ends the iteration before the next item is taken; an item that is being made is waited for,
    since Python cannot end somebody else's generator from another thread. A `PushSource` has no such wait.

    Args:
        items: An iterable of arrays uint8[H, W, 3] (NumPy, or on a GPU) or `Frame`s; a generator function; or
            a function that gives the next one each time, and raises StopIteration at the end.
        name: Of the source, and of frames that have none.
        fps: Frames a second that the items stand for.
        color: Order of the channels of arrays. Frames have their own.
        live: Whether items come at their own time, as from a camera; then frames are timed as they come.
        copy: Whether host arrays are copied, so that the program may use their memory again. Without, each
            item must be memory of its own. Arrays on a GPU are never copied: leave them as they are until
            their result has been delivered.

    Raises:
        SourceError: If it is no such thing, gives no frame at all, or the first is no frame.
    """

    def __init__(
        self,
        items: Iterable[Any] | Callable[[], Any],
        *,
        name: str = "frames",
        fps: float = DEFAULT_FPS,
        color: ColorOrder = "rgb",
        live: bool = False,
        copy: bool = True,
    ) -> None:
        check_fps(fps)
        check_color(color)
        self.name, self.fps, self.live = name, fps, live
        self.num_frames = len(items) if isinstance(items, Sized) else None
        self._color, self._copy = color, copy
        self._items = _iterator(items, name)
        self._start_s = self._last_s = -float("inf")
        first = self._next(0)
        if first is None:
            raise SourceError(f"{name}: {type_of(items)} gave no frame; {_EXPECTED}")
        self._first: Frame | None = first
        self.size: tuple[int, int] = first.size

    def __enter__(self) -> IteratorSource:
        return self

    def __iter__(self) -> Iterator[Frame]:
        frame, self._first = self._first, None
        sizes = SizeWatch(self, self.size)
        while frame is not None and not self.interrupted:
            sizes.see(frame.size)
            index = frame.index
            yield frame
            frame = None if self.interrupted else self._next(index + 1)

    def close(self) -> None:
        """End the generator, so that its `finally` runs."""
        self._first = None
        end = getattr(self._items, "close", None)
        if inspect.isgenerator(self._items) and end is not None:
            end()

    def _next(self, index: int) -> Frame | None:
        try:
            item = next(self._items)
        except StopIteration:
            return None
        what = f"frame {index} of {self.name}"
        frame = self._numbered(item, index) if isinstance(item, Frame) else self._made(item, index, what)
        check_captured(frame.captured_s, self._last_s, what)
        self._last_s = frame.captured_s
        return frame

    def _numbered(self, frame: Frame, index: int) -> Frame:
        """A frame of the program, in its place among those that came."""
        return dataclasses.replace(frame, index=index, source=frame.source or self.name)

    def _made(self, item: Any, index: int, what: str) -> Frame:
        now_s = time.monotonic()
        if not index:
            self._start_s = now_s
        return Frame(
            image=checked_image(item, what, copy=self._copy),
            color=self._color,
            source=self.name,
            index=index,
            time_s=now_s - self._start_s if self.live else index / self.fps,
            name=f"{self.name}-{index:06d}",
            captured_s=now_s,
        )


def _iterator(items: Any, name: str) -> Iterator[Any]:
    if isinstance(items, (str, bytes, dict)) or inspect.isasyncgen(items):
        raise SourceError(f"{name}: got {type_of(items)}; {_EXPECTED}")
    if getattr(items, "ndim", 4) != 4:
        raise SourceError(
            f"{name}: got one array {items.dtype}{list(items.shape)}, expected several images: a list of "
            "them, [image] for a single one, or a batch uint8[N, H, W, 3]"
        )
    if inspect.isgeneratorfunction(items):
        return iter(items())
    if isinstance(items, Iterable):
        return iter(items)
    if callable(items):
        return _called(items)
    raise SourceError(f"{name}: got {type_of(items)}; {_EXPECTED}{_hint(items)}")


def _hint(items: Any) -> str:
    if hasattr(items, "isOpened"):
        return "; give the stream itself what OpenCV was given: a number, a path or an address"
    if hasattr(items, "__array_interface__"):  # an image of Pillow
        return "; np.asarray makes an array of an image"
    return ""


def _called(function: Callable[[], Any]) -> Iterator[Any]:
    while True:
        try:
            item = function()
        except StopIteration:
            return
        if isinstance(item, Iterator):
            raise SourceError(f"{type_of(function)} returned {type_of(item)}; give that to the stream")
        if item is None:
            raise SourceError(
                f"{type_of(function)} returned None, expected uint8[H, W, 3] or a Frame; "
                "at the end of the frames it raises StopIteration, or end() of a PushSource says so"
            )
        yield item
