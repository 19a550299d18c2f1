"""PixelRT: one frame at a time, several on their way, and batches.

Frames lie in `frame_buffer` memory, as a camera would fill it, except where a name says `ordinary-memory`.

  call              `segmenter(frame)`, CUDA graph, the default of two slots
  1-slot 2- 3-slots `submit` with as many frames on their way as there are slots, then `result`
  batch-4 batch-8   `segmenter.batch(frames)`; batch-1 is `call`
  batch-N-in-place  the same from one page-locked array uint8[N, H, W, 3], through the session
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from gpu.contender import Bytes, Contender, Turn, cycle
from gpu.setting import Entry, Key, Setting
from pixelrt.segmentation import Segmentation, SegmentationTicket

Item = TypeVar("Item")

BATCHES = (4, 8)
SLOTS = (1, 2, 3)


def entries(backend: str) -> list[Entry]:
    """All ways to use a backend with one camera."""
    make = functools.partial(_entry, backend)
    batches = [
        entry
        for batch in BATCHES
        for entry in (
            make(f"batch-{batch}", Batch, Key(backend, batch=batch)),
            make(f"batch-{batch}-in-place", BatchInPlace, Key(backend, batch=batch)),
        )
    ]
    return [
        make("call", Call, Key(backend)),
        make("call-no-graph", Call, Key(backend, graphs=False)),
        make("call-ordinary-memory", CallOrdinary, Key(backend)),
        *(make(f"{slots}-slot{'s'[: slots - 1]}", Pipelined, Key(backend, slots=slots)) for slots in SLOTS),
        make("2-slots-no-graph", Pipelined, Key(backend, graphs=False)),
        make("2-slots-ordinary-memory", PipelinedOrdinary, Key(backend)),
        *batches,
    ]


def _entry(backend: str, name: str, kind: Callable[[Setting, Key], Contender], key: Key) -> Entry:
    return Entry(f"pixelrt/{backend}/{name}", lambda setting: kind(setting, key))


class Base:
    """What the ways share: a segmenter, and what it says of itself."""

    def __init__(self, setting: Setting, key: Key) -> None:
        self.setting = setting
        self.key = key
        self.segmenter = setting.segmenter(key)

    def about(self) -> dict[str, Any]:
        """Library, version, precision, slots, batch and graphs."""
        info = self.segmenter.session.info
        return {
            "library": f"{info.backend} {info.version}",
            "precision": info.precision,
            "slots": self.key.slots,
            "batch": self.key.batch,
            "graphs": self.segmenter.session.graphs,
            "engine": info.engine.rpartition("/")[2],
            "driver": info.driver,
            "why": info.why,
        }

    def place(self, frames: Sequence[Bytes]) -> Sequence[Bytes]:
        """Where the frames lie: page-locked, unless a subclass says otherwise."""
        return self.setting.pinned(self.key, frames)

    def masks(self, frames: Sequence[Bytes]) -> list[Bytes]:
        """See `Contender.masks`."""
        return [mask_of(self.segmenter(frame)) for frame in self.place(frames)]

    def close(self) -> None:
        """The sessions are closed together, since contenders share them."""


class Call(Base):
    """One frame at a time."""

    def turn(self, frames: Sequence[Bytes], count: int) -> Turn:
        """See `Contender.turn`."""
        turn = Turn(frames=count)
        placed = self.place(frames)
        began = time.perf_counter()
        for frame in cycle(placed, count):
            given = time.perf_counter()
            result = self.segmenter(frame)
            turn.latencies_ms.append((time.perf_counter() - given) * 1e3)
            note(turn, result)
        turn.wall_s = time.perf_counter() - began
        return turn


class CallOrdinary(Call):
    """The same from memory that is not page-locked."""

    def place(self, frames: Sequence[Bytes]) -> Sequence[Bytes]:
        """Leave them where they are."""
        return frames


class Pipelined(Base):
    """As many frames on their way as there are slots; the oldest is taken out before another goes in."""

    def turn(self, frames: Sequence[Bytes], count: int) -> Turn:
        """See `Contender.turn`."""
        turn = Turn(frames=count)
        placed = self.place(frames)
        flying: deque[tuple[float, SegmentationTicket]] = deque()
        began = time.perf_counter()
        for frame in cycle(placed, count):
            if len(flying) == self.key.slots:
                self._land(flying, turn)
            given = time.perf_counter()
            flying.append((given, self.segmenter.submit(frame)))
        while flying:
            self._land(flying, turn)
        turn.wall_s = time.perf_counter() - began
        return turn

    @staticmethod
    def _land(flying: deque[tuple[float, SegmentationTicket]], turn: Turn) -> None:
        given, ticket = flying.popleft()
        result = ticket.result()
        turn.latencies_ms.append((time.perf_counter() - given) * 1e3)
        note(turn, result)


class PipelinedOrdinary(Pipelined):
    """The same from memory that is not page-locked."""

    def place(self, frames: Sequence[Bytes]) -> Sequence[Bytes]:
        """Leave them where they are."""
        return frames


class Batch(Base):
    """`segmenter.batch`, which stacks the frames. A frame's latency is that of its whole batch."""

    def turn(self, frames: Sequence[Bytes], count: int) -> Turn:
        """See `Contender.turn`; the number of frames is rounded up to whole batches."""
        turn = Turn()
        began = time.perf_counter()
        for batch in batches_of(frames, self.key.batch, count):
            given = time.perf_counter()
            results = self.segmenter.batch(batch)
            turn.latencies_ms += [(time.perf_counter() - given) * 1e3] * len(results)
            turn.frames += len(results)
            note(turn, results[0])
        turn.wall_s = time.perf_counter() - began
        return turn

    def masks(self, frames: Sequence[Bytes]) -> list[Bytes]:
        """See `Contender.masks`; the batch is filled up, since this session is kept to one shape."""
        (batch,) = batches_of(frames, self.key.batch, self.key.batch)
        return [mask_of(result) for result in self.segmenter.batch(batch)][: len(frames)]


