"""What a stream knows about itself, put together whenever somebody asks."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pixelrt.video.health import Health
from pixelrt.video.live.books import Books
from pixelrt.video.live.capturing import Arrival, Capture
from pixelrt.video.live.failing import FirstFailure
from pixelrt.video.live.ledger import Account
from pixelrt.video.live.mailbox import Mailbox
from pixelrt.video.live.outlets import Lane
from pixelrt.video.live.statistics import SourceStatistics, SourceStatus, StreamStatistics
from pixelrt.video.live.watching import worst


class Figures:
    """Health and statistics, from any thread.

    Args:
        captures: Of the sources.
        lanes: Of the sinks.
        books: Counts and times.
        mailbox: Where frames wait for the network.
        failure: The error that ended the stream.
    """

    def __init__(
        self,
        captures: Sequence[Capture],
        lanes: Sequence[Lane],
        *,
        books: Books,
        mailbox: Mailbox[Arrival],
        failure: FirstFailure,
    ) -> None:
        self._captures, self._lanes = tuple(captures), tuple(lanes)
        self._books, self._mailbox, self._failure = books, mailbox, failure
        self._began_s = 0.0
        self.ended_s = 0.0
        """`time.monotonic` when the network had its last frame; 0 before that."""

    def begin(self) -> None:
        """The stream starts."""
        self._began_s = time.monotonic()

    def end(self) -> None:
        """The network has had its last frame."""
        self.ended_s = time.monotonic()

    @property
    def health(self) -> Health:
        """As the worst source is; failed after an error."""
        if self._failure.health is not None:
            return self._failure.health
        return worst([capture.watch.health for capture in self._captures])

    @property
    def sources(self) -> tuple[SourceStatus, ...]:
        """Every source, as it is now."""
        return tuple(map(_status, self._captures))

    def statistics(self) -> StreamStatistics:
        """All figures."""
        accounts = self._books.ledger.accounts()
        return StreamStatistics(
            seconds=(self.ended_s or time.monotonic()) - self._began_s if self._began_s else 0.0,
            sources=tuple(map(self._source, self._captures, accounts)),
            stages=self._books.clock.whole(),
            recent=self._books.clock.recent(),
            sinks=tuple(lane.statistics() for lane in self._lanes),
            health=self.health,
        )

    def _source(self, capture: Capture, account: Account) -> SourceStatistics:
        given = capture.given
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


def _status(capture: Capture) -> SourceStatus:
    given = capture.given
    return SourceStatus(
        name=given.name,
        health=capture.watch.health,
        size=capture.size,
        fps=given.source.fps,
        live=given.source.live,
        policy=given.policy,
        ended=capture.watch.has_ended,
    )
