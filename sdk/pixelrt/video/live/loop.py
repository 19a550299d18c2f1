"""The parts of a stream put together, started, and ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pixelrt.manifest import ColorOrder, Head
from pixelrt.video.events import Event
from pixelrt.video.health import Health
from pixelrt.video.live.books import Books
from pixelrt.video.live.capturing import Arrival, Capture, Input
from pixelrt.video.live.computing import Computing
from pixelrt.video.live.failing import Failing
from pixelrt.video.live.ledger import Account, Ledger
from pixelrt.video.live.mailbox import STOPPED, Mailbox
from pixelrt.video.live.opening import unique
from pixelrt.video.live.options import Policy, StreamOptions
from pixelrt.video.live.outlets import Lane, Outlets, TimedArtist
from pixelrt.video.live.sizing import Sizing
from pixelrt.video.live.stages import StageClock
from pixelrt.video.live.statistics import SourceStatistics, SourceStatus, StreamStatistics
from pixelrt.video.live.telling import Teller
from pixelrt.video.live.watching import Monitor, SourceWatch, Watchdog, worst
from pixelrt.video.live.workers import Workers
from pixelrt.video.sinks.base import Sink

_LOG = logging.getLogger("pixelrt.video")
_WAITING_PLACES = 2
"""Frames of a source that may wait for the network where every frame counts."""
_PATIENCE_S = 10.0
"""How long a thread may take to end before it is left behind: a driver or a disk that does not answer."""


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
        self._inputs, self._sinks, self._options = tuple(inputs), tuple(sinks), options
        self._lock = threading.RLock()
        self._workers = Workers()
        self._failure: BaseException | None = None
        self._failed: Health | None = None
        self._began_s = self._ended_s = 0.0
        self._halted_s: float | None = None
        newest = options.policy == "latest"
        self._failing = Failing(self.fail)
        self._tell = Teller(options.on_event, self._failing).tell
        sizing.on_event = self._tell
        self._books = Books(Ledger(len(inputs)), StageClock())
        self._lanes = tuple(
            Lane(sink, name, newest=newest, clock=self._books.clock, on_failure=self._sink_failed)
            for sink, name in zip(sinks, _sink_names(sinks), strict=True)
        )
        self.outlets = Outlets(
            self._lanes,
            len(inputs),
            newest=newest,
            deadline_s=options.deadline,
            books=self._books,
        )
        self._mailbox: Mailbox[Arrival] = Mailbox(
            len(inputs),
            places=1 if newest else _WAITING_PLACES,
            newest=newest,
            drop=lambda arrival, reason: self._books.ledger.dropped(arrival.place, reason),
            replaced="newer",
        )
        artist = TimedArtist(head.classes, alpha=options.alpha, legend=options.legend)
        artist.clock = self._books.clock
        self._computing = Computing(
            sizing,
            head.name,
            artist,
            options,
            mailbox=self._mailbox,
            outlets=self.outlets,
            books=self._books,
            tell=self._tell,
        )
        self._captures = tuple(self._capture(given, color) for given in inputs)
        watches = [capture.watch for capture in self._captures]
        self._monitor = Monitor(watches, self._books.ledger, lambda: self._computing.network_s)
        self._watchdog = self._dog()
        if self._watchdog is not None:
            self.outlets.on_result = self._watchdog.feed

    def start(self, *, has_program: bool) -> None:
        """Start all threads, unless they are started or this was closed.

        Args:
            has_program: Whether somebody will take the results.
        """
        with self._lock:
            if self._workers.started or self._halted_s is not None:
                return
            self._began_s = time.monotonic()
            self.outlets.has_program = has_program
            for sink in self._sinks:
                sink.attach(self)
            for work, name in self._work():
                self._workers.start(work, f"pixelrt {name}", self._failing)

    def wait(self) -> None:
        """Wait until everything has ended, the sinks included, and raise what failed.

        In a thread of the stream itself this does nothing: it cannot wait for its own end.

        Raises:
            PixelRTError: What a source, the network or a sink raised.
            BaseException: What a callback raised.
        """
        if not self._join():
            return
        with self._lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def fail(self, problem: BaseException) -> None:
        """End everything because of an error. From any thread."""
        self._keep(problem)
        self._halt(self.outlets.abort)

    def stop(self) -> None:
        """End everything at once, without waiting for it. From any thread, and safe to call twice."""
        self._halt(self.outlets.stop)
        self.outlets.stop()

    def close(self) -> None:
        """Stop, and wait until it has; safe to call twice, and in a thread of the stream itself."""
        with self._lock:
            unused = not self._workers.started and self._halted_s is None
            if unused:
                self._halted_s = time.monotonic()
        if unused:
            self._discard()
            return
        self.stop()
        self._join()

    @property
    def policy(self) -> Policy:
        """Which frames are computed."""
        assert self._options.policy is not None
        return self._options.policy

    @property
    def problem(self) -> BaseException | None:
        """What failed, and has not been raised."""
        return self._failure

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Files and folders that the sinks have finished."""
        return tuple(path for lane in self._lanes for path in lane.outputs)

    @property
    def health(self) -> Health:
        """As the worst source is; failed after an error."""
        return self._failed or worst([capture.watch.health for capture in self._captures])

    @property
    def sources(self) -> tuple[SourceStatus, ...]:
        """Every source, as it is now."""
        return tuple(
            SourceStatus(
                name=given.name,
                health=capture.watch.health,
                size=capture.size,
                fps=given.source.fps,
                live=given.source.live,
                ended=capture.watch.has_ended,
            )
            for given, capture in zip(self._inputs, self._captures, strict=True)
        )

    def statistics(self) -> StreamStatistics:
        """All figures."""
        accounts = self._books.ledger.accounts()
        return StreamStatistics(
            seconds=(self._ended_s or time.monotonic()) - self._began_s if self._began_s else 0.0,
            sources=tuple(map(self._source_statistics, self._inputs, self._captures, accounts)),
            stages=self._books.clock.whole(),
            recent=self._books.clock.recent(),
            sinks=tuple(lane.statistics() for lane in self._lanes),
            health=self.health,
        )

    def _source_statistics(self, given: Input, capture: Capture, account: Account) -> SourceStatistics:
        return SourceStatistics(
            name=given.name,
            captured=account.captured,
            delivered=account.delivered,
            dropped=account.dropped,
            in_flight=account.in_flight,
            lost=dict(given.source.losses),
            reconnects=capture.watch.reconnects,
            fps_captured=account.fps_captured,
            fps_delivered=account.fps_delivered,
            queue_depth=self._mailbox.depth(given.place),
            health=capture.watch.health,
            ended=capture.watch.has_ended,
        )

    def _capture(self, given: Input, color: ColorOrder) -> Capture:
        watch = SourceWatch(given.name, live=given.source.live, stall_s=self._options.stall, tell=self._tell)
        return Capture(
            given,
            color,
            mailbox=self._mailbox,
            books=self._books,
            watch=watch,
            on_failure=self._source_failed,
        )

    def _dog(self) -> Watchdog | None:
        seconds, bark = self._options.watchdog, self._options.on_watchdog
        if seconds is None or bark is None:
            return None
        return Watchdog(seconds, bark)

    def _work(self) -> list[tuple[Callable[[], None], str]]:
        """What each thread does, and its name."""
        work = [(self._compute, "network"), (self._monitor.run, "monitor")]
        work += [(lane.run, f"sink {lane.name}") for lane in self._lanes]
        work += [
            (capture.run, f"source {given.name}")
            for given, capture in zip(self._inputs, self._captures, strict=True)
        ]
        if self._watchdog is not None:
            work.append((self._watchdog.run, "watchdog"))
        return work

    def _compute(self) -> None:
        """What the network's thread does: when it ends, so does everything."""
        with self._failing:
            self._computing.run()
        self._ended_s = time.monotonic()
        self.outlets.finish()
        self._stop_watching()

    def _stop_watching(self) -> None:
        self._monitor.stop()
        if self._watchdog is not None:
            self._watchdog.stop()

    def _halt(self, end_outlets: Callable[[], None]) -> None:
        with self._lock:
            if self._halted_s is not None:
                return
            self._halted_s = time.monotonic()
        end_outlets()
        self._mailbox.close()
        self._computing.stop()
        self._stop_captures()
        self._stop_watching()

    def _stop_captures(self) -> None:
        for capture in self._captures:
            with self._failing:
                capture.stop()

    def _discard(self) -> None:
        """Give back what was opened and never used."""
        self.outlets.stop()
        for given in self._inputs:
            if given.owned:
                given.source.close()
        for sink in self._sinks:
            sink.abort()

    def _source_failed(self, problem: BaseException) -> None:
        """A source raised: what it gave before is computed and delivered first."""
        if self._options.on_source_error == "detach":
            self._failure = self._failure or problem
            return
        self._keep(problem)
        self._mailbox.finish_all()
        self._stop_captures()

    def _sink_failed(self, lane: Lane, problem: BaseException) -> None:
        if self._options.on_sink_error == "stop":
            self.fail(problem)
            return
        _LOG.debug("sink %s gets no more results", lane.name, exc_info=problem)
        self._tell(Event(kind="sink_failed", source=lane.name, detail=str(problem)))

    def _keep(self, problem: BaseException) -> None:
        """Keep the first error for the program."""
        with self._lock:
            if self._failed is None:
                why = str(problem) or type(problem).__name__
                self._failed, self._failure = Health(state="failed", why=why), problem

    def _join(self) -> bool:
        """Wait for all threads; for long only while they may still have work to do.

        Returns:
            Whether that was possible, here.
        """
        if self._workers.is_one():
            return False
        left = self._workers.wait(self._is_patience_over)
        if left:
            _LOG.warning("left behind, since it did not end in %g s: %s", _PATIENCE_S, ", ".join(left))
        else:
            self._books.ledger.settle(STOPPED)
        return True

    def _is_patience_over(self) -> bool:
        """Whether threads had their time to end: a driver or a disk may never answer."""
        began_s = self._halted_s
        if began_s is None and self._options.policy == "latest" and self._ended_s:
            began_s = self._ended_s
        if began_s is None or time.monotonic() - began_s <= _PATIENCE_S:
            return False
        return not any(lane.is_busy(_PATIENCE_S) for lane in self._lanes)


def _sink_names(sinks: Sequence[Sink]) -> list[str]:
    return unique([getattr(sink, "name", type(sink).__name__) for sink in sinks])
