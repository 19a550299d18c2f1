"""Sources, networks and sinks for tests of the live loop: as slow, blocked or broken as a test wants."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrt.manifest import ColorOrder
from pixelrt.segmentation import Segmenter
from pixelrt.session import GpuOptions
from pixelrt.testing import FakeCuda, fake_segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.live import Stream, StreamStatistics, StreamView
from pixelrt.video.live.ledger import Account
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sources.base import BaseSource

Bytes = NDArray[np.uint8]
SIZE = (8, 12)
_FOREVER_S = 1e9
CLASSES = tuple(f"class {number}" for number in range(256))


def image_of(index: int) -> Bytes:
    """An image that says which one it is."""
    return np.full((*SIZE, 3), index % 256, np.uint8)


def network(
    compute_s: float | Callable[[], float] = 0.0,
    *,
    cuda: FakeCuda | None = None,
    gpu: GpuOptions | None = None,
) -> Segmenter:
    """A segmenter whose mask says which image it saw, after some time."""

    def see(frame: Bytes) -> Bytes:
        time.sleep(compute_s() if callable(compute_s) else compute_s)
        return np.ascontiguousarray(frame[..., 0])

    return fake_segmenter(see, CLASSES, SIZE, cuda=cuda, gpu=gpu)


class Camera(BaseSource):
    """Frames whose images say their index.

    Args:
        count: How many frames; None for no end.
        period_s: Time between two of them.
        live: Whether it is one.
        before: Called with the index before each frame: may block (see `wait`), raise, or tell events.
        name: Of the source.
        color: Of the frames.
    """

    num_frames = None

    def __init__(
        self,
        count: int | None = None,
        period_s: float = 0.0,
        *,
        live: bool = True,
        before: Callable[[Camera, int], None] | None = None,
        name: str = "camera",
        color: ColorOrder = "rgb",
    ) -> None:
        self.name, self.size, self.live, self.color = name, SIZE, live, color
        self.fps = 1 / period_s if period_s else 1000.0
        self._count, self._period_s, self._before = count, period_s, before
        self._over = threading.Event()
        self.closed = 0
        self.given = 0
        self.iterating_thread = self.closing_thread = ""

    def __enter__(self) -> Camera:
        return self

    def __iter__(self) -> Iterator[Frame]:
        self.iterating_thread = threading.current_thread().name
        start_s = time.monotonic()
        while self._count is None or self.given < self._count:
            due_s = start_s + self.given * self._period_s
            if self._before is not None:
                self._before(self, self.given)
            if self._over.wait(max(due_s - time.monotonic(), 0.0)):
                return
            self.given += 1
            yield self.frame(self.given - 1)

    def frame(self, index: int) -> Frame:
        return Frame(
            image=image_of(index),
            index=index,
            time_s=index * self._period_s,
            name=f"{self.name}-{index}",
            color=self.color,
            source=self.name,
        )

    def wait(self, seconds: float) -> None:
        """Give nothing for so long, or until interrupted."""
        self._over.wait(seconds)

    def tell(self, kind: str, detail: str = "as told") -> None:
        """Tell an event."""
        self.on_event(Event(kind=kind, source=self.name, detail=detail))  # type: ignore[arg-type]

    def interrupt(self) -> None:
        self._over.set()

    def close(self) -> None:
        self.closed += 1
        self.closing_thread = threading.current_thread().name


def stuck(camera: Camera, index: int) -> None:
    """A camera that gives nothing after its first frame."""
    if index == 1:
        camera.wait(_FOREVER_S)


def gone() -> bool:
    """Whether no thread of a stream runs."""
    return not any(thread.name.startswith("pixelrt") for thread in threading.enumerate())


class Notes(BaseSink):
    """A sink that notes what it gets.

    Args:
        before: Called with the number of the result before it is noted: may block or raise.
        name: Of the sink.
    """

    def __init__(self, before: Callable[[int], None] | None = None, name: str = "notes") -> None:
        self._before, self.name = before, name
        self.got: list[Delivery] = []
        self.ends: list[str] = []
        self.streams: list[StreamView] = []
        self.threads: set[str] = set()

    def __enter__(self) -> Notes:
        return self

    @property
    def indices(self) -> list[int]:
        return [delivery.frame.index for delivery in self.got]

    def attach(self, stream: StreamView) -> None:
        assert not self.got
        self.streams.append(stream)

    def write(self, delivery: Delivery) -> None:
        self.threads.add(threading.current_thread().name)
        if self._before is not None:
            self._before(len(self.got))
        self.got.append(delivery)

    def close(self) -> tuple[Path, ...]:
        self.ends.append("closed")
        return (Path(self.name),)

    def abort(self) -> None:
        self.ends.append("aborted")


def check_pairs(deliveries: Sequence[Delivery]) -> None:
    """Every result is that of its frame, none comes twice, and each source's are in order."""
    last: dict[str, int] = {}
    for delivery in deliveries:
        frame, result = delivery
        assert result.mask is not None
        assert set(np.unique(result.mask)) == {frame.index % 256}
        assert frame.index > last.get(frame.source, -1), f"{frame} twice or out of order"
        last[frame.source] = frame.index
        times = dataclasses.astuple(delivery.times)
        assert list(times) == sorted(times), f"{frame}: {delivery.times}"


def check_accounts(statistics: StreamStatistics, *, ended: bool = False) -> None:
    """Every captured frame is delivered, dropped, or on its way; none is when all is over."""
    for source in statistics.sources:
        dropped = sum(source.dropped.values())
        assert source.captured == source.delivered + dropped + source.in_flight, source
        assert 0 <= source.queue_depth <= source.in_flight, source
        assert not (ended and source.in_flight), source


def until(what: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    end_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end_s, "it never came to that"
        time.sleep(0.005)


def consumed(stream: Stream) -> threading.Thread:
    """A thread that takes the results."""
    taking = threading.Thread(target=lambda: list(stream))
    taking.start()
    return taking


def account(captured: int, busy: int = 0) -> Account:
    """What became of frames: so many were replaced by newer ones because the network was busy."""
    return Account(
        captured=captured, delivered=0, dropped={"newer": busy}, fps_captured=0.0, fps_delivered=0.0
    )
