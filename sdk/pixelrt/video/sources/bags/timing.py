"""Times of images by their own stamps, which may be wrong, and by the recorder's."""

from __future__ import annotations

_MOST_NS = 3600 * 10**9
"""A stamp that is farther than this beyond where the recorder saw it come is none of a camera's clock."""

_SLIGHT_NS = 10**9
"""What goes back by less is out of order; nobody has set a clock."""


class Timing:
    """Seconds since the first image, never going back.

    Stamps count as long as they go on. Where one stands still, goes back or jumps, the time that went by for
    the recorder is taken for that step: a stray stamp is passed over, and where a clock was set, the stamps
    count again from the second one after it on.
    """

    def __init__(self) -> None:
        self._begun = False
        self._base_ns = self._stamp_ns = self._log_ns = self._time_ns = 0
        self.strayed = False
        """Whether a stamp did not count, so far."""

    def time_s(self, stamp_ns: int, log_ns: int) -> float:
        """The time of the next image.

        Args:
            stamp_ns: When it was taken, by its own stamp.
            log_ns: When the recorder got it.
        """
        if self._begun:
            self._time_ns += self._step_ns(stamp_ns, log_ns)
        else:
            self._begun, self._base_ns = True, stamp_ns
        self._stamp_ns, self._log_ns = stamp_ns, log_ns
        return self._time_ns / 10**9

    def _step_ns(self, stamp_ns: int, log_ns: int) -> int:
        recorded_ns = max(log_ns - self._log_ns, 0)
        on_line_ns = stamp_ns - self._base_ns - self._time_ns
        if 0 < on_line_ns <= recorded_ns + _MOST_NS:
            return on_line_ns
        self.strayed = True
        again_ns = stamp_ns - self._stamp_ns
        was_set = abs(on_line_ns) > _SLIGHT_NS
        if was_set and 0 < again_ns <= recorded_ns + _MOST_NS:  # the second stamp since then
            self._base_ns = stamp_ns - self._time_ns - again_ns
            return again_ns
        return recorded_ns
