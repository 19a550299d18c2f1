"""A thread that takes the frames of one source as they come."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pixelrt.errors import InputError
from pixelrt.manifest import ColorOrder
from pixelrt.strict import type_of
from pixelrt.video.events import ignore
from pixelrt.video.frame import Frame
from pixelrt.video.live.books import Books
from pixelrt.video.live.failing import Failing
from pixelrt.video.live.inputs import Input
from pixelrt.video.live.mailbox import Mailbox
from pixelrt.video.live.watching import SourceWatch
from pixelrt.video.sources.base import frame_prefix


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that came."""

    place: int
    """Of its source."""
    frame: Frame
    received_s: float


class Capture:
    """Takes the frames of a source and leaves them in the mailbox; `run` does it.

    Args:
        given: The source.
        color: The order of channels that the segmenter takes.
        mailbox: Gets the frames.
        books: Counts and times.
        watch: Knows how the source is.
        on_failure: Told of what the source raises.
        ahead: Whether a frame is asked for while the one before still waits, and not so that it is young.
    """

    def __init__(
        self,
        given: Input,
        color: ColorOrder,
        *,
        mailbox: Mailbox[Arrival],
        books: Books,
        watch: SourceWatch,
        on_failure: Callable[[BaseException], None],
        ahead: bool = True,
    ) -> None:
        self.given, self._source, self._color = given, given.source, color
        self._mailbox, self.watch = mailbox, watch
        self._ledger, self._clock = books.ledger, books.clock
        self._failing = Failing(self._fail)
        self._on_failure, self._ahead = on_failure, ahead
        self._stopped = self._failed = False
        self.size = given.source.size

    def run(self) -> None:
        """Take frames until the source ends or fails, or `stop`."""
        self._source.on_event = self.watch.on_event
        try:
            with self._failing:
                self._take_all()
            if not self._failed and not self._stopped:
                self.watch.ended()
        finally:
            self.watch.stopped()
            self._mailbox.finish(self.given.place)
            self._source.on_event = ignore
            if self.given.owned:
                self._source.close()

    def stop(self) -> None:
        """Take no more frames. From any thread."""
        self._stopped = True

    def interrupt(self) -> None:
        """Have the source give up at once what it waits for. From any thread."""
        self._source.interrupt()

    def discard(self) -> None:
        """Give the source back, whose frames nobody will take."""
        if self.given.owned:
            self._source.close()

    def _take_all(self) -> None:
        frames = iter(self._source)
        while not self._stopped and (frame := self._next(frames)) is not None:
            self._mailbox.put(self.given.place, Arrival(self.given.place, frame, time.monotonic()))

    def _next(self, frames: Iterator[Frame]) -> Frame | None:
        if not self._ahead:
            self._mailbox.wait_for_room(self.given.place)
            if self._stopped:
                return None
        self.watch.asked()
        asked_s = time.monotonic()
        try:
            frame = next(frames)
        except StopIteration:
            return None
        self._check(frame)
        self._ledger.captured(self.given.place)
        self.size = frame.size
        self.watch.came(frame.size, self._source.fps)
        since_s = frame.captured_s if self._source.live else asked_s
        self._clock.add("decode", time.monotonic() - since_s)
        return self._named(frame)

    def _named(self, frame: Frame) -> Frame:
        """The frame under the name that the stream has for its source.

        Frames that a program passes on from elsewhere may have that source's name; and where another source
        of the stream has the same name, its frames' names are told apart, too.
        """
        source, name, own = self.given.name, frame.name, f"{frame_prefix(self._source.name)}-"
        if source != self._source.name:  # a count in the name stays its end, which folders rely on
            name = f"{frame_prefix(source)}-{name.removeprefix(own)}"
        elif frame.source == source:
            return frame
        return dataclasses.replace(frame, source=source, name=name)

    def _check(self, frame: Frame) -> None:
        if not isinstance(frame, Frame):
            raise InputError(
                f"{self._source.name} gave {type_of(frame)}, expected a pixelrt.video.frame.Frame; "
                "hand arrays over as a list, a generator, or by a PushSource"
            )
        if frame.color != self._color:
            raise InputError(
                f"{self._source.name} says that its frames are in {frame.color}, this segmenter takes "
                f"{self._color}; if they are in {self._color} (OpenCV gives bgr), say so where the source is "
                f"made: color={self._color!r}; if not, load the bundle for them: "
                f"pixelrt.load(..., color={frame.color!r})"
            )

    def _fail(self, problem: BaseException) -> None:
        self._failed = True
        if not self._stopped:
            self.watch.failed(problem)
            self._on_failure(problem)
