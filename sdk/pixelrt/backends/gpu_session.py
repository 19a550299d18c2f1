"""The session of every backend that runs on a GPU: a ring of slots, whatever runs the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.backends.base import LocalSession, SessionInfo, Ticket
from pixelrt.cuda.protocol import Driver
from pixelrt.manifest import Manifest
from pixelrt.pipeline.executor import Executor
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.ring import Ring, Run
from pixelrt.pipeline.streams import Streams
from pixelrt.pipeline.times import GpuTimes
from pixelrt.tensors import Shape

MakeExecutor = Callable[[Driver, Streams], Executor]
"""Makes an executor that the ring then owns; called again for every clone."""


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
    """Runs an executor on a ring of slots. Clones share the driver, which goes with the last of them."""

    def __init__(
        self,
        manifest: Manifest,
        info: SessionInfo,
        driver: Driver,
        make_executor: MakeExecutor,
        options: GpuOptions,
    ) -> None:
        """Open the ring.

        Args:
            manifest: Names inputs and outputs.
            info: What runs, and why.
            driver: CUDA.
            make_executor: Loads the network.
            options: How the GPU is used.

        Raises:
            OutOfMemory: If there is not enough memory; what was taken is freed.
            DeviceError, EngineMismatch: If the network cannot be loaded.
        """
        super().__init__(manifest, info, None)
        self._manifest = manifest
        self._driver = driver
        self._make_executor = make_executor
        self._options = options
        self._ring = open_ring(driver, make_executor, options)

    @property
    def graphs(self) -> str:
        """See `Session.graphs`."""
        return self._ring.graphs

    @property
    def slots(self) -> int:
        """See `Session.slots`."""
        return self._options.slots

    @property
    def zero_copy(self) -> bool:
        """Whether the GPU reads and writes the host's memory in place."""
        return self._ring.zero_copy

    def submit(self, feeds: Mapping[str, Any], *, on_device: bool = False) -> Ticket:
        """See `Session.submit`."""
        with self._alone():
            self._check_names(feeds)
            return GpuTicket(self, self._ring.submit(feeds, on_device=on_device))

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
        with self._alone():
            return GpuSession(self._manifest, self.info, self._driver, self._make_executor, self._options)

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self._ring.submit(feeds).result()

    def _check(self, feeds: Mapping[str, Any]) -> None:
        self._check_names(feeds)  # the ring checks the rest, which may lie on the GPU

    def _free(self) -> None:
        self._ring.close()


def open_ring(driver: Driver, make_executor: MakeExecutor, options: GpuOptions) -> Ring:
    """Load a network and make the ring that runs it.

    Raises:
        OutOfMemory: If there is not enough memory; what was taken is freed.
        DeviceError, EngineMismatch: If the network cannot be loaded.
    """
    with driver.current():
        streams = Streams.of(driver, options.priority)
        try:
            executor = make_executor(driver, streams)
        except BaseException:
            streams.close()
            raise
        return Ring(driver, streams, executor, options)
