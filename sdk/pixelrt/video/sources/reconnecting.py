"""Connections that break and come back: one source over many lives of a camera."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from pixelrt.errors import SourceError, SourceStalled, UnusableSource
from pixelrt.interrupts import started, uninterrupted
from pixelrt.video.events import Event, EventKind, ignore
from pixelrt.video.frame import Frame
from pixelrt.video.sources.base import DEFAULT_FPS, BaseSource, Source
from pixelrt.video.sources.resizing import SizeWatch
from pixelrt.video.waiting import Flag

_MOST_EARLY = 64
"""Events from before the iteration that are kept, the last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait between tries: exponential with full jitter, up to a limit.

    Each wait is drawn evenly between zero and a bound that doubles, so that many clients do not come back to
    a server all at once ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015: "full jitter").

    Raises:
        SourceError: If the limits make no sense.
    """

    first_s: float = 0.5
    """The bound of the first wait."""
    most_s: float = 10.0
    """The bound never exceeds this."""
    stable_s: float = 10.0
    """After so long a life the bound begins from `first_s` again."""

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.most_s:
            raise SourceError(
                f"waits between tries of {self.first_s:g} s to {self.most_s:g} s make no sense; "
                "expected 0 < first <= most"
            )

    def wait_s(self, failures: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after so many failures in a row (from 1); `draw` gives a number in 0 to 1."""
        doublings = min(failures - 1, 60)
        return min(self.most_s, self.first_s * float(2**doublings)) * draw()


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """What is done when a connection cannot be made or breaks."""

    reconnect: bool = True
    """Whether a live connection that broke is made again, for as long as it takes."""
    wait: bool = False
    """Whether the first connection is waited for, while iterating; else its failure is an error at once."""
    backoff: Backoff = Backoff()


