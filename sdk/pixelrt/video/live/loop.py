"""The parts of a stream put together, started, and ended."""

from __future__ import annotations

import _thread
import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pixelrt.errors import InputError
from pixelrt.interrupts import uninterrupted
from pixelrt.manifest import ColorOrder, Head
from pixelrt.video.events import Event
from pixelrt.video.health import Health
from pixelrt.video.live.books import Books
from pixelrt.video.live.capturing import Arrival, Capture
from pixelrt.video.live.computing import Computing
from pixelrt.video.live.failing import Failing, FirstFailure
from pixelrt.video.live.figures import Figures
from pixelrt.video.live.inputs import Input
from pixelrt.video.live.interrupting import interrupts_a_lock
from pixelrt.video.live.ledger import Ledger
from pixelrt.video.live.mailbox import STOPPED, Mailbox, Room
from pixelrt.video.live.opening import unique
from pixelrt.video.live.options import StreamOptions
from pixelrt.video.live.outlets import Lane, Outlets, TimedArtist
from pixelrt.video.live.sizing import Sizing
from pixelrt.video.live.stages import StageClock
from pixelrt.video.live.statistics import SourceStatus, StreamStatistics
from pixelrt.video.live.telling import StatisticsLog, Teller
from pixelrt.video.live.watching import Monitor, SourceWatch, Watchdog
from pixelrt.video.live.workers import Job, Workers
from pixelrt.video.sinks.base import Sink

_LOG = logging.getLogger("pixelrt.video")
_WAITING_PLACES = 2
"""Frames of a source that may wait for the network where every frame counts."""
_PATIENCE_S = 10.0
"""How long a thread may take to end before it is left behind: a driver or a disk that does not answer."""
_GRACE_S = 0.5
"""After a second Ctrl-C: Python crashes where it ends while a thread comes back from C++."""


