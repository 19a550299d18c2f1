"""Where results go: a thread for each sink, and the place where the program takes them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelrt.segmentation import Segmentation
from pixelrt.video.artist import Artist
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Bytes, Frame
from pixelrt.video.live.books import Books
from pixelrt.video.live.failing import Failing
from pixelrt.video.live.inputs import Input
from pixelrt.video.live.mailbox import STOPPED, Mailbox, Room
from pixelrt.video.live.stages import StageClock
from pixelrt.video.live.statistics import SinkStatistics
from pixelrt.video.sinks.base import Sink, checked_outputs, left_by, progress_of, tells_progress
from pixelrt.video.waiting import nothing

_LOG = logging.getLogger("pixelrt.video")
_SINK_PLACES = 8
"""Results that may wait for a sink: a quarter of a second of a camera. Several sources share them."""
_FEWEST_SINK_PLACES = 2
"""Of each source, however many there are."""
_FINISHING = 6
"""Finishing a recording may take so many times what a single result may, after its file has last changed."""
_LOOK_S = 0.25
"""How often it is looked whether that file changes."""
_PROGRAM_PLACES = 4
"""Results that may wait for the program where none may be dropped."""


class TimedArtist(Artist):
    """An artist whose drawing is timed."""

    clock: StageClock

    def draw(self, frame: Frame, result: Segmentation) -> Bytes:
        """The overlay, uint8[H, W, 3] RGB."""
        began_s = time.monotonic()
        overlay = super().draw(frame, result)
        self.clock.add("draw", time.monotonic() - began_s)
        return overlay


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A result on its way out."""

    place: int
    """Of the source of its frame."""
    delivery: Delivery


