"""Whether more frames come from a source than are taken: measured over the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from pixelrt.video.live.ledger import Account

_WINDOW_S = 2.0
_OVERLOADED_SHARE = 0.1
"""Share of the frames for which there was no time, above which a source is overloaded."""
_EASED_SHARE = 0.02
"""The share below which it is so no more."""
_FEWEST_FRAMES = 5
"""In the window, to say anything."""
_UNTAKEN = ("replaced", "driver")
"""Why sources lose frames that nobody took in time; other losses are those of the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Frames a second, of the last seconds."""

    came: float
    """Those that the source lost because nobody took them are among them."""
    replaced: float
    """By newer ones, before they were computed."""
    expired: float
    """Older than the deadline."""
    lost: Mapping[str, float]
    """In the source, because nobody took them in time, by its reasons."""
    is_known: bool
    """Whether enough frames came to say more than that nothing is too much."""

    @property
    def is_too_much(self) -> bool:
        """Whether there is no time for a good part of the frames."""
        return self.is_known and self._share > _OVERLOADED_SHARE

    @property
    def is_light(self) -> bool:
        """Whether there is time for nearly all of them."""
        return self._share < _EASED_SHARE

    def why(self, network_s: float) -> str:
        """In words.

        Args:
            network_s: How long the network takes for a frame.
        """
        computed = max(self.came - self._missed, 0.0)
        parts = [
            f"{self.came:.1f} frames/s come, {computed:.1f} are computed ({1e3 * network_s:.0f} ms each)"
        ]
        if self.expired:
            parts.append(f"{self.expired:.1f} are too old for the deadline")
        if lost := [f"{rate:.1f} {reason}" for reason, rate in self.lost.items() if rate]:
            parts.append(f"the source loses those that nobody takes in time ({', '.join(lost)})")
        return "; ".join(parts)

    @property
    def _missed(self) -> float:
        return self.replaced + self.expired + sum(self.lost.values())

    @property
    def _share(self) -> float:
        return self._missed / self.came if self.came else 0.0


@dataclass(frozen=True, slots=True)
class _Counts:
    at_s: float
    captured: int
    replaced: int
    expired: int
    lost: Mapping[str, int]


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
        counts = self._counts
        now = _Counts(
            now_s,
            account.captured,
            account.dropped.get("newer", 0),
            account.dropped.get("deadline", 0),
            {reason: losses.get(reason, 0) for reason in _UNTAKEN},
        )
        counts.append(now)
        while len(counts) > 2 and counts[1].at_s <= now_s - _WINDOW_S:
            counts.popleft()
        return _load(counts[0], now) if now_s - counts[0].at_s >= _WINDOW_S else None


def _load(first: _Counts, now: _Counts) -> Load:
    seconds = now.at_s - first.at_s
    lost = {reason: max(count - first.lost[reason], 0) for reason, count in now.lost.items()}
    came = now.captured - first.captured + sum(lost.values())
    return Load(
        came=came / seconds,
        replaced=(now.replaced - first.replaced) / seconds,
        expired=(now.expired - first.expired) / seconds,
        lost={reason: count / seconds for reason, count in lost.items()},
        is_known=came >= _FEWEST_FRAMES,
    )