class BatchInPlace(Base):
    """Batches that lie in page-locked memory already, one array each."""

    def __init__(self, setting: Setting, key: Key) -> None:
        super().__init__(setting, key)
        self._input = self.segmenter.session.inputs[0].name
        self._output = self.segmenter.bundle.segmentation.heads[0].outputs["mask"]
        self._arrays: list[Bytes] = []

    def turn(self, frames: Sequence[Bytes], count: int) -> Turn:
        """See `Contender.turn`; the number of frames is rounded up to whole batches."""
        arrays, session = self._filled(frames), self.segmenter.session
        turn = Turn()
        began = time.perf_counter()
        for array in cycle(arrays, -(-count // self.key.batch)):
            given = time.perf_counter()
            ticket = session.submit({self._input: array})
            num_masks = len(ticket.result()[self._output])
            turn.latencies_ms += [(time.perf_counter() - given) * 1e3] * num_masks
            turn.frames += num_masks
            if ticket.times is not None:
                turn.times.append(ticket.times)
        turn.wall_s = time.perf_counter() - began
        return turn

    def masks(self, frames: Sequence[Bytes]) -> list[Bytes]:
        """See `Contender.masks`."""
        ticket = self.segmenter.session.submit({self._input: self._filled(frames)[0]})
        return list(ticket.result()[self._output])[: len(frames)]

    def _filled(self, frames: Sequence[Bytes]) -> list[Bytes]:
        """As many page-locked batches as hold all frames, filled once."""
        if not self._arrays:
            for batch in batches_of(frames, self.key.batch, len(frames)):
                shape = (self.key.batch, *frames[0].shape)
                array = self.segmenter.session.host_array(np.dtype(np.uint8), shape)
                np.stack(batch, out=array)
                self._arrays.append(array)
        return self._arrays

    def close(self) -> None:
        """Let go of the page-locked memory."""
        self._arrays.clear()


def batches_of(frames: Sequence[Item], size: int, count: int) -> list[list[Item]]:
    """At least `count` frames in batches of one size, going round in `frames`."""
    number = -(-count // size)
    everything = list(cycle(frames, number * size))
    return [everything[start : start + size] for start in range(0, len(everything), size)]


def note(turn: Turn, result: Segmentation) -> None:
    """Keep what the GPU says of a run."""
    if result.latency.gpu is not None:
        turn.times.append(result.latency.gpu)


def mask_of(result: Segmentation) -> Bytes:
    """The mask, which every bundle here emits."""
    assert result.mask is not None
    return result.mask