class Lane:
    """A sink, and the results that wait for it; `run` writes them.

    Args:
        sink: Is closed or aborted here.
        name: What it is called.
        inputs: The sources. Where only the newest of one counts, results that the sink is too slow for are
            dropped; else the source waits for it.
        clock: Notes how long it takes.
        on_failure: Told of what the sink raises.
    """

    def __init__(
        self,
        sink: Sink,
        name: str,
        *,
        inputs: Sequence[Input],
        clock: StageClock,
        on_failure: Callable[[Lane, BaseException], None],
    ) -> None:
        self.sink, self.name, self._clock, self._inputs = sink, name, clock, tuple(inputs)
        places = max(_SINK_PLACES // len(inputs), _FEWEST_SINK_PLACES)
        rooms = [Room(places, given.newest) for given in inputs]
        self._mailbox: Mailbox[Delivery] = Mailbox(rooms, drop=self._drop, replaced="newer")
        self._failing = Failing(self._fail)
        self._on_failure = on_failure
        self._written = self._dropped = 0
        self._aborted = self._ended = False
        self._failed = ""
        self._progress_s, self._may_take = time.monotonic(), 1
        self.outputs: tuple[Path, ...] = ()
        """Files and folders that it has finished, or that are left of it after an error."""

    def run(self) -> None:
        """Write results until there are no more, and finish."""
        with self._failing:
            self._write_all()
            if not self._aborted:
                self._finish()
        if self._aborted:
            with self._failing:
                self.sink.abort()
                self.outputs = self.outputs or checked_outputs(left_by(self.sink), self.name, "remains")
        self._ended = True

    @property
    def shows(self) -> bool:
        """Whether the sink looks at frames."""
        return getattr(self.sink, "wants_picture", True)

    def give(self, place: int, delivery: Delivery) -> None:
        """Hand it a result, if it takes those of its source."""
        if self._takes(place):
            self._mailbox.put(place, delivery)

    def has_room(self, place: int, coming: int) -> bool:
        """Whether `give` would not wait, after as many results of a source as are coming. Uses no lock."""
        return not self._takes(place) or self._mailbox.has_room(place, coming)

    def listen_for_room(self, on_room: Callable[[], None]) -> None:
        """Have a function called when there may be room again."""
        self._mailbox.on_room = on_room

    def discard(self) -> None:
        """Give the sink up, which never runs."""
        self._ended = True
        self.sink.abort()

    def finish(self) -> None:
        """No more results come; those that wait are written."""
        self._mailbox.finish_all()

    def abort(self) -> None:
        """Write no more, and drop what is half-written."""
        self._aborted = True
        self._mailbox.close()

    def is_busy(self, patience_s: float) -> bool:
        """Whether it still writes or finishes, and is not blocked for all that is known."""
        return not self._ended and time.monotonic() - self._progress_s < self._may_take * patience_s

    def statistics(self) -> SinkStatistics:
        """Its figures."""
        return SinkStatistics(
            name=self.name,
            written=self._written,
            dropped=self._dropped,
            queue_depth=sum(self._mailbox.depth(given.place) for given in self._inputs),
            failed=self._failed,
        )

    def _write_all(self) -> None:
        while deliveries := self._mailbox.take():
            for delivery in deliveries:
                began_s = time.monotonic()
                try:
                    self.sink.write(delivery.delivered_at(began_s))
                except BaseException:
                    self._dropped += 1
                    raise
                self._clock.add(f"sink {self.name}", time.monotonic() - began_s)
                self._written += 1
                self._progress_s = time.monotonic()

    def _finish(self) -> None:
        self._progress_s, self._may_take = time.monotonic(), _FINISHING
        with self._looked_at():
            self.outputs = checked_outputs(self.sink.close(), self.name)

    @contextlib.contextmanager
    def _looked_at(self) -> Iterator[None]:
        """Look whether the sink gets on, during a block."""
        over = threading.Event()
        looking = threading.Thread(
            target=self._look, args=(over,), name=f"pixelrt progress {self.name}", daemon=True
        )
        with Failing(self._cannot_tell, Exception):
            if tells_progress(self.sink):
                looking.start()
        try:
            yield
        finally:
            over.set()
            if looking.ident is not None:
                looking.join(_LOOK_S)

    def _look(self, over: threading.Event) -> None:
        """Note when the file that is being finished has changed: a long film on a slow card takes minutes.

        In a thread of its own, since a disk that does not answer does not answer this either.
        """
        with Failing(self._cannot_tell, Exception):
            seen: object = None
            while not over.wait(_LOOK_S):
                before, seen = seen, progress_of(self.sink)
                if seen != before:
                    self._progress_s = time.monotonic()

    def _cannot_tell(self, problem: BaseException) -> None:
        _LOG.debug("sink %s cannot tell how it gets on", self.name, exc_info=problem)

    def _takes(self, place: int) -> bool:
        return getattr(self.sink, "only_source", None) in (None, self._inputs[place].name)

    def _drop(self, delivery: Delivery, reason: str) -> None:
        self._dropped += 1

    def _fail(self, problem: BaseException) -> None:
        if self._failed:  # and cannot even be aborted: that it failed was told
            _LOG.debug("sink %s, after it failed", self.name, exc_info=problem)
            return
        self._failed = str(problem) or type(problem).__name__
        self.abort()
        self._on_failure(self, problem)


class Outlets:
    """Hands every result to the sinks and to the program.

    Args:
        lanes: The sinks.
        inputs: The sources. Where only the newest of one counts, a result replaces one that the program has
            not taken yet.
        deadline_s: Age at which a result is dropped.
        books: Counts and times.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        inputs: Sequence[Input],
        *,
        deadline_s: float | None,
        books: Books,
    ) -> None:
        self._lanes, self._deadline_s = tuple(lanes), deadline_s
        self._ledger, self._clock = books.ledger, books.clock
        self._shows = any(lane.shows for lane in lanes)
        self._program: Mailbox[Outgoing] = Mailbox(
            [Room(1 if given.newest else _PROGRAM_PLACES, given.newest) for given in inputs],
            drop=lambda outgoing, reason: books.ledger.dropped(outgoing.place, reason),
            replaced="consumer",
        )
        self.has_program = True
        """Whether somebody takes results; without, they are delivered when the sinks have them."""
        self.is_left = False
        """Whether the program takes no more. A signal handler may set it, which must wait for no lock."""
        self.on_result: Callable[[], None] = nothing
        """Called when there is a result that is not too old."""
        self._stopped = False

    def give(self, place: int, delivery: Delivery) -> None:
        """Hand a result to all; waits where a sink or the program must not miss one and is slow."""
        if self._stopped:
            self._ledger.dropped(place, STOPPED)
        elif self._is_late(delivery):
            self._ledger.dropped(place, "deadline")
        else:
            self.on_result()
            for lane in self._lanes:
                lane.give(place, delivery.kept() if lane.shows else delivery)
            if self.has_program:
                self._program.put(place, Outgoing(place, delivery))
            else:
                self._time(self._counted(Outgoing(place, delivery)))

    def kept(self, frame: Frame) -> Frame:
        """The frame as sinks may look at it later: of one on a GPU a copy on the host, if any sink does.

        The memory of a camera may hold another picture by then.

        Raises:
            InputError: If it cannot be copied.
        """
        if not self._shows or isinstance(frame.image, np.ndarray):
            return frame
        return dataclasses.replace(frame, image=frame.on_host())

    def has_room(self, place: int, coming: int) -> bool:
        """Whether `give` would not wait, after as many results of a source as are coming. Uses no lock."""
        if self.has_program and not self._program.has_room(place, coming):
            return False
        return all(lane.has_room(place, coming) for lane in self._lanes)

    def listen_for_room(self, on_room: Callable[[], None]) -> None:
        """Have a function called when there may be room again; it must return at once."""
        self._program.on_room = on_room
        for lane in self._lanes:
            lane.listen_for_room(on_room)

    def take(self, timeout_s: float | None = None) -> Delivery | None:
        """The next result for the program.

        Args:
            timeout_s: How long to wait; None until there is one or there will be none.

        Returns:
            None if there is none, or none any more (`finished`).
        """
        delivered: list[Delivery] = []
        while not self.is_left:
            taken = self._program.take(timeout_s, noted=lambda outgoing: self._note(outgoing, delivered))
            if not taken:
                break
            if delivered:
                self._time(delivered[0])
                return delivered[0]
        return None

    @property
    def finished(self) -> bool:
        """Whether the program gets no more."""
        return self._program.finished

    @contextlib.contextmanager
    def waking(self, on_change: Callable[[], None]) -> Iterator[None]:
        """Have a function called when `take` may have something to say; it must return at once."""
        self._program.listen(on_change)
        try:
            yield
        finally:
            self._program.unlisten(on_change)

    def finish(self) -> None:
        """No more results come; those on their way are delivered and written."""
        for lane in self._lanes:
            lane.finish()
        self._program.finish_all()

    def stop(self) -> None:
        """The program goes: what it has not taken is dropped; the sinks finish what they have."""
        self._stopped = True
        self.finish()
        self._program.close()

    def abort(self) -> None:
        """Something failed: the program may take what there is; the sinks drop what is half-written."""
        self._stopped = True
        for lane in self._lanes:
            lane.abort()
        self._program.finish_all()

    def _is_late(self, delivery: Delivery) -> bool:
        if self._deadline_s is None:
            return False
        return time.monotonic() - delivery.frame.captured_s > self._deadline_s

    def _note(self, outgoing: Outgoing, delivered: list[Delivery]) -> None:
        """Count a result of the program, with the mailbox's lock: whoever closes that settles all counts."""
        if self.is_left:
            self._ledger.dropped(outgoing.place, STOPPED)
        elif self._is_late(outgoing.delivery):
            self._ledger.dropped(outgoing.place, "deadline")
        else:
            delivered.append(self._counted(outgoing))

    def _counted(self, outgoing: Outgoing) -> Delivery:
        self._ledger.delivered(outgoing.place)
        return outgoing.delivery.delivered_at(time.monotonic())

    def _time(self, delivery: Delivery) -> None:
        times = delivery.times
        self._clock.add("deliver", times.delivered_s - times.computed_s)
        self._clock.add("capture to delivery", times.delivered_s - times.captured_s)