class Reconnecting(BaseSource):
    """Frames of one camera over all its connections, as if there were one.

    `index` goes on without gaps and `time_s` of a camera never goes back; a film's times are its own. A
    connection that ends by itself has ended; one that fails is made again, if it is live. It is opened when
    this is constructed, up to its first frame; the last 64 events until then are told when the iteration
    begins. One that is waited for is opened by the iteration: until its first frame it counts as live, its
    size is (0, 0), and its rate `fps`.

    Args:
        connect: Opens one connection. It returns at once: the source that it gives connects when it is
            iterated over, and raises SourceError there. Its `fps`, `live` and `num_frames` hold from the
            first frame on.
        name: Name of the source and, with a number, of its frames.
        persistence: When to try again, and how soon.
        fps: Nominal frames a second, until a connection says.
        late_s: The first frame of a live source, which waits for the iteration to begin, is left out if it is
            older than that by then.

    Raises:
        SourceError: If the first connection fails or ends without a frame, and is not waited for.
    """

    def __init__(
        self,
        connect: Callable[[], Source],
        *,
        name: str,
        persistence: Persistence = Persistence(),
        fps: float = DEFAULT_FPS,
        late_s: float = 0.25,
    ) -> None:
        self.name = name
        self.fps: float = fps
        self.num_frames: int | None = None
        self.size: tuple[int, int] = (0, 0)
        self.live = True
        self._connect, self._persistence, self._late_s = connect, persistence, late_s
        self._wake = Flag()
        self._life: Source | None = None
        self._lost_before: tuple[Counter[str], Source | None] = Counter(), None
        """Losses of connections that are over, and the one whose losses come on top: replaced at once."""
        self._frames = self._over_all_lives()
        self._rest = self._once_it_is_there() if persistence.wait else self._already_there()

    def __enter__(self) -> Reconnecting:
        return self

    def __iter__(self) -> Iterator[Frame]:
        return self._rest

    @property
    def losses(self) -> Mapping[str, int]:  # type: ignore[override]
        """Frames that came and were not delivered, by reason, over all connections."""
        lost, life = self._lost_before
        return lost if life is None else lost + Counter(life.losses)

    def interrupt(self) -> None:
        """End the iteration at once, also while it waits, connects or backs off."""
        self.interrupted = True
        self._wake.set()
        life = self._life
        if life is not None:
            life.interrupt()

    def close(self) -> None:
        """End the connection. Takes as long as closing one connection does."""
        self.interrupt()
        self._frames.close()
        if self._life is not None:
            self._end(self._life)

    def _already_there(self) -> Iterator[Frame]:
        """Connect now; gives all frames."""
        early: deque[Event] = deque(maxlen=_MOST_EARLY)
        self.on_event = early.append
        try:
            first = self._first()
        except KeyboardInterrupt:  # which does not wait for a camera that does not answer
            started(threading.Thread(target=self.close, name=f"close {self.name}", daemon=True))
            raise
        except BaseException:
            self.close()
            raise
        self.on_event = ignore
        return self._deliver(first, early)

    def _once_it_is_there(self) -> Iterator[Frame]:
        """Connect when the first frame is asked for."""
        try:
            first = self._first()
        except SourceError:
            if self.interrupted:
                return
            raise
        yield from self._deliver(first, [])

    def _first(self) -> Frame:
        first = next(self._frames, None)
        if first is None:
            raise SourceError(f"{self.name} ended without a single frame; is anything sent there?")
        self.size = first.size
        return first

    def _deliver(self, first: Frame, early: Iterable[Event]) -> Iterator[Frame]:
        """All frames, numbered and timed over all connections."""
        for event in early:
            self.on_event(event)
        frames = chain([first], self._frames)
        if self.live and time.monotonic() - first.captured_s > self._late_s:
            self._lost_before = self._lost_before[0] + Counter(replaced=1), self._lost_before[1]
            next(frames)
        sizes = SizeWatch(self, self.size)
        for index, frame in enumerate(self._timed(frames)):
            sizes.see(frame.size)
            yield replace(frame, index=index, name=f"{self.name}-{index:06d}", source=self.name)

    def _timed(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Frames with their times since the very first one; every frame with number 0 begins a connection."""
        start_s, base_s, last_s = 0.0, 0.0, -1.0
        for frame in frames:
            if last_s < 0:
                start_s, base_s = frame.captured_s, -frame.time_s
            elif not frame.index:
                base_s = max(frame.captured_s - start_s, last_s + 1 / self.fps)
            last_s = base_s + frame.time_s
            yield replace(frame, time_s=last_s)

    def _over_all_lives(self) -> Generator[Frame, None, None]:
        """Frames as each connection gives them."""
        failures, attempt, began_s = 0, 0, 0.0
        while not self.interrupted:
            life = self._begin()
            problem: SourceError | None = None
            alive = False
            try:
                for frame in life:
                    if not alive:
                        alive, began_s = True, time.monotonic()
                        self._connected(life, attempt)
                    yield frame
            except SourceError as found:
                problem = found
            if self.interrupted:
                return  # `close` ends the life, which may take longer than an iteration may
            self._end(life)
            if problem is None:
                self._tell("ended", "the source has no more frames")
                return
            if not self._goes_on(problem, first=began_s == 0.0):
                self._tell("failed", str(problem))
                raise problem
            if alive:
                self._tell("stalled" if isinstance(problem, SourceStalled) else "lost", str(problem))
            stable = alive and time.monotonic() - began_s >= self._persistence.backoff.stable_s
            failures = 1 if stable else failures + 1
            attempt = 1 if alive else attempt + 1
            self._pause(problem, failures, attempt)

    def _begin(self) -> Source:
        """Open a connection; an interrupt that comes at the same time reaches it."""
        with uninterrupted():  # it has a thread already, which `close` must find
            life = self._life = self._connect()
        life.on_event = lambda event: self.on_event(event)
        self._lost_before = self._lost_before[0], life
        if self.interrupted:
            life.interrupt()
        return life

    def _connected(self, life: Source, attempt: int) -> None:
        self.live, self.fps, self.num_frames = life.live, life.fps, life.num_frames
        if self._persistence.wait and not life.live:
            raise UnusableSource(
                f"{self.name} is a film, not a camera, and only cameras are waited for; "
                "give it without wait=yes when it is there"
            )
        self._tell("connected", "frames come again" if attempt else "frames come")

    def _end(self, life: Source) -> None:
        life.close()
        self._life = None
        self._lost_before = self._lost_before[0] + Counter(life.losses), None

    def _goes_on(self, problem: SourceError, *, first: bool) -> bool:
        if first:
            return self._persistence.wait and not isinstance(problem, UnusableSource)
        return self._persistence.reconnect and self.live

    def _pause(self, problem: SourceError, failures: int, attempt: int) -> None:
        wait_s = self._persistence.backoff.wait_s(failures)
        self._tell("reconnecting", f"{problem}; next try in {wait_s:.1f} s", attempt=attempt, wait_s=wait_s)
        self._wake.wait(wait_s)

    def _tell(self, kind: EventKind, detail: str, *, attempt: int = 0, wait_s: float = 0.0) -> None:
        self.on_event(Event(kind=kind, source=self.name, detail=detail, attempt=attempt, wait_s=wait_s))