class Loop:
    """Everything that a stream consists of, but for the program's own end of it.

    A `Stream` holds it and it knows no stream, so that one that is forgotten can be freed and ends this.

    Args:
        inputs: The sources.
        sinks: Opened.
        sizing: The segmenters.
        head: Whose results are delivered.
        color: Order of channels that the segmenter takes.
        options: With every choice made.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        sinks: Sequence[Sink],
        sizing: Sizing,
        head: Head,
        color: ColorOrder,
        options: StreamOptions,
    ) -> None:
        self.inputs, self._sinks, self._options = tuple(inputs), tuple(sinks), options
        self._lock, self._starting = threading.RLock(), threading.RLock()
        self._workers = Workers()
        self._process = os.getpid()
        self._halted_s: float | None = None
        self._wait_ends_s = math.inf
        self._left = ""
        self.failure = FirstFailure()
        self._failing, self._guarding = Failing(self.fail), Failing(self.fail, Exception)
        self._tell = Teller(options.on_event, self._failing).tell
        sizing.on_event = self._tell
        self._books = Books(Ledger(len(inputs)), StageClock())
        self._lanes = tuple(
            Lane(sink, name, inputs=inputs, clock=self._books.clock, on_failure=self._sink_failed)
            for sink, name in zip(sinks, _sink_names(sinks), strict=True)
        )
        self.outlets = Outlets(self._lanes, inputs, deadline_s=options.deadline, books=self._books)
        self._mailbox: Mailbox[Arrival] = Mailbox(
            [Room(_WAITING_PLACES if self._reads_ahead(given) else 1, given.newest) for given in inputs],
            drop=lambda arrival, reason: self._books.ledger.dropped(arrival.place, reason),
            replaced="newer",
        )
        self.outlets.listen_for_room(self._mailbox.look_again)
        self._computing = self._network(sizing, head)
        self._captures = tuple(self._capture(given, color) for given in inputs)
        self._figures = Figures(
            self._captures, self._lanes, books=self._books, mailbox=self._mailbox, failure=self.failure
        )
        watches = [capture.watch for capture in self._captures]
        self._log = StatisticsLog(options.log, self.statistics)
        self._monitor = Monitor(watches, self._books.ledger, lambda: self._computing.network_s, self._log)
        self._watchdog = self._dog()
        self._jobs = self._all_jobs()

    def start(self, *, has_program: bool) -> None:
        """Start all threads, unless they are started or this was closed.

        Args:
            has_program: Whether somebody will take the results.

        Raises:
            InputError: In a process that was forked off meanwhile.
        """
        if self._is_elsewhere():
            raise InputError(
                f"this stream belongs to process {self._process}, and its threads run there alone; "
                "make a stream in each process"
            )
        with self._starting:
            if self._workers.started or self._is_halted or self.outlets.is_left:
                return
            self._figures.begin()
            self.outlets.has_program = has_program
            for sink in self._sinks:
                sink.attach(self)
            with uninterrupted(), self._lock:
                self._start_all()

    def wait(self) -> None:
        """Wait until everything has ended, the sinks included, and raise what failed.

        In a thread of the stream itself this does nothing: it cannot wait for its own end. Neither does it
        in a signal handler that came in the middle of something, nor in a process that was forked off.

        Raises:
            PixelRTError: What a source, the network or a sink raised.
            BaseException: What a callback raised.
        """
        if self._join():
            self.failure.throw()

    def fail(self, problem: BaseException) -> None:
        """End everything because of an error. From any thread."""
        self.failure.keep(problem)
        self._halt(self.outlets.abort)

    def close(self) -> None:
        """Stop, and wait until it has; safe to call twice, and in a thread of the stream itself.

        A signal handler that came in the middle of something waits for nothing, not even for a lock: who has
        it may wait for one that the handler interrupted.
        """
        if self._is_elsewhere():
            return
        if interrupts_a_lock():
            self.outlets.is_left = True
            with contextlib.suppress(RuntimeError):  # no thread is started any more when Python ends
                _thread.start_new_thread(self._stop, ())  # `Thread.start` needs a lock of its own
                return
        try:
            self._stop()
        except BaseException:  # Ctrl-C, or the second one: this is not waited for
            self._end_wait()
            raise
        self._join()

    def _stop(self) -> None:
        self._halt(self.outlets.stop)
        self.outlets.stop()

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Files and folders that the sinks have finished; after an error also what is left of others."""
        return tuple(path for lane in self._lanes for path in lane.outputs)

    @property
    def health(self) -> Health:
        """As the worst source is; failed after an error."""
        return self._figures.health

    @property
    def sources(self) -> tuple[SourceStatus, ...]:
        """Every source, as it is now."""
        return self._figures.sources

    def statistics(self) -> StreamStatistics:
        """All figures."""
        return self._figures.statistics()

    def _reads_ahead(self, given: Input) -> bool:
        """Whether frames wait so that the network never does: not where they get too old meanwhile."""
        return not given.newest and (given.source.live or self._options.deadline is None)

    def _network(self, sizing: Sizing, head: Head) -> Computing:
        artist = TimedArtist(head.classes, alpha=self._options.alpha, legend=self._options.legend)
        artist.clock = self._books.clock
        return Computing(
            sizing,
            head.name,
            artist,
            self._options.deadline,
            mailbox=self._mailbox,
            outlets=self.outlets,
            books=self._books,
            tell=lambda place, event: self._captures[place].watch.on_event(event),
        )

    def _capture(self, given: Input, color: ColorOrder) -> Capture:
        watch = SourceWatch(given.name, given.source, stall_s=self._options.stall, tell=self._tell)
        return Capture(
            given,
            color,
            mailbox=self._mailbox,
            books=self._books,
            watch=watch,
            on_failure=self._source_failed,
            ahead=given.newest or self._reads_ahead(given),
        )

    def _dog(self) -> Watchdog | None:
        seconds, bark = self._options.watchdog, self._options.on_watchdog
        if seconds is None or bark is None:
            return None
        dog = Watchdog(seconds, bark)
        self.outlets.on_result = dog.feed
        return dog

    def _all_jobs(self) -> tuple[Job, ...]:
        """What each thread does."""
        jobs = [Job("pixelrt network", self._compute), Job("pixelrt monitor", self._monitor.run)]
        jobs += [Job(f"pixelrt sink {lane.name}", lane.run, lane.discard) for lane in self._lanes]
        jobs += [
            Job(f"pixelrt source {capture.given.name}", capture.run, capture.discard)
            for capture in self._captures
        ]
        if self._watchdog is not None:
            jobs.append(Job("pixelrt watchdog", self._watchdog.run))
        return tuple(jobs)

    def _start_all(self) -> None:
        if self._is_halted or self.outlets.is_left:  # while the sinks were attached
            self._figures.end()
            return
        for job in self._jobs:
            self._workers.start(job, self._failing)

    def _compute(self) -> None:
        """What the network's thread does: when it ends, so does everything."""
        with self._failing:
            self._computing.run()
        self._figures.end()
        self.outlets.finish()
        self._stop_watching()

    def _stop_watching(self) -> None:
        self._monitor.stop()
        if self._watchdog is not None:
            self._watchdog.stop()

    @property
    def _is_halted(self) -> bool:
        return self._halted_s is not None

    def _halt(self, end_outlets: Callable[[], None]) -> None:
        """End everything at once, without waiting for it; Ctrl-C ends a driver's part in it that hangs."""
        if self._is_halted:
            return
        with contextlib.ExitStack() as afterwards, uninterrupted():
            with self._lock:
                if self._is_halted:
                    return
                self._halted_s = time.monotonic()
            end_outlets()
            self._mailbox.close()
            self._computing.stop()
            self._stop_watching()
            self._stop_captures(afterwards)

    def _stop_captures(self, afterwards: contextlib.ExitStack) -> None:
        """Take no more frames, and interrupt the sources afterwards: all, even if Ctrl-C ends one of that."""
        for capture in self._captures:
            capture.stop()
            afterwards.callback(self._guarded, capture.interrupt)

    def _guarded(self, foreign: Callable[[], None]) -> None:
        """Call code of a source or a sink: its error ends the stream, Ctrl-C is the caller's."""
        with self._guarding:
            foreign()

    def _source_failed(self, problem: BaseException) -> None:
        """A source raised: what it gave before is computed and delivered first."""
        if self._options.on_source_error == "detach":
            self.failure.keep_for_the_end(problem)
            return
        self.failure.keep(problem)
        self._mailbox.finish_all()
        with contextlib.ExitStack() as afterwards:
            self._stop_captures(afterwards)

    def _sink_failed(self, lane: Lane, problem: BaseException) -> None:
        if self._options.on_sink_error == "stop":
            self.fail(problem)
            return
        _LOG.debug("sink %s gets no more results", lane.name, exc_info=problem)
        self._tell(Event(kind="sink_failed", source=lane.name, detail=str(problem)))

    def _join(self) -> bool:
        """Wait for all threads; for long only while they may still have work to do.

        Returns:
            Whether that was possible, here.
        """
        if self._is_elsewhere() or interrupts_a_lock() or self._workers.is_one():
            return False
        was_halted = self._is_halted
        try:
            left = self._workers.wait(self._is_patience_over)
        except BaseException:  # Ctrl-C: one ends the stream, another one the wait for that
            if was_halted:
                self._end_wait()
            raise
        if left:
            self._leave(", ".join(left))
        else:
            self._books.ledger.settle(STOPPED)
        self._discard()
        if self._workers.started:
            self._log.end()
        return True

    def _end_wait(self) -> None:
        """Wait for nothing any more but for what ends by itself just now."""
        self._wait_ends_s = min(self._wait_ends_s, time.monotonic() + _GRACE_S)

    def _leave(self, names: str) -> None:
        """Say which threads are left behind, and why; once."""
        said, self._left = self._left, names
        if names == said:
            return
        if self._wait_ends_s < math.inf:
            _LOG.warning("not waited for any longer (Ctrl-C): %s", names)
            return
        waited_s = time.monotonic() - (self._told_to_end_s or 0.0)
        _LOG.warning("left behind, since it did not end in %.0f s: %s", waited_s, names)

    def _discard(self) -> None:
        """Give back what no thread has used, and none will: all, even if Ctrl-C ends one of that."""
        if not self._jobs:
            return
        with self._starting, contextlib.ExitStack() as afterwards, uninterrupted():
            jobs, self._jobs = self._jobs, ()
            for job in reversed(jobs):
                if not self._workers.has_begun(job):
                    afterwards.callback(self._guarded, job.discard)

    def _is_elsewhere(self) -> bool:
        """Whether this is a process that was forked off, which has none of the threads."""
        return os.getpid() != self._process

    def _is_patience_over(self) -> bool:
        """Whether threads had their time to end: a driver or a disk may never answer."""
        if time.monotonic() >= self._wait_ends_s:
            return True
        began_s = self._told_to_end_s
        if began_s is None or time.monotonic() - began_s <= _PATIENCE_S:
            return False
        return not any(lane.is_busy(_PATIENCE_S) for lane in self._lanes)

    @property
    def _told_to_end_s(self) -> float | None:
        """Since when all threads are to end; None where they have any time, as the sinks of a film."""
        since_s = [] if self._halted_s is None else [self._halted_s]
        failed = self.failure.health is not None
        if self._figures.ended_s and (failed or all(given.newest for given in self.inputs)):
            since_s.append(self._figures.ended_s)
        return min(since_s, default=None)


def _sink_names(sinks: Sequence[Sink]) -> list[str]:
    return unique([getattr(sink, "name", type(sink).__name__) for sink in sinks])
