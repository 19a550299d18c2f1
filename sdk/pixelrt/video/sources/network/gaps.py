"""Pictures that got lost whole on their way."""

from __future__ import annotations

from collections import deque
from statistics import median

_FEWEST_STEPS, _KNOWN_STEPS = 5, 12
_EVEN = 0.2
"""A step is even that is once, twice, ... as long as usual, within this part of it."""
_FEW = 2
"""So many uneven steps among those known are let pass."""
_LONG = 1.5
_JUMP_S = 2.0


class GapWatch:
    """Sees from the times of packets that some are missing, while the camera keeps an even pace.

    Datagrams get lost, and no decoder knows of a picture of which none came: it goes on with the one before,
    and what it gives up to the next keyframe looks right and is not. A camera that leaves a picture out by
    itself looks the same, so a camera without an even pace is not watched.
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._arrived_s = 0.0
        self._steps_s: deque[float] = deque(maxlen=_KNOWN_STEPS)

    def missing(self, time_s: float | None, arrived_s: float, *, restart: bool = False) -> int:
        """How many pictures got lost before this one. Where the count jumped ahead, one: nobody knows.

        Args:
            time_s: When it is to be decoded, by the camera's count.
            arrived_s: When it came, `time.monotonic`.
            restart: Whether those before it came, and were left out.
        """
        last_s, self._last_s = self._last_s, time_s
        waited_s, self._arrived_s = arrived_s - self._arrived_s, arrived_s
        if restart or time_s is None or last_s is None:
            return 0
        step_s = time_s - last_s
        usual_s = self._usual_s()
        self._steps_s.append(step_s)
        if usual_s is None or step_s < _LONG * usual_s:
            return 0
        return 1 if step_s - waited_s > _JUMP_S else round(step_s / usual_s) - 1

    def _usual_s(self) -> float | None:
        """The pace; None if it is not known, or not even."""
        if len(self._steps_s) < _FEWEST_STEPS:
            return None
        usual_s = median(self._steps_s)
        if usual_s <= 0:
            return None
        paces = [step_s / usual_s for step_s in self._steps_s]
        uneven = sum(abs(pace - max(round(pace), 1)) > _EVEN for pace in paces)
        return usual_s if uneven <= _FEW else None
