"""What the sources of a stream gave it, noted on their way into the loop, to hold its figures against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from film import Seen, check, seen
from live import UNDER_WAY, check_account

from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.live import Stream
from pixelrt.video.live.statistics import SourceStatistics
from pixelrt.video.sources.around import Around
from pixelrt.video.sources.base import Source


@dataclass(frozen=True, slots=True)
class Given:
    """A frame, and how the source was when it gave it."""

    seen: Seen
    connection: int
    """Number of the connection that it came by."""
    losses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Missing:
    """Between two pictures of a connection."""

    pictures: int
    """That the camera drew and the source did not give."""
    lost: int
    """That the source says it lost."""


class Witness(Around):
    """A source of stamped pictures."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.given: list[Given] = []
        self._connections = 0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            self.given.append(Given(seen(frame), self._connections, dict(self._source.losses)))
            yield frame

    @property
    def on_event(self) -> Callable[[Event], None]:
        return self._source.on_event

    @on_event.setter
    def on_event(self, told: Callable[[Event], None]) -> None:
        def noted(event: Event) -> None:
            self._connections += event.kind == "connected"
            told(event)

        self._source.on_event = noted

    def missing(self) -> list[Missing]:
        """Of each connection, between the first and the last picture at which all losses are older than it.

        Packets that nobody takes in time are counted while the picture before them is still on its way.
        """
        found = []
        for _, group in groupby(self.given, key=lambda given: given.connection):
            settled = [
                now
                for before, now in pairwise(group)
                if now.seen.stamp is not None
                and now.losses.get("replaced", 0) == before.losses.get("replaced", 0)
            ]
            if len(settled) > 1:
                found.append(_between(settled[0], settled[-1]))
        return found


def witnesses(stream: Stream) -> list[Witness]:
    """One for each source of a stream that has not started."""
    found = []
    for capture in stream._loop._captures:
        capture._source = Witness(capture._source)
        found.append(capture._source)
    return found


def check_run(
    figures: SourceStatistics,
    witness: Witness,
    frames: Sequence[Seen],
    *,
    damage: bool = False,
    stopped: int = UNDER_WAY,
) -> None:
    """A stream's figures of a source that was stopped are those of its source, its camera, and its program.

    Args:
        figures: At the end.
        witness: Of the source, whose camera numbers every picture.
        frames: Whose results the program took.
        damage: Whether data were damaged in ways that no decoder can know: FFmpeg then leaves some pictures
            out without a word, one in a hundred or so.
        stopped: So many frames may have been on their way at the end.
    """
    given = [each.seen for each in witness.given]
    check(given, damage=damage)
    check(frames, damage=damage, gaps=True)
    pictures = {(frame.index, frame.stamp) for frame in given}
    assert {(frame.index, frame.stamp) for frame in frames} <= pictures, "one that the source never gave"
    check_account(figures, [frame.index for frame in frames], given=len(given), stopped=stopped)
    for missing in witness.missing():
        check_missing(missing, untold=2 + missing.pictures // 5 if damage else 0)


def check_missing(missing: Missing, untold: int = 0) -> None:
    """The pictures that did not come are those that the source says it lost, but for so many."""
    assert abs(missing.pictures - missing.lost) <= untold, missing


def _between(first: Given, last: Given) -> Missing:
    assert first.seen.stamp is not None
    assert last.seen.stamp is not None
    drawn = last.seen.stamp.index - first.seen.stamp.index
    return Missing(
        pictures=drawn - (last.seen.index - first.seen.index),
        lost=sum(last.losses.values()) - sum(first.losses.values()),
    )
