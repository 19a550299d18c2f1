"""A slot: the memory, events and graphs of one frame on its way through the GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.device_array import DeviceArray, DeviceMemoryPool
from pixelrt.cuda.protocol import Driver
from pixelrt.pipeline.buffers import Buffer, PinnedFrames
from pixelrt.pipeline.executor import Binding, Executor
from pixelrt.pipeline.feeding import Feed
from pixelrt.pipeline.graphs import GraphPolicy, Graphs
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.ranges import nvtx_range
from pixelrt.pipeline.scratch import Scratch
from pixelrt.pipeline.streams import Span, Streams
from pixelrt.pipeline.times import GpuTimes
from pixelrt.tensors import Shape


@dataclass(frozen=True, slots=True)
class Shared:
    """What the slots of a ring have in common."""

    driver: Driver
    executor: Executor
    streams: Streams
    scratch: Scratch
    policy: GraphPolicy
    pinned: PinnedFrames
    pool: DeviceMemoryPool
    zero_copy: bool
    """Whether the GPU works in the host's memory, so that nothing is copied."""


class Slot:
    """Takes one run at a time: `start`, then `wait`, then `results`."""

    def __init__(self, shared: Shared, options: GpuOptions) -> None:
        self._shared = shared
        self._resources = contextlib.ExitStack()
        try:
            self._allocate(options)
        except BaseException:
            self._resources.close()
            raise
        self.shapes: Mapping[str, Shape] = {}
        self.last_use = 0.0
        """When a run was last started, in seconds of a clock that only goes forward."""
        self._feeds: Sequence[Feed] = ()
        self._names: Sequence[str] = ()
        self._kept: dict[str, DeviceArray] | None = None
        self._copies_up = self._copies_down = False
        self._enqueue_ms = 0.0

    def _allocate(self, options: GpuOptions) -> None:
        driver, executor = self._shared.driver, self._shared.executor
        spans = []
        for _ in range(3):
            spans.append(Span.of(driver, blocking=options.blocking))
            self._resources.callback(spans[-1].close)
        self._up, self._compute, self._down = spans
        self._binding: Binding = executor.binding(self._shared.streams.compute)
        self._resources.callback(self._binding.close)
        self._graphs = Graphs(self._shared.policy)
        self._resources.callback(self._graphs.drop)
        self._inputs = {spec.name: self._buffer() for spec in executor.inputs}
        self._outputs = {spec.name: self._buffer() for spec in executor.outputs}
        self._scratch_generation = -1

    def _buffer(self) -> Buffer:
        buffer = Buffer(self._shared.driver, shared=self._shared.zero_copy)
        self._resources.callback(buffer.close)
        return buffer

    def start(self, feeds: Sequence[Feed], outputs: Sequence[str], *, on_device: bool) -> None:
        """Put a run into the streams, without waiting for the GPU.

        Args:
            feeds: One per input.
            outputs: Names of those that are wanted.
            on_device: Leave them on the GPU.

        Raises:
            InputError: If the network does not take these shapes.
            DeviceError: If anything is refused. Work may be in flight all the same: see `abandon`.
        """
        self.last_use = time.monotonic()
        self._feeds, self._names, self._kept = feeds, outputs, None
        self._copies_up = not self._shared.zero_copy and any(feed.view is None for feed in feeds)
        self._copies_down = not self._shared.zero_copy and not on_device
        self._take_shapes({feed.spec.name: feed.shape for feed in feeds})
        addresses = self._upload()
        launch = self._prepare(addresses)
        with nvtx_range("enqueue"), self._compute.measured(self._shared.streams.compute):
            began = time.perf_counter()
            launch()
            self._enqueue_ms = (time.perf_counter() - began) * 1e3
        if on_device:
            self._keep()
        else:
            self._fetch()

    def _take_shapes(self, shapes: Mapping[str, Shape]) -> None:
        if shapes != self.shapes:
            self.shapes = {}  # so that a refusal half-way is not taken for these shapes
            self._graphs.drop()
            output_shapes = self._binding.set_shapes(shapes)
            for spec in self._shared.executor.outputs:
                self._outputs[spec.name].fit(spec.dtype, output_shapes[spec.name])
            self._scratch_generation = -1
            self.shapes = dict(shapes)
        if self._scratch_generation != self._shared.scratch.generation:
            self._take_scratch()

    def _take_scratch(self) -> None:
        """Work with the shared memory where and as large as it is now."""
        scratch, needed = self._shared.scratch, self._binding.scratch_bytes
        self._graphs.drop()
        scratch.reserve(needed)
        if needed:
            self._binding.set_scratch(scratch.address, scratch.size_bytes)
        self._scratch_generation = scratch.generation

    def _upload(self) -> dict[str, int]:
        """Bring the inputs to the GPU.

        Returns:
            Where every input and output of the run lies.
        """
        shared, streams = self._shared, self._shared.streams
        with nvtx_range("stage"):
            staged = [feed.stage(self._inputs[feed.spec.name], shared.pinned) for feed in self._feeds]
        with nvtx_range("upload"), self._up.measured(streams.up):
            addresses = {
                feed.spec.name: one.send(streams) for feed, one in zip(self._feeds, staged, strict=True)
            }
        streams.compute.wait(self._up.end)
        addresses.update((name, buffer.address) for name, buffer in self._outputs.items())
        return addresses

    def _prepare(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        """What launches the run: its graph if there is one by now, else the enqueue itself."""
        stream = self._shared.streams.compute

        def enqueue() -> None:
            self._binding.bind(addresses)
            self._binding.enqueue(stream)

        return self._graphs.prepare(tuple(addresses.values()), enqueue, stream)

    def _fetch(self) -> None:
        streams = self._shared.streams
        streams.down.wait(self._compute.end)
        with self._down.measured(streams.down):
            if not self._shared.zero_copy:
                for name in self._names:
                    buffer = self._outputs[name]
                    streams.down.copy_to_host(buffer.bytes, buffer.address)

    def _keep(self) -> None:
        """Copy the outputs on the GPU to memory of their own: the slot's is overwritten by the next run."""
        streams, self._kept = self._shared.streams, {}
        streams.down.wait(self._compute.end)
        with self._down.measured(streams.down):
            for name in self._names:
                buffer = self._outputs[name]
                kept = self._shared.pool.array(buffer.array.shape, buffer.array.dtype, streams.down)
                streams.down.copy_on_device(kept.address, buffer.address, buffer.used_bytes)
                self._kept[name] = kept

    @property
    def done(self) -> bool:
        """Whether the GPU has finished the run."""
        return self._down.end.done

    def wait(self) -> None:
        """Wait for the run.

        Raises:
            DeviceError: If the GPU failed at it, or at something before.
        """
        with nvtx_range("wait"):
            self._down.end.synchronize()
        self._release_feeds()

    def times(self) -> GpuTimes:
        """Of the run that `wait` waited for."""
        return GpuTimes(
            enqueue_ms=self._enqueue_ms,
            upload_ms=self._up.ms if self._copies_up else 0.0,
            compute_ms=self._compute.ms,
            download_ms=self._down.ms if self._copies_down else 0.0,
        )

    def results(self) -> dict[str, NDArray[Any]] | dict[str, DeviceArray]:
        """The outputs of that run, in memory of the caller's own."""
        if self._kept is not None:
            for array in self._kept.values():
                array.complete()
            return self._kept
        return {name: np.array(self._outputs[name].array) for name in self._names}

    def abandon(self) -> None:
        """Wait for whatever a failed start has put into the streams, so that its memory can be used again.

        Raises:
            DeviceError: If the GPU itself has failed.
        """
        try:
            self._shared.streams.synchronize()
        finally:
            self._kept = None
            self._release_feeds()

    def _release_feeds(self) -> None:
        feeds, self._feeds = self._feeds, ()
        for feed in feeds:
            feed.release()

    def close(self) -> None:
        """Free everything. No run may be in flight."""
        self._feeds, self._kept = (), None
        self._resources.close()
