"""Times of pictures by the camera's own count."""

from __future__ import annotations

_JUMP_S = 2.0


class Timeline:
    """Seconds since the first picture of a connection, always growing.

    The camera's count is used as long as it agrees with the time of arrival: where it jumps, as it does when
    an encoder begins anew, the time of arrival is used for that step.
    """

    def __init__(self) -> None:
        self._pts_s: float | None = None
        self._captured_s = self._time_s = 0.0
        self._begun = False

    def time_s(self, pts_s: float | None, captured_s: float) -> float | None:
        """The time of the next picture; None if it is older than the one before."""
        if self._begun:
            step_s = self._step_s(pts_s, captured_s)
            if step_s <= 0:
                return None
            self._time_s += step_s
        self._begun, self._captured_s = True, captured_s
        self._pts_s = pts_s
        return self._time_s

    def _step_s(self, pts_s: float | None, captured_s: float) -> float:
        arrival_s = max(captured_s - self._captured_s, 1e-3)
        if pts_s is None or self._pts_s is None:
            return arrival_s
        step_s = pts_s - self._pts_s
        return step_s if abs(step_s - arrival_s) < _JUMP_S else arrival_s
