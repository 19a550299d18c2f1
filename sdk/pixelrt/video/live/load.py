"""Whether more frames come from a source than are taken: measured over the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pixelrt.video.live.ledger import Account

_WINDOW_S, _LONGEST_WINDOW_S = 2.0, 10.0
_FEWEST_FRAMES = 5
"""In the window, which grows for them: a slow program may make a camera lose frames every few seconds."""
_OVERLOADED_SHARE = 0.1
"""Share of the frames for which there was no time, above which a source is overloaded."""
_EASED_SHARE = 0.02
"""The share below which it is so no more."""
_BURST_S = 0.5
"""Frames that come all at once after a hiccup of the line, and are dropped by the loop or replaced in the
source, are no overload."""
_UNTAKEN = ("replaced", "driver")
"""Why sources lose frames that nobody took in time; other losses are those of the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came lately, and what there was no time for."""

    seconds: float
    came: int
    """Frames; those that the source lost because nobody took them are among them."""
    replaced: int
    """By newer ones, before they were computed."""
    expired: int
    """Older than the deadline."""
    lost: Mapping[str, int]
    """In the source, because nobody took them in time, by its reasons."""
    hiccup: int
    """How many of all these were lost in one burst, if there was nothing else."""

    @property
    def is_too_much(self) -> bool:
        """Whether there is no time for a good part of the frames, and not just for those of one burst."""
        missed = self._missed - self.hiccup
        return self.came >= _FEWEST_FRAMES and missed > _OVERLOADED_SHARE * self.came

    @property
    def is_light(self) -> bool:
        """Whether frames come, and there is time for nearly all of them."""
        return self.came > 0 and self._missed <= _EASED_SHARE * self.came

    def why(self, network_s: float) -> str:
        """In words.

        Args:
            network_s: How long the network takes for a frame.
        """
        computed = max(self.came - self._missed, 0)
        came, each_ms = self._rate(self.came), 1e3 * network_s
        parts = [f"{came} frames/s come, {self._rate(computed)} are computed ({each_ms:.0f} ms each)"]
        if self.expired:
            parts.append(f"{self._rate(self.expired)} are too old for the deadline")
        if lost := [f"{self._rate(count)} {reason}" for reason, count in self.lost.items() if count]:
            parts.append(f"the source loses those that nobody takes in time ({', '.join(lost)})")
        return "; ".join(parts)

    @property
    def _missed(self) -> int:
        return self.replaced + self.expired + sum(self.lost.values())

    def _rate(self, count: int) -> str:
        return f"{count / self.seconds:.1f}"


@dataclass(frozen=True, slots=True)
class _Counts:
    """What had been counted at one moment."""

    at_s: float
    came: int
    replaced: int
    expired: int
    lost: Mapping[str, int]

    @property
    def dropped(self) -> int:
        """Frames for which the loop had no time."""
        return self.replaced + self.expired

    @property
    def late(self) -> int:
        """Frames that the source replaced: some sources count them when somebody takes the next one."""
        return self.lost["replaced"]

    @property
    def may_be_hiccup(self) -> int:
        """Frames that may have come all at once."""
        return self.dropped + self.late


class LoadWindow:
    """Measures the load from counts that only grow."""

    def __init__(self) -> None:
        self._counts: deque[_Counts] = deque()

    def clear(self) -> None:
        """Forget what was: no frames come."""
        self._counts.clear()

    def note(self, now_s: float, account: Account, losses: Mapping[str, int]) -> Load | None:
        """Add what has been counted so far.

        Args:
            now_s: `time.monotonic`.
            account: Of the source.
            losses: Of the source, by its own reasons.

        Returns:
            The load; None until a whole window is known.
        """
        lost = {reason: losses.get(reason, 0) for reason in _UNTAKEN}
        replaced, expired = account.dropped.get("newer", 0), account.dropped.get("deadline", 0)
        self._counts.append(_Counts(now_s, account.captured + sum(lost.values()), replaced, expired, lost))
        while len(self._counts) > 2 and now_s - self._counts[1].at_s >= _LONGEST_WINDOW_S:
            self._counts.popleft()
        history = tuple(self._counts)
        begins = (place for place in reversed(range(len(history))) if _is_enough(history[place], history[-1]))
        begin = next(begins, None)
        return None if begin is None else _load(history[begin:], history)


def _is_enough(first: _Counts, now: _Counts) -> bool:
    seconds, came = now.at_s - first.at_s, now.came - first.came
    return seconds >= (_WINDOW_S if came >= _FEWEST_FRAMES else _LONGEST_WINDOW_S)


def _load(window: Sequence[_Counts], history: Sequence[_Counts]) -> Load:
    first, now = window[0], window[-1]
    return Load(
        seconds=now.at_s - first.at_s,
        came=now.came - first.came,
        replaced=now.replaced - first.replaced,
        expired=now.expired - first.expired,
        lost={reason: max(count - first.lost[reason], 0) for reason, count in now.lost.items()},
        hiccup=_hiccup(window, history),
    )


def _hiccup(window: Sequence[_Counts], history: Sequence[_Counts]) -> int:
    """Frames that were lost in one burst; none where there was more.

    A source that counts its losses when a frame is taken has bursts of them with every frame that a slow
    program takes: the second one in the longest window is no hiccup.
    """
    if not _is_one_burst([counts.may_be_hiccup for counts in window], window):
        return 0
    dropped, late = window[-1].dropped - window[0].dropped, max(window[-1].late - window[0].late, 0)
    return dropped + (late if _is_one_burst([counts.late for counts in history], history) else 0)


def _is_one_burst(totals: Sequence[int], counts: Sequence[_Counts]) -> bool:
    """Whether more than half of what was added to a total came within half a second."""
    worst, end = 0, 0
    for begin, each in enumerate(counts):
        while end + 1 < len(counts) and counts[end + 1].at_s <= each.at_s + _BURST_S:
            end += 1
        worst = max(worst, totals[end] - totals[begin])
    return totals[-1] - totals[0] < 2 * worst
