"""Plays a source at its own rate, as if it were a camera."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from pixelrt.errors import SourceError
from pixelrt.video.sources.around import Around
from pixelrt.video.sources.base import Frame, Source
from pixelrt.video.waiting import Flag


class Paced(Around):
    """Gives each frame of a source when its time has come, and is live: who is late gets the next one.

    A frame counts as captured when it is due. A source that cannot keep its own rate is played as fast as it
    comes, and never faster than its rate to make up for it.

    Args:
        source: It is closed with this.
        again: Opens it once more, at its end; it is then played for ever, and indices, times and names go on.
            None to end with it.
    """

    def __init__(self, source: Source, again: Callable[[], Source] | None = None) -> None:
        super().__init__(source)
        self._again = again
        self._interrupted = Flag()
        self._lock = threading.RLock()
        self._lost: dict[str, int] = {}

    def __enter__(self) -> Paced:
        return self

    @property
    def num_frames(self) -> int | None:
        """How many there will be; None where it is repeated."""
        return self._source.num_frames if self._again is None else None

    @property
    def live(self) -> bool:
        """Always."""
        return True

    @property
    def losses(self) -> Mapping[str, int]:
        """Of all repetitions."""
        now = self._source.losses
        reasons = dict.fromkeys([*self._lost, *now])
        return {reason: self._lost.get(reason, 0) + now.get(reason, 0) for reason in reasons}

    def __iter__(self) -> Iterator[Frame]:
        clock = _Clock(self._interrupted, 1 / self.fps)
        index, begin_s, play = 0, 0.0, 1
        while True:
            time_s = begin_s
            for frame in self._source:
                time_s = begin_s + frame.time_s
                captured_s = clock.wait_until(time_s)
                if self._interrupted.is_set():
                    return
                name = frame.name if play == 1 else f"{frame.name}-{play}"
                yield dataclasses.replace(frame, index=index, time_s=time_s, name=name, captured_s=captured_s)
                index += 1
            if self._again is None or self._interrupted.is_set():
                return
            if index < play:
                raise SourceError(f"{self.name} has no frame, so it cannot be played again; give another one")
            begin_s, play = time_s + 1 / self.fps, play + 1
            self._replace(self._again())

    def interrupt(self) -> None:
        """End the iteration soon, also while it waits for a frame's time."""
        self._interrupted.set()
        with self._lock:
            self._source.interrupt()

    def _replace(self, source: Source) -> None:
        lost, source.on_event = dict(self.losses), self.on_event
        self._source.close()
        with self._lock:
            self._source, self._lost = source, lost
            if self._interrupted.is_set():
                source.interrupt()


class _Clock:
    """Waits for times of a source's own clock, which begins with its first frame."""

    def __init__(self, interrupted: Flag, period_s: float) -> None:
        self._interrupted, self._period_s = interrupted, period_s
        self._start_s: float | None = None

    def wait_until(self, time_s: float) -> float:
        """Wait for a time, or until interrupted.

        A frame that is late by more than a period moves all later ones: a camera makes up for nothing.

        Returns:
            When it was due, by `time.monotonic`.
        """
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s - time_s
        due_s = self._start_s + time_s
        if now_s - due_s > self._period_s:
            self._start_s += now_s - due_s
            return now_s
        self._interrupted.wait(max(due_s - now_s, 0.0))
        return due_s
