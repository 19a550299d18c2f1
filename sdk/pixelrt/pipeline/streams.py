"""The streams and events of a ring."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from pixelrt.cuda.protocol import Driver, Event, Stream


@dataclass(frozen=True, slots=True)
class Streams:
    """Three, so that copying up, computing and copying down overlap; each does its work in order."""

    up: Stream
    compute: Stream
    down: Stream

    @classmethod
    def of(cls, driver: Driver, priority: int) -> Streams:
        """Make them, or none.

        Raises:
            DeviceError: If CUDA refuses.
        """
        with contextlib.ExitStack() as made:
            streams = [made.enter_context(driver.stream(priority=priority)) for _ in range(3)]
            made.pop_all()
        return cls(*streams)

    def synchronize(self) -> None:
        """Wait until all work is done."""
        for stream in self._all():
            stream.synchronize()

    def close(self) -> None:
        """Free them."""
        for stream in self._all():
            stream.close()

    def _all(self) -> Iterator[Stream]:
        yield from (self.up, self.compute, self.down)


@dataclass(frozen=True, slots=True)
class Span:
    """The beginning and end of a piece of work in a stream."""

    begin: Event
    end: Event

    @classmethod
    def of(cls, driver: Driver, *, blocking: bool) -> Span:
        """Make both, or none.

        Raises:
            DeviceError: If CUDA refuses.
        """
        begin = driver.event(timing=True, blocking=blocking)
        try:
            return cls(begin, driver.event(timing=True, blocking=blocking))
        except BaseException:
            begin.close()
            raise

    @contextlib.contextmanager
    def measured(self, stream: Stream) -> Iterator[None]:
        """Mark the work that is put into a stream meanwhile."""
        stream.record(self.begin)
        yield
        stream.record(self.end)

    @property
    def ms(self) -> float:
        """GPU time from begin to end, once both are done."""
        return self.end.elapsed_ms(self.begin)

    def close(self) -> None:
        """Free both."""
        self.begin.close()
        self.end.close()
