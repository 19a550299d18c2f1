"""The session of every backend that runs on a GPU: a ring of slots, whatever runs the network."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.backends.base import LocalSession, SessionInfo, Ticket
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import DeviceError
from pixelrt.manifest import Manifest
from pixelrt.pipeline.buffers import PinnedFrames
from pixelrt.pipeline.executor import Executor
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.ring import Ring, Run
from pixelrt.pipeline.streams import Streams
from pixelrt.pipeline.times import GpuTimes
from pixelrt.tensors import Shape

MakeExecutor = Callable[[Driver, Streams], Executor]
"""Makes an executor that the ring then owns; called again for every clone."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a session and its clones are made of. It goes with the last of them, and the driver with it."""

    driver: Driver
    make_executor: MakeExecutor
    options: GpuOptions
    pinned: PinnedFrames

    @classmethod
    def of(cls, driver: Driver, make_executor: MakeExecutor, options: GpuOptions) -> Origin:
        """For a first session."""
        return cls(driver, make_executor, options, PinnedFrames(driver, options))

    def ring(self) -> Ring:
        """Load the network and make the ring that runs it.

        Raises:
            OutOfMemory: If there is not enough memory; what was taken is freed.
            DeviceError, EngineMismatch: If the network cannot be loaded.
        """
        with self.driver.current():
            streams = Streams.of(self.driver, self.options.priority)
            try:
                executor = self.make_executor(self.driver, streams)
            except BaseException:
                streams.close()
                raise
            return Ring(self.driver, streams, executor, self.options, self.pinned)


class GpuTicket:
    """A run on its way, as the session hands it out."""

    def __init__(self, session: GpuSession, run: Run) -> None:
        self._session = session
        self._run = run

    @property
    def done(self) -> bool:
        """See `Ticket.done`."""
        return self._session.done(self._run)

    @property
    def times(self) -> GpuTimes | None:
        """See `Ticket.times`."""
        return self._run.times

    def result(self) -> dict[str, Any]:
        """See `Ticket.result`."""
        return self._session.result(self._run)


class GpuSession(LocalSession):
    """Runs an executor on a ring of slots. As garbage it waits for its runs and frees all the same."""

    def __init__(self, manifest: Manifest, info: SessionInfo, origin: Origin) -> None:
        """Open the ring.

        Args:
            manifest: Names inputs and outputs.
            info: What runs, and why.
            origin: What it is made of.

        Raises:
            OutOfMemory: If there is not enough memory; what was taken is freed.
            DeviceError, EngineMismatch: If the network cannot be loaded.
        """
        super().__init__(manifest, info, {})
        self._manifest = manifest
        self._slots = origin.options.slots
        self._origin: Origin | None = origin
        self._ring = origin.ring()
        self._close_ring = weakref.finalize(self, self._ring.close)
        self._close_ring.atexit = False  # the process ends with its context

    @property
    def driver(self) -> Driver:
        """CUDA on its GPU.

        Raises:
            DeviceError: If the session is closed.
        """
        if self._origin is None:
            raise DeviceError("this session is closed; open the bundle again with pixelrt.load")
        return self._origin.driver

    @property
    def graphs(self) -> str:
        """See `Session.graphs`."""
        return self._ring.graphs

    @property
    def slots(self) -> int:
        """See `Session.slots`."""
        return self._slots

    @property
    def largest_batch(self) -> int | None:
        """See `Session.largest_batch`."""
        return self._ring.largest_batch

    def submit(
        self, feeds: Mapping[str, Any], *, outputs: Collection[str] | None = None, on_device: bool = False
    ) -> Ticket:
        """See `Session.submit`."""
        with self._alone():
            self._check_names(feeds)
            wanted = self._wanted(outputs)
            return GpuTicket(self, self._ring.submit(feeds, outputs=wanted, on_device=on_device))

    def done(self, run: Run) -> bool:
        """Whether a run of this session is done."""
        with self._alone(closing=True):
            return run.done

    def result(self, run: Run) -> dict[str, Any]:
        """Wait for a run of this session; those that were waited for are there after closing too."""
        with self._alone(closing=True):
            return run.result()

    def host_array(self, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
        """See `Session.host_array`."""
        with self._alone():
            return self._ring.pinned_array(dtype, shape)

    def clone(self) -> GpuSession:
        """See `Session.clone`."""
        with self._alone(cloning=True):
            assert self._origin is not None
            return GpuSession(self._manifest, self.info, self._origin)

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self._ring.submit(feeds, outputs=self._wanted(None)).result()

    def _check(self, feeds: Mapping[str, Any]) -> None:
        self._check_names(feeds)  # the ring checks the rest, which may lie on the GPU

    def _free(self) -> None:
        self._close_ring()
        self._origin = None
