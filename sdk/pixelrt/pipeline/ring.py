"""The ring of slots: several frames on their way through one network on one GPU.

    submit n+1   copy up      ░░░░████
    submit n     compute          ████████
    submit n-1   copy down                ██
                 ------------------------------> time

Three streams do one kind of work each, in order, so that the kinds overlap. A slot is used again only when
its run has been waited for and its results have been taken out: no result can be an older one's.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.device_array import DeviceMemoryPool
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import ContextLost, DeviceError, DeviceLost
from pixelrt.pipeline.buffers import PinnedFrames, zero_copy
from pixelrt.pipeline.executor import Executor
from pixelrt.pipeline.feeding import Feed
from pixelrt.pipeline.graphs import GraphPolicy
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.scratch import Scratch
from pixelrt.pipeline.slot import Shared, Slot
from pixelrt.pipeline.streams import Streams
from pixelrt.pipeline.times import GpuTimes
from pixelrt.tensors import Shape

_LOG = logging.getLogger("pixelrt.pipeline")


class Run:
    """A run on its way. Belongs to the ring that it came from, and to the thread that uses the ring."""

    def __init__(self, ring: Ring, slot: Slot) -> None:
        self._ring: Ring | None = ring
        self._slot: Slot | None = slot
        self._results: dict[str, Any] | None = None
        self.problem: DeviceError | None = None
        """Why there are no results."""
        self.times: GpuTimes | None = None
        """Known after `result`."""

    @property
    def done(self) -> bool:
        """Whether `result` returns without waiting for the GPU."""
        return self._slot is None or self._ring is None or self._ring.is_done(self._slot)

    def result(self) -> dict[str, Any]:
        """Wait for the outputs: arrays of the caller's own, on the host or, if so asked, on the GPU.

        Raises:
            DeviceError: If the GPU failed at the run; every call then raises it.
        """
        if self._ring is not None:
            self._ring.finish(self)
        if self.problem is not None:
            raise self.problem
        assert self._results is not None
        return self._results

    def settle(self) -> None:
        """Take the results out of the slot, or remember why there are none; the slot is free then.

        Ctrl-C in the middle leaves everything as it was.
        """
        if self._slot is None:
            return
        try:
            self._slot.wait()
            self.times, self._results = self._slot.times(), self._slot.results()
        except DeviceError as problem:
            self.problem = problem.with_traceback(None)
        self._slot = self._ring = None


class Ring:
    """Runs an executor on one GPU. Used from one thread at a time, which the session sees to.

    It owns the streams and the executor, and frees them in `close`.
    """

    def __init__(
        self,
        driver: Driver,
        streams: Streams,
        executor: Executor,
        options: GpuOptions,
        pinned: PinnedFrames | None = None,
    ) -> None:
        """Make the slots.

        Args:
            driver: CUDA, which stays the caller's.
            streams: Where it runs.
            executor: What it runs.
            options: How.
            pinned: Page-locked arrays that other rings share; None makes a place for those of this one.

        Raises:
            OutOfMemory: If there is not enough memory. All is freed then, streams and executor included.
        """
        self._policy = GraphPolicy(_why_no_graphs(driver, executor, options))
        self.largest_batch = executor.largest_batch
        """How many frames may go through together; None where the executor sets no limit."""
        self._shared: Shared | None = Shared(
            driver=driver,
            executor=executor,
            streams=streams,
            scratch=Scratch(driver, streams.compute),
            policy=self._policy,
            pinned=pinned or PinnedFrames(driver, options),
            pool=DeviceMemoryPool(driver),
            zero_copy=zero_copy(driver, options),
        )
        self._slots: list[Slot] = []
        self._running: deque[tuple[Run, Slot]] = deque()
        self._lost: tuple[type[DeviceError], str] | None = None
        try:
            with driver.current():
                for _ in range(options.slots):
                    self._slots.append(Slot(self._shared, options))
        except BaseException:
            self._free()
            raise

    @property
    def graphs(self) -> str:
        """How many CUDA graphs were captured, or why there are none."""
        return self._policy.text

    def submit(
        self, feeds: Mapping[str, Any], *, outputs: Collection[str] | None = None, on_device: bool = False
    ) -> Run:
        """Start a run. Where all slots are taken, the oldest run is waited for first; its results are kept.

        Args:
            feeds: One array per input, on the host or on this GPU. Page-locked arrays (`pinned_array`) and
                arrays on the GPU must stay as they are until the run is done; others are copied at once.
            outputs: Names of those that are wanted; None for all.
            on_device: Leave them on the GPU.

        Raises:
            InputError: If an input does not fit; nothing was started.
            DeviceError: If something is refused; there is no result, and the next run is not affected.
            ContextLost, DeviceLost: If CUDA is of no more use to this process; so say all later calls.
        """
        with self._working() as shared:
            slot = self._free_slot({name: _shape(value) for name, value in feeds.items()})
            checked = _checked(shared, feeds)
            names = [spec.name for spec in shared.executor.outputs if outputs is None or spec.name in outputs]
            run = Run(self, slot)
            self._running.append((run, slot))
            try:
                slot.start(checked, names, on_device=on_device)
            except BaseException:
                self._abandon(run, slot)
                raise
            return run

    def pinned_array(self, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
        """A page-locked array to fill and submit: it is copied to the GPU without passing another buffer.

        Raises:
            OutOfMemory: If the host has no more memory to lock.
        """
        with self._working() as shared:
            return shared.pinned.make(dtype, shape)

    def is_done(self, slot: Slot) -> bool:
        """Whether the run of a slot is done."""
        with self._working():
            return slot.done

    def finish(self, run: Run) -> None:
        """Wait for a run and those before it."""
        with self._working():
            while any(run is waiting for waiting, _ in self._running):
                self._finish_oldest()

    def close(self) -> None:
        """Wait for all runs, keep their results, and free everything. Nothing of it is raised."""
        with contextlib.suppress(DeviceError), self._working():
            while self._running:
                self._finish_oldest()
        self._free()

    def _free_slot(self, shapes: Mapping[str, Shape]) -> Slot:
        """A slot without a run: one that has these shapes already, or else the one unused longest."""
        if len(self._running) == len(self._slots):
            self._finish_oldest()
        taken = [slot for _, slot in self._running]
        free = [slot for slot in self._slots if slot not in taken]
        return next(
            (slot for slot in free if slot.shapes == shapes), min(free, key=lambda slot: slot.last_use)
        )

    def _finish_oldest(self) -> None:
        run, _ = self._running[0]
        run.settle()
        self._running.popleft()
        if isinstance(run.problem, (ContextLost, DeviceLost)):
            raise run.problem

    def _abandon(self, run: Run, slot: Slot) -> None:
        """Give up a run whose start failed. What it failed of counts, unless the GPU itself is gone."""
        try:
            slot.abandon()
        except (ContextLost, DeviceLost):
            raise
        except DeviceError as problem:
            _LOG.warning("after a run that was refused: %s", problem)
        finally:
            self._running.remove((run, slot))

    @contextlib.contextmanager
    def _working(self) -> Iterator[Shared]:
        """Work with CUDA; refused for good after an error that CUDA does not get over."""
        if self._lost is not None:
            kind, text = self._lost
            raise kind(
                f"this session ended with: {text} It runs nothing more; start a new process, or let "
                "pixelrt.isolate run it in one that can be restarted"
            )
        shared = self._shared
        if shared is None:
            raise DeviceError("this session is closed; open the bundle again with pixelrt.load")
        try:
            with shared.driver.current():
                yield shared
        except (ContextLost, DeviceLost) as problem:
            self._lost = type(problem), str(problem)  # not the error, whose traceback keeps the network
            raise

    def _free(self) -> None:
        """Free, whatever state CUDA is in: what cannot be freed is gone with its context."""
        shared, self._shared = self._shared, None
        if shared is None:
            return
        slots, self._slots = self._slots, []
        resources: list[Any] = [*slots, shared.scratch, shared.pool, shared.executor, shared.streams]
        for resource in resources:
            try:
                with shared.driver.current():
                    resource.close()
            except DeviceError as problem:  # noqa: PERF203  # each is freed, whatever becomes of the others
                _LOG.warning("%s was not freed: %s", type(resource).__name__, problem)


def _checked(shared: Shared, feeds: Mapping[str, Any]) -> Sequence[Feed]:
    compute, device = shared.streams.compute, shared.driver.device
    with contextlib.ExitStack() as taken:
        checked = []
        for spec in shared.executor.inputs:
            feed = Feed.of(spec, feeds[spec.name], compute, device)
            taken.callback(feed.release)
            checked.append(feed)
        taken.pop_all()
    return checked


def _shape(value: Any) -> Shape:
    """The shape that a value seems to have, which is checked later."""
    if isinstance(value, tuple):
        return (len(value), *_shape(value[0])) if value else ()
    return tuple(getattr(value, "shape", ()))


def _why_no_graphs(driver: Driver, executor: Executor, options: GpuOptions) -> str:
    """Why runs are not captured; empty if they may be."""
    if not options.graphs:
        return "none: switched off"
    if not driver.captures_graphs:
        return f"none: {driver.name} has no CUDA graphs, cuda-python has (pip install 'pixelrt[cuda]')"
    return f"none: {executor.uncapturable}" if executor.uncapturable else ""
