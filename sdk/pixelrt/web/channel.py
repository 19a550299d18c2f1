"""One camera on its way to its viewers: the newest view, encoded once for all, and only if somebody looks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from pixelrt.web.pace import Pace, Sample
from pixelrt.web.view import View

HISTORY = 120
"""Samples of the pace that are kept, two a second."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A view as bytes."""

    sequence: int
    content: bytes


class Channel:
    """Takes views from one thread, and gives them to the viewers on the event loop.

    Only the newest view is kept, so nothing grows however slow the viewers are, and `publish` never waits for
    one of them.

    Args:
        name: Of the camera.
        encoders: What makes bytes of a view and its sequence number, by kind.
        loop: The viewers'.
        executor: Where views are encoded.
    """

    def __init__(
        self,
        name: str,
        encoders: Mapping[str, Callable[[View, int], bytes]],
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
    ) -> None:
        self.name = name
        self.history: deque[Sample] = deque(maxlen=HISTORY)
        self._encoders, self._loop, self._executor = encoders, loop, executor
        self._lock = threading.Lock()
        self._newest: tuple[int, View] | None = None
        self._pace = Pace()
        self._listeners: list[asyncio.Event] = []
        self._waking = False
        self._encoding = asyncio.Lock()
        self._encoded: dict[str, Encoded] = {}

    @property
    def sequence(self) -> int:
        """Number of the newest view, from 1; 0 before the first."""
        newest = self._newest
        return 0 if newest is None else newest[0]

    @property
    def view(self) -> View | None:
        """The newest; None before the first."""
        newest = self._newest
        return None if newest is None else newest[1]

    def publish(self, view: View) -> None:
        """Take a view in place of the last one, from any thread, while the loop is open."""
        with self._lock:
            self._newest = (self.sequence + 1, view)
            wake = bool(self._listeners) and not self._waking
            self._waking = self._waking or wake
        self._pace.add(time.monotonic(), view.age_ms)
        if wake:  # never more than one of these waits in the loop, however long that is busy
            self._loop.call_soon_threadsafe(self._wake)

    def sample(self, now_s: float) -> Sample:
        """Note the pace; the last minute of it is `history`."""
        sample = self._pace.sample(now_s)
        self.history.append(sample)
        return sample

    @contextlib.contextmanager
    def heard_by(self, event: asyncio.Event) -> Iterator[None]:
        """Set an event whenever there is a new view, in the block."""
        with self._lock:
            self._listeners.append(event)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(event)

    async def encoded(self, kind: str) -> Encoded:
        """The newest view as bytes; encoded by the first who asks, in another thread.

        Args:
            kind: Of encoding.

        Raises:
            LookupError: If there is no view yet.
        """
        async with self._encoding:
            if self._newest is None:
                raise LookupError(f"camera {self.name!r} has no view yet")
            sequence, view = self._newest
            if kind not in self._encoded or self._encoded[kind].sequence != sequence:
                encoder = self._encoders[kind]
                content = await self._loop.run_in_executor(self._executor, encoder, view, sequence)
                self._encoded[kind] = Encoded(sequence, content)
            return self._encoded[kind]

    def _wake(self) -> None:
        with self._lock:
            self._waking = False
            listeners = tuple(self._listeners)
        for event in listeners:
            event.set()
