"""Several cameras on one GPU: N frames arrive together, as from cameras with one trigger.

  N-slots    one session with N slots: every frame is submitted, then every result is taken
  N-batch    one session: the frames go through the network as one batch
  N-threads  a session per camera (`clone`), each in a thread of its own

A frame's latency runs from the arrival of all N to its own mask; the next N arrive when all masks are there.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gpu.contender import Bytes, Contender, Turn
from gpu.pixelrt_contenders import Base, batches_of, mask_of, note
from gpu.setting import Entry, Key, Setting
from pixelrt.segmentation import Segmentation

PREFIX = "cameras/"
CAMERAS = (2, 4, 8)

Arrived = tuple[float, Segmentation]
"""When a result was there (`time.perf_counter`), and the result."""


def entries(backend: str) -> list[Entry]:
    """Every way to use a backend with several cameras."""
    return [
        Entry(f"{PREFIX}{backend}/{count}-{way}", _opening(kind, backend, count))
        for count in CAMERAS
        for way, kind in (("slots", SlotPerCamera), ("batch", BatchOfCameras), ("threads", ThreadPerCamera))
    ]


def _opening(
    kind: Callable[[Setting, str, int], Contender], backend: str, count: int
) -> Callable[[Setting], Contender]:
    return lambda setting: kind(setting, backend, count)


class Cameras(Base):
    """What the ways share: ticks at which every camera has a frame."""

    def __init__(self, setting: Setting, key: Key, count: int) -> None:
        super().__init__(setting, key)
        self.count = count

    def about(self) -> dict[str, Any]:
        """As `Base.about`, and the number of cameras."""
        return {**super().about(), "cameras": self.count}

    def turn(self, frames: Sequence[Bytes], count: int) -> Turn:
        """See `Contender.turn`; the number of frames is rounded up to whole ticks."""
        turn = Turn()
        ticks = self.ticks(frames, count)
        began = time.perf_counter()
        for arriving in ticks:
            given = time.perf_counter()
            for arrived, result in self.process(arriving):
                turn.latencies_ms.append((arrived - given) * 1e3)
                turn.frames += 1
                note(turn, result)
        turn.wall_s = time.perf_counter() - began
        return turn

    def masks(self, frames: Sequence[Bytes]) -> list[Bytes]:
        """See `Contender.masks`."""
        (arriving,) = self.ticks(frames, self.count)
        return [mask_of(result) for _, result in self.process(arriving)][: len(frames)]

    def ticks(self, frames: Sequence[Bytes], count: int) -> list[list[Bytes]]:
        """At least `count` frames, one per camera and tick."""
        return batches_of(self.place(frames), self.count, count)

    def process(self, arriving: Sequence[Bytes]) -> Iterator[Arrived]:
        """One frame per camera in, one result per camera out, in order."""
        raise NotImplementedError


class SlotPerCamera(Cameras):
    """One session, one slot per camera."""

    def __init__(self, setting: Setting, backend: str, count: int) -> None:
        super().__init__(setting, Key(backend, slots=count), count)

    def process(self, arriving: Sequence[Bytes]) -> Iterator[Arrived]:
        """See `Cameras.process`."""
        for ticket in [self.segmenter.submit(frame) for frame in arriving]:
            result = ticket.result()
            yield time.perf_counter(), result


class BatchOfCameras(Cameras):
    """One session, one batch of all cameras."""

    def __init__(self, setting: Setting, backend: str, count: int) -> None:
        super().__init__(setting, Key(backend, batch=count), count)

    def place(self, frames: Sequence[Bytes]) -> Sequence[Bytes]:
        """Where they are: `segmenter.batch` stacks them."""
        return frames

    def process(self, arriving: Sequence[Bytes]) -> Iterator[Arrived]:
        """See `Cameras.process`."""
        results = self.segmenter.batch(arriving)
        arrived = time.perf_counter()
        for result in results:
            yield arrived, result


class ThreadPerCamera(Cameras):
    """One session and one thread per camera; the threads wait for work between ticks."""

    def __init__(self, setting: Setting, backend: str, count: int) -> None:
        key = Key(backend, slots=1)
        super().__init__(setting, key, count)
        self._clones = [dataclasses.replace(key, clone=index) for index in range(count)]
        self._segmenters = [setting.segmenter(clone) for clone in self._clones]
        self._threads = [ThreadPoolExecutor(1) for _ in self._clones]

    def ticks(self, frames: Sequence[Bytes], count: int) -> list[list[Bytes]]:
        """See `Cameras.ticks`; each camera's frames lie in the page-locked memory of its own session."""
        places = [self.setting.pinned(clone, frames) for clone in self._clones]
        numbers = batches_of(range(len(frames)), self.count, count)
        return [[place[number] for place, number in zip(places, tick, strict=True)] for tick in numbers]

    def process(self, arriving: Sequence[Bytes]) -> Iterator[Arrived]:
        """See `Cameras.process`."""

        def segment(index: int) -> Arrived:
            result = self._segmenters[index](arriving[index])
            return time.perf_counter(), result

        running = [thread.submit(segment, index) for index, thread in enumerate(self._threads)]
        for future in running:
            yield future.result()

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads:
            thread.shutdown()
