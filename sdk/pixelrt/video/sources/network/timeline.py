"""Times of pictures: of a camera by its own count, of a film by the film's."""

from __future__ import annotations

_JUMP_S = 2.0
_APART_S = 1.0
_LEAST_S = 1e-3


class Timeline:
    """Seconds since the first picture of a connection, always growing, never far from the time of arrival.

    Of pictures that came while the connection was opened nobody knows when they came. What opening took is
    left out of the times, where the camera counts: they go on evenly to the first picture that came later.
    No more than that is: the rest may be a wrong clock, or a program that began late.

    The camera's count is followed while it is less than a second away from the time of arrival, so that
    hiccups of the line are not in it. A clock that drifts is held there by steps that are as small as its
    drift; one that is plain wrong (some cameras count 25 frames a second whatever they send) keeps the pace
    of arrival from there on. Steps between pictures that come in one burst, such as the past that some
    servers send at first, are at least half of the camera's.

    Where there is no count, or it stands still, or jumps, as it does when an encoder begins anew, the time is
    that of arrival.

    Args:
        counts: Whether the camera does. Where it does not, FFmpeg makes up a count of 25 pictures a second.
        opened_s: When opening the connection began, `time.monotonic`, which is when pictures are said to have
            come that came meanwhile.
        opening_s: How long that took.
    """

    def __init__(
        self, *, counts: bool = True, opened_s: float = float("-inf"), opening_s: float = 0.0
    ) -> None:
        self._counts, self._opened_s, self._opening_s = counts, opened_s, opening_s
        self._began_s: float | None = None
        self._pts_s: float | None = None
        self._captured_s = self._time_s = 0.0

    def time_s(self, pts_s: float | None, captured_s: float) -> float | None:
        """The time of the next picture; None if it is older than the one before.

        Args:
            pts_s: When it is to be shown, by the camera's count; None where there is none.
            captured_s: When it came, `time.monotonic`.
        """
        if self._began_s is None:
            self._began_s = captured_s
        else:
            behind_s = captured_s - self._began_s - self._time_s
            step_s = self._counted_s(pts_s, captured_s)
            if step_s is None:
                step_s = max(behind_s, _LEAST_S)
            elif step_s < 0:
                return None
            else:
                if self._captured_s <= self._opened_s < captured_s:
                    opening_s = min(max(behind_s - step_s, 0.0), self._opening_s)
                    self._began_s += opening_s
                    behind_s -= opening_s
                most_s = max(behind_s + _APART_S, step_s / 2)
                step_s = min(max(step_s, behind_s - _APART_S), most_s)
            self._time_s += step_s
        self._pts_s, self._captured_s = pts_s, captured_s
        return self._time_s

    def _counted_s(self, pts_s: float | None, captured_s: float) -> float | None:
        """Since the picture before, by the camera's count; None where that says nothing."""
        if not self._counts or pts_s is None or self._pts_s is None or pts_s == self._pts_s:
            return None
        step_s = pts_s - self._pts_s
        jumps = step_s < -_JUMP_S or step_s - (captured_s - self._captured_s) > _JUMP_S
        return None if jumps else step_s


class FilmTimeline:
    """Seconds since the first picture of a film. When it came says only how fast it is read.

    Args:
        fps: Frames a second, for pictures that have no time.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._count = 0
        self._first_s: float | None = None

    def time_s(self, pts_s: float | None, captured_s: float) -> float:
        """The time of the next picture, as `Timeline.time_s`."""
        time_s = self._count / self._fps if pts_s is None else pts_s
        self._count += 1
        if self._first_s is None:
            self._first_s = time_s
        return time_s - self._first_s
