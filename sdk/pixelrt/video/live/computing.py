"""The thread that computes: the only one that uses the segmenter."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pixelrt.errors import ContextLost, DeviceError, ExecutionFailed
from pixelrt.patience import waiting_for_others
from pixelrt.segmentation import Segmentation, Segmenter
from pixelrt.video.artist import Artist, Picture
from pixelrt.video.delivery import Delivery, Times
from pixelrt.video.events import Event
from pixelrt.video.live.adapting import Computed
from pixelrt.video.live.books import Books
from pixelrt.video.live.capturing import Arrival
from pixelrt.video.live.mailbox import STOPPED, Mailbox
from pixelrt.video.live.outlets import Outlets
from pixelrt.video.live.pacing import Pace
from pixelrt.video.live.sizing import Sizing
from pixelrt.video.waiting import Flag

if TYPE_CHECKING:
    from pixelrt.video.live.sizing import AnySegmenter

_MOST_FRESH = 2
"""Frames on their way where the newest matters: the third would only wait."""
_MOST_FAILURES = 10
"""So many frames in a row may have no result before the stream ends."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """Frames on their way through the network."""

    arrivals: Sequence[Arrival]
    results: Callable[[], Sequence[Segmentation]]
    """Waits for them."""
    level: int
    submitted_s: float


class Computing:
    """Takes frames out of the mailbox, has them computed, and hands the results on; `run` does it.

    Args:
        sizing: The segmenters, used by this thread alone.
        head: Whose results are delivered.
        artist: Draws overlays where they are asked for.
        deadline_s: Age at which a frame is not computed.
        mailbox: Gives the frames.
        outlets: Take the results.
        books: Counts and times.
        tell: Told of the place of a source and of its frame that has no result.
    """

    def __init__(
        self,
        sizing: Sizing,
        head: str,
        artist: Artist,
        deadline_s: float | None,
        *,
        mailbox: Mailbox[Arrival],
        outlets: Outlets,
        books: Books,
        tell: Callable[[int, Event], None],
    ) -> None:
        segmenter = sizing.segmenter(0)
        self._sizing, self._head, self._artist = sizing, head, artist
        self._mailbox, self._outlets, self._tell = mailbox, outlets, tell
        self._ledger, self._clock = books.ledger, books.clock
        self._deadline_s, self._newest = deadline_s, mailbox.keeps_newest
        self._most = min(segmenter.slots, _MOST_FRESH) if self._newest else segmenter.slots
        self._largest_batch = _largest_batch(segmenter)
        here = isinstance(segmenter, Segmenter)
        self._survivable = (ExecutionFailed,) if here else (ExecutionFailed, ContextLost)
        self._flights: deque[_Flight] = deque()
        self._failures = 0
        self._free_s = 0.0
        self._pace = Pace()
        self._stopped = Flag()
        self.network_s = 0.0
        """How long the network took for the latest frame."""

    def run(self) -> None:
        """Compute until there are no more frames, or `stop`."""
        with waiting_for_others():
            try:
                while self._step():
                    pass
            finally:
                self._land()

    def stop(self) -> None:
        """Compute nothing more. From any thread."""
        self._stopped.set()

    def _step(self) -> bool:
        """Hand over what has come, or else wait for the oldest result; whether there may be more to do."""
        if arrivals := self._arrivals():
            self._submit(arrivals)
        elif self._flights:
            self._collect()
        else:
            return not self._mailbox.finished
        while len(self._flights) >= self._most:
            self._collect()
        return True

    def _arrivals(self) -> list[Arrival]:
        """Frames to compute now."""
        if not self._flights:
            arrivals = self._mailbox.take(None, self._largest_batch, self._may_go)
        else:
            self._linger()
            arrivals = self._mailbox.take(0, self._largest_batch, self._may_go)
        return [arrival for arrival in arrivals if self._is_in_time(arrival)]

    def _may_go(self, place: int) -> bool:
        """Whether there will be room for one more result of a source: waiting would delay the others."""
        arrivals = [arrival for flight in self._flights for arrival in flight.arrivals]
        return self._outlets.has_room(place, sum(arrival.place == place for arrival in arrivals))

    def _linger(self) -> None:
        """Wait while the next frame can still become newer without loss of time."""
        if self._newest:
            began_s = max(self._flights[-1].submitted_s, self._free_s)
            self._stopped.wait(self._pace.wait_s(time.monotonic() - began_s))

    def _is_in_time(self, arrival: Arrival) -> bool:
        late = self._deadline_s is not None and _age_s(arrival) > self._deadline_s
        if late or self._stopped.is_set():
            self._ledger.dropped(arrival.place, "deadline" if late else STOPPED)
            return False
        return True

    def _submit(self, arrivals: Sequence[Arrival]) -> None:
        level, submitted_s = self._sizing.level, time.monotonic()
        segmenter = self._sizing.segmenter(level)
        for arrival in arrivals:
            self._clock.add("wait", submitted_s - arrival.received_s)
        try:
            results = _submitted(segmenter, [arrival.frame.image for arrival in arrivals])
        except self._survivable as problem:
            self._skip(arrivals, problem)
        except BaseException:
            self._drop(arrivals)
            raise
        else:
            self._flights.append(_Flight(arrivals, results, level, submitted_s))
            while len(arrivals) > 1 and self._flights:  # a batch is done already
                self._collect()

    def _collect(self) -> None:
        """Wait for the oldest frames on their way, and hand their results on."""
        flight = self._flights.popleft()
        try:
            results = flight.results()
        except self._survivable as problem:
            self._skip(flight.arrivals, problem)
        except BaseException:
            self._drop(flight.arrivals)
            raise
        else:
            self._hand_on(flight, results)

    def _hand_on(self, flight: _Flight, results: Sequence[Segmentation]) -> None:
        computed_s = time.monotonic()
        busy_s = computed_s - max(flight.submitted_s, self._free_s)
        self._free_s, self._failures = computed_s, 0
        self._pace.computed(busy_s)
        self.network_s = busy_s / len(results)
        self._note(flight, computed_s)
        for arrival, result in zip(flight.arrivals, results, strict=True):
            self._clock.add("network", computed_s - flight.submitted_s)
            self._outlets.give(arrival.place, self._delivery(flight, arrival, result, computed_s))

    def _note(self, flight: _Flight, computed_s: float) -> None:
        """Tell the choice of sizes."""
        self._sizing.computed(
            Computed(
                level=flight.level,
                submitted_s=flight.submitted_s,
                done_s=computed_s,
                captured=self._ledger.all_captured,
                captured_s=min(arrival.frame.captured_s for arrival in flight.arrivals),
                frames=len(flight.arrivals),
            )
        )

    def _delivery(
        self, flight: _Flight, arrival: Arrival, result: Segmentation, computed_s: float
    ) -> Delivery:
        _protect(result)
        frame, result = arrival.frame, result[self._head]
        times = Times(
            captured_s=frame.captured_s,
            received_s=arrival.received_s,
            submitted_s=flight.submitted_s,
            computed_s=computed_s,
            delivered_s=computed_s,
        )
        picture = Picture(self._artist, self._outlets.kept(frame), result)
        return Delivery(frame, result, times=times, picture=picture, size=self._sizing.size(flight.level))

    def _skip(self, arrivals: Sequence[Arrival], problem: DeviceError) -> None:
        """Go on without the result of some frames, unless no frame has had one for long."""
        self._failures += 1
        for arrival in arrivals:
            self._ledger.dropped(arrival.place, "failed")
            self._tell(arrival.place, Event(kind="skipped", source=arrival.frame.source, detail=str(problem)))
        if self._failures >= _MOST_FAILURES and not self._stopped.is_set():
            raise problem

    def _drop(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._ledger.dropped(arrival.place, "failed")

    def _land(self) -> None:
        """Wait for what is on its way; results that come are handed on, errors matter no more."""
        while self._flights:
            with contextlib.suppress(DeviceError):
                self._collect()


def _submitted(segmenter: AnySegmenter, images: Sequence[Any]) -> Callable[[], Sequence[Segmentation]]:
    """Start with images; several go through the network together."""
    if len(images) == 1:
        ticket = segmenter.submit(images[0])
        return lambda: [ticket.result()]
    results = segmenter.batch(images)
    return lambda: results


def _protect(result: Segmentation) -> None:
    """Make the arrays read-only, which sinks and the program share; they are this result's own."""
    for head in (result, *result.others.values()):
        for array in (head.mask, head.confidence, head.grid, head.logits):
            if array is not None:
                array.setflags(write=False)


def _largest_batch(segmenter: AnySegmenter) -> int:
    """How many frames are worth computing together: on a CPU they would come one after the other anyway."""
    if not isinstance(segmenter, Segmenter) or segmenter.session.info.device == "cpu":
        return 1
    return segmenter.session.largest_batch or segmenter.bundle.manifest.axes["batch"].max


def _age_s(arrival: Arrival) -> float:
    return time.monotonic() - arrival.frame.captured_s
