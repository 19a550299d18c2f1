"""When the next frame is best handed to a network that still computes the one before."""

from __future__ import annotations

from collections import deque

_LEAD = 0.5
"""The share of a frame's computing time after which the next one is handed over, to be copied meanwhile.
Handing it over earlier would only make it older."""
_FRAMES_TO_KNOW = 8
"""How many frames tell how long computing takes."""


class Pace:
    """How long the network takes, and so for how long the next frame can still become newer."""

    def __init__(self) -> None:
        self._busy_s: deque[float] = deque(maxlen=_FRAMES_TO_KNOW)

    def computed(self, busy_s: float) -> None:
        """The network took so long for a frame."""
        self._busy_s.append(busy_s)

    def wait_s(self, under_way_s: float) -> float:
        """How long to wait with the next frame; nothing until it is known how long computing takes.

        The fastest of the last frames says how long: one slow frame must not hold up the result of the next.

        Args:
            under_way_s: For how long the network has computed the latest frame that it was given.
        """
        if len(self._busy_s) < _FRAMES_TO_KNOW:
            return 0.0
        return max(_LEAD * min(self._busy_s) - under_way_s, 0.0)
