"""Keeps a child process at work: hands it frames, notices when it is lost, and replaces it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import weakref
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.errors import ContextLost, DeviceError, DeviceLost, ExecutionFailed, PixelRTError
from pixelrt.isolation.buffers import FrameBuffers
from pixelrt.isolation.flight import Flight
from pixelrt.isolation.options import IsolationOptions, LoadOptions, Size
from pixelrt.isolation.process import Child, ChildLostError, Ground
from pixelrt.isolation.restarts import Restarts
from pixelrt.isolation.starting import start_child
from pixelrt.segmentation import Segmentation
from pixelrt.session import GpuOptions

_LOG = logging.getLogger("pixelrt.isolation")
_PATIENCE_S = 5.0
_CLOSING_S = 30.0
_FEWEST_SLOTS = 2
"""Even where one frame is computed at a time, the next one can be handed over meanwhile."""


class Supervisor:
    """Has frames segmented in a child process, and replaces a child that is lost, as often as is allowed.

    One thread at a time may call its methods; any may read its attributes.

    Attributes:
        buffers: Frames that the child reads in place.
        info: What runs the bundle in the child.
        options: How the child is watched and replaced, from now on.
        replaced: How many children have replaced a lost one so far.
        sizes: What a fresh child is warmed up for.
        slots: How many requests may be on their way at once.
    """

    def __init__(self, bundle: Bundle, options: IsolationOptions, loading: LoadOptions) -> None:
        """Start the first child.

        Args:
            bundle: What to run.
            options: How the child is watched and replaced.
            loading: What `pixelrt.load` shall be called with.

        Raises:
            DeviceError: If the child cannot be started, or nothing may run the bundle.
            PixelRTError: As `pixelrt.load`.
        """
        self.slots = max(_FEWEST_SLOTS, (loading.get("gpu") or GpuOptions()).slots)
        self.buffers = FrameBuffers()
        weakref.finalize(self, self.buffers.close)
        self.sizes = list(options.warm_up)
        self.replaced = 0
        self._ground = Ground(bundle, self.slots, self.buffers)
        self.options = options
        self._loading = loading
        self._frames = 0
        self._why_lost = ""
        self._restarts = Restarts()
        self._child: Child | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self.buffers.close)
            self._child = self._start()
            undo.pop_all()
        self.info = self._child.ready.info

    @property
    def child(self) -> Child | None:
        """The child that is there for the next frame; None if it is lost or closed."""
        child = self._child
        return child if child is not None and child.alive else None

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        """Send frames and wait for their results.

        Raises:
            PixelRTError: As `IsolatedSegmenter`.
        """
        flight = self.send(frames, "call" if len(frames) == 1 else "batch")
        self.wait_for(flight)
        return flight.take()

    def send(self, frames: Sequence[NDArray[np.uint8]], how: Literal["call", "submit", "batch"]) -> Flight:
        """Send frames, as soon as there is a slot and a child. Where it is lost, so are they.

        Raises:
            DeviceError: If there is no child and none may be started by itself.
            OutOfMemory: If there is no room for the frames.
        """
        began_s = time.monotonic()
        while self._on_their_way and self._receive(wait=self._on_their_way >= self.slots):
            pass
        child = self._ready_child()
        flight = Flight(self._frames + 1, len(frames), began_s)
        self._frames = flight.last
        try:
            child.send(flight, frames, how)
        except ChildLostError as lost:
            self._lose(f"{lost}")
        return flight

    def wait_for(self, flight: Flight) -> None:
        """Wait until frames have landed.

        Raises:
            DeviceError: If they are with no child.
        """
        while not flight.landed:
            self._receive(wait=True)

    def land_ready(self) -> None:
        """Take all answers that are there."""
        while self._on_their_way and self._receive(wait=False):
            pass

    def warm_up(self, size: Size) -> None:
        """Have the child, and those to come, warm up for frames of a size.

        Raises:
            PixelRTError: As `IsolatedSegmenter.warm_up`.
        """
        while self._on_their_way:
            self._receive(wait=True)
        self._warm_up(self._ready_child(), size)
        if size not in self.sizes:
            self.sizes.append(size)

    def restart(self) -> None:
        """End the child, if there is one, and start a fresh one. Restarts before this count no more.

        Raises:
            PixelRTError: As `isolate`.
        """
        self.land_ready()
        self._lose("was ended by restart()", outlook="submit it again")
        self._restarts.forget()
        self._replace()

    def close(self) -> None:
        """Wait for what is on its way, and end the child."""
        while self._on_their_way:
            self._receive(wait=True, timeout_s=self.options.timeout_s or _CLOSING_S)
        if self._child is not None:
            self._child.end(_PATIENCE_S)
        self._child = None
        self.buffers.close()

    @property
    def _on_their_way(self) -> int:
        return len(self._child.flights) if self._child is not None else 0

    def _receive(self, *, wait: bool, timeout_s: float | None = None) -> bool:
        """Take the answer to the oldest frames on their way.

        Returns:
            Whether it was there. Where the child was lost instead, that is the answer.
        """
        if self._child is None:
            raise DeviceError("these frames are with no child process; submit them again")
        try:
            return self._child.receive(timeout_s or self.options.timeout_s, wait=wait)
        except ChildLostError as lost:
            self._lose(f"{lost}")
        except (ContextLost, DeviceLost) as problem:
            self._lose(f"was ended after an error ({problem})", problem)
        return True

    def _warm_up(self, child: Child, size: Size) -> None:
        height, width = size
        which = f"warming up for frames of {height}x{width}"
        try:
            child.warm_up(size, self.options.start_timeout_s)
        except ChildLostError as lost:
            self._lose(f"{lost}")
            raise ExecutionFailed(f"the child process {lost}\n{which}: not done; {self._outlook()}") from None
        except (ContextLost, DeviceLost) as problem:
            self._lose(f"was ended after an error ({problem})")
            raise type(problem)(f"{problem}\n{which}: not done; {self._outlook()}") from None

    def _ready_child(self) -> Child:
        """The child, or a fresh one where that may be."""
        child = self._child
        if child is not None and child.alive:
            return child
        if child is not None:
            self._lose(child.obituary())
        if not self._restarts.left(self.options):
            raise DeviceError(
                f"there is no child process to run this: the last one {self._why_lost}\n{self._outlook()}"
            )
        which = self._restarts.count(self.options)
        _LOG.warning("the child process %s; a fresh one is started (%s)", self._why_lost, which)
        return self._replace()

    def _replace(self) -> Child:
        try:
            child = self._start()
        except PixelRTError as problem:
            self._why_lost = f"could not be replaced ({problem})"
            raise
        found, expected = (dataclasses.replace(info, why="") for info in (child.ready.info, self.info))
        if found != expected:
            child.end()
            self._why_lost = f"would have run on {found.backend} on {found.device} in {found.precision}"
            raise DeviceError(
                f"a fresh child process would run {self._ground.bundle.path} with {found}, and the one "
                f"before it ran it with {expected}: results would differ. Choose with "
                "pixelrt.isolate(..., backend=..., device=..., precision=...)"
            )
        self._child = child
        self.replaced += 1
        return child

    def _start(self) -> Child:
        return start_child(self._ground, self.options, self._loading, self.sizes)

    def _lose(self, why: str, problem: PixelRTError | None = None, outlook: str = "") -> None:
        """Let the child go, and with it what is on its way.

        Args:
            why: How the child ended.
            problem: The error that frames have then, if not `ExecutionFailed`.
            outlook: What happens next, and what the user can do, if that is not as usual.
        """
        self._why_lost = why
        child = self._child
        if child is None:
            return
        child.end()
        kind, text = (type(problem), problem) if problem else (ExecutionFailed, f"the child process {why}")
        outlook = outlook or self._outlook()
        for flight in child.flights:
            flight.fail(kind, f"{text}\n{flight.which}: no result; {outlook}")
        self._child = None

    def _outlook(self) -> str:
        return self._restarts.outlook(self.options)
