"""Sources, networks and sinks for tests of the live loop: as slow, blocked or broken as a test wants."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from unittest import mock

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
from pixelrt.video.live.ledger import Account, Ledger
from pixelrt.video.live.mailbox import STOPPED
from pixelrt.video.live.statistics import SourceStatistics
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sources.base import BaseSource

Bytes = NDArray[np.uint8]
SIZE = (8, 12)
WAITING = 2
"""Frames of a source that may wait for the network."""
UNDER_WAY = 5
"""Frames of a live source that may be on their way, where the network has one slot: one that comes, one
that waits, one in the network, one result that waits for the program, and one that it takes."""
MOST_UNDER_WAY = 12
"""The same where every frame counts, and the network has up to four slots: 1 + 2 + 4 + 4 + 1."""
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


def check_accounts(
    statistics: StreamStatistics,
    taken: Iterable[Delivery] | None = None,
    *,
    cameras: Sequence[Camera] = (),
    ended: bool = False,
    whole: bool = False,
) -> None:
    """The figures are those of everybody else who counted; see `check_account`.

    Args:
        statistics: Of a stream.
        taken: Every result that the program has taken; None where it did not count them.
        cameras: The sources, where the stream has ended and they count what they gave.
        ended: Whether the stream has ended.
        whole: Whether it has ended because its sources have, and the program took all results.
    """
    indices = None if taken is None else by_source([delivery.frame for delivery in taken])
    given = [camera.given for camera in cameras] or [None] * len(statistics.sources)
    for source, count in zip(statistics.sources, given, strict=True):
        assert 0 <= source.queue_depth <= WAITING, source
        assert 0 <= source.in_flight <= MOST_UNDER_WAY, source
        if whole or ended:
            assert not source.in_flight, source
        if whole:
            assert source.ended, source
        check_account(
            source,
            None if indices is None else indices.pop(source.name, []),
            given=count,
            stopped=0 if whole else None,
        )
    assert not indices, "the program has results of sources that nobody knows"


def check_account(
    source: SourceStatistics,
    taken: Sequence[int] | None,
    *,
    given: int | None = None,
    stopped: int | None = 0,
) -> None:
    """What a stream says of a source is what the source and the program say.

    The frames that are on their way, and at the end those that were (`stopped`), are all that have neither
    been delivered nor dropped: so a frame that the loop has lost would count among them. They may not be
    more than there is room for, and `every_frame_known` looks at what is left at the very end.

    Args:
        source: Its figures.
        taken: Indices of the frames whose results the program took; None where it did not count them.
        given: Frames that the source gave, by its own count; None where nobody knows: then by the last one,
            if none is missing behind it.
        stopped: So many may have been on their way at the end; None where nobody knows: a source without a
            pace gives more while the stream is being stopped.
    """
    if stopped is not None:
        assert source.dropped.get(STOPPED, 0) <= stopped, source
    if given is not None:
        assert source.captured == given, source
    if taken is None:
        return
    assert source.delivered == len(taken), source
    assert all(before < after for before, after in pairwise(taken)), f"{source.name}: twice or out of order"
    if taken:
        assert source.captured > taken[-1], source
        if stopped == 0 and not {"failed", "deadline"} & source.dropped.keys():
            assert source.captured == taken[-1] + 1, "nothing replaces the last one"


def by_source(frames: Iterable[Frame]) -> dict[str, list[int]]:
    """Indices of frames by the names of their sources, in order."""
    indices: dict[str, list[int]] = {}
    for frame in frames:
        indices.setdefault(frame.source, []).append(frame.index)
    return indices


@contextlib.contextmanager
def every_frame_known() -> Iterator[list[Account]]:
    """Of every frame of the streams that end in the block, whoever had it last says what became of it.

    What nobody knows of a stream books as `stopped` when all its threads have ended, and a frame that got
    lost inside would pass for one that was on its way. Only Ctrl-C, and a signal's handler, may take one
    between a thread's having it and its counting it.

    Gives:
        The accounts of sources with such frames; a test that expects some looks at them and clears the list.
    """
    unknown: list[Account] = []
    settle = Ledger.settle

    def settled(ledger: Ledger, reason: str) -> None:
        unknown.extend(account for account in ledger.accounts() if account.in_flight)
        settle(ledger, reason)

    with mock.patch.object(Ledger, "settle", settled):
        yield unknown
    assert not unknown, "frames got lost inside the loop"


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
