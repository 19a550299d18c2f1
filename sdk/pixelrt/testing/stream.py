"""Streams and graphs of a simulated GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.protocol import Event, Stream
from pixelrt.errors import ContextLost, DeviceError, InputError
from pixelrt.testing.capture import Capture, CapturedMark, Node, launch
from pixelrt.testing.gpu import Gpu, Resource, fake
from pixelrt.testing.resources import FakeEvent
from pixelrt.testing.simulation import Engine, Operation, Range, Work

Bytes = NDArray[np.uint8]


class FakeStream(Resource):
    """A stream; see `pixelrt.cuda.protocol.Stream`."""

    kind = "stream"

    def __init__(self, gpu: Gpu, handle: int, priority: int = 0) -> None:
        if handle:
            super().__init__(gpu)
        self.gpu = gpu
        self.closed = False
        self._handle = handle
        self.priority = priority
        self._tail: tuple[Operation, ...] = ()
        self._capture: Capture | None = None
        self._branch = 0
        self._node: int | None = None
        gpu.streams[handle] = self

    @property
    def handle(self) -> int:
        """A number for it; see `Stream.handle`."""
        self.check_open()
        return self._handle

    def copy_to_device(self, target: int, source: Bytes) -> None:
        """Copy page-locked bytes up; see `Stream.copy_to_device`."""
        with self._use("copy_to_device"):
            given = self.gpu.memory.page_locked(source)
            self._put_copy("up", self.gpu.memory.on_device(target, given.size), given)

    def copy_to_host(self, target: Bytes, source: int) -> None:
        """Copy down into page-locked bytes; see `Stream.copy_to_host`."""
        with self._use("copy_to_host"):
            filled = self.gpu.memory.page_locked(target)
            if not filled.flags.writeable:
                raise InputError("bytes to copy to are read-only, expected an array that can be written")
            self._put_copy("down", filled, self.gpu.memory.on_device(source, filled.size))

    def copy_on_device(self, target: int, source: int, size_bytes: int) -> None:
        """Copy on the GPU; see `Stream.copy_on_device`."""
        with self._use("copy_on_device"):
            if size_bytes < 1:
                raise InputError(f"size_bytes is {size_bytes}, expected at least 1")
            memory = self.gpu.memory
            self._put_copy(
                "compute", memory.on_device(target, size_bytes), memory.on_device(source, size_bytes)
            )

    def run(
        self,
        action: Callable[[], None],
        *,
        label: str = "run",
        duration_ms: float = 1.0,
        reads: tuple[Range, ...] = (),
        writes: tuple[Range, ...] = (),
    ) -> None:
        """Put a kernel into the stream. It is not in the protocol: executors bring their own.

        Args:
            action: What it does to memory, by way of `FakeCuda.view`.
            label: Its name in the timeline.
            duration_ms: How long it takes, in simulated time.
            reads: Address and bytes of all that it reads.
            writes: Address and bytes of all that it writes.

        Raises:
            DeviceError: If some of that is not allocated, or the stream is closed.
        """
        with self._use("run"):
            memory = self.gpu.memory
            used = [memory.on_device(address, size_bytes) for address, size_bytes in (*reads, *writes)]
            work = Work(
                label=label,
                engine="compute",
                duration_ms=duration_ms,
                action=self._guarded(label, action, used),
                reads=reads,
                writes=writes,
            )
            self._put(work)

    def record(self, event: Event) -> None:
        """Put a mark; see `Stream.record`."""
        with self._use("record"):
            marked = fake(event, FakeEvent, self.gpu)
            marked.check_open()
            marked.mark = self._mark()

    def wait(self, event: Event) -> None:
        """Wait for an event; see `Stream.wait`."""
        with self._use("wait"):
            awaited = fake(event, FakeEvent, self.gpu)
            awaited.check_open()
            if awaited.mark is not None:
                self._wait(awaited.mark)

    def wait_for_stream(self, handle: int) -> None:
        """Wait for another stream of this driver, or its `default_stream`; see `Stream.wait_for_stream`."""
        with self._use("wait_for_stream"):
            other = self.gpu.streams.get(handle)
            if other is None or other.closed:
                raise DeviceError(f"there is no stream with the handle {handle:#x}")
            self._wait(other._mark())

    def begin_capture(self) -> None:
        """Record from now on; see `Stream.begin_capture`."""
        with self._use("begin_capture"):
            if not self.gpu.captures_graphs:
                raise DeviceError("this driver has no graphs; see captures_graphs")
            if self._capture is not None:
                raise self._capture.refuse("begin_capture came twice")
            if self.handle == 0:
                raise DeviceError("CUDA's default stream cannot be captured")
            self._capture = Capture()
            self._branch, self._node = 0, None
            self.gpu.captures.append(self._capture)

    def end_capture(self) -> FakeGraph:
        """End the recording; see `Stream.end_capture`."""
        capture, tail = self._capture, self._node
        try:
            with self._use("end_capture"):
                if capture is None:
                    raise DeviceError("end_capture came without begin_capture")
                if reason := self._refusal(capture, tail):
                    raise DeviceError(f"the capture failed: {reason}")
                return FakeGraph(self.gpu, tuple(capture.nodes))
        finally:
            if capture is not None:
                self.gpu.end(capture)

    def synchronize(self) -> None:
        """Wait until all work is done; see `Stream.synchronize`."""
        with self._use("synchronize", in_capture=False):
            self.gpu.simulation.finish(self._tail)

    @property
    def capturing(self) -> bool:
        """Whether work is recorded instead of done."""
        return self._capture is not None

    def leave(self, capture: Capture) -> None:
        """Work normally again, if this capture has the stream."""
        if self._capture is capture:
            self._capture, self._node = None, None

    def close(self) -> None:
        """Let go of it; its work is done all the same. CUDA's default stream stays."""
        if self._handle:
            super().close()

    def _free(self) -> None:
        self.gpu.streams.pop(self._handle, None)

    @contextmanager
    def _use(self, name: str, *, in_capture: bool = True) -> Iterator[None]:
        with self.gpu.call(f"Stream.{name}", in_capture=in_capture):
            self.check_open()
            if not in_capture and self._capture is not None:
                raise self._capture.refuse(f"Stream.{name} is not allowed during a capture")
            yield

    def _refusal(self, capture: Capture, tail: int | None) -> str:
        if capture.broken:
            return capture.broken
        if self._branch != 0:
            return "end_capture came to another stream than begin_capture"
        if capture.unjoined(tail):
            return "work of another stream is in it, and the stream that was captured does not wait for it"
        return self.gpu.fail_capture

    def _put_copy(self, engine: Engine, target: Bytes, source: Bytes) -> None:
        label = {"up": "copy to device", "compute": "copy on device", "down": "copy to host"}[engine]

        def copy() -> None:
            target[:] = source

        work = Work(
            label=label,
            engine=engine,
            duration_ms=source.size / (self.gpu.copy_gb_per_s * 1e6),
            action=self._guarded(label, copy, [target, source]),
            reads=(_range(source),),
            writes=(_range(target),),
        )
        self._put(work)

    def _guarded(self, label: str, action: Callable[[], None], used: Sequence[Bytes]) -> Callable[[], None]:
        """Let work whose memory was freed meanwhile end as it ends on a GPU."""

        def guarded() -> None:
            try:
                for view in used:
                    self.gpu.memory.check(view)
            except DeviceError as problem:
                raise ContextLost(f"{label}: illegal address: {problem}") from problem
            action()

        return guarded

    def _put(self, work: Work) -> None:
        if self._capture is not None:
            after = () if self._node is None else (self._node,)
            self._node = self._capture.add(work, self._branch, after)
        else:
            self._tail = (self.gpu.simulation.put(work, (self.handle, 0), self._tail),)

    def _mark(self) -> Operation | CapturedMark:
        if self._capture is not None:
            return CapturedMark(self._capture, self._node)
        self._put(Work(label="mark"))
        return self._tail[0]

    def _wait(self, mark: Operation | CapturedMark) -> None:
        if isinstance(mark, CapturedMark):
            self._wait_in_capture(mark)
        elif self._capture is not None:
            raise self._capture.refuse(
                "a stream that is captured cannot wait for what is outside of the capture"
            )
        else:
            self._tail = (self.gpu.simulation.put(Work(label="wait"), (self.handle, 0), (*self._tail, mark)),)

    def _wait_in_capture(self, mark: CapturedMark) -> None:
        capture = mark.capture
        if capture.ended:
            raise DeviceError("the event was recorded in a capture that has ended; record it again")
        if self._capture is None:
            self._capture, self._branch, self._node = capture, capture.join(), None
        elif self._capture is not capture:
            raise self._capture.refuse("a stream that is captured cannot wait for another capture")
        after = tuple(dict.fromkeys(node for node in (self._node, mark.node) if node is not None))
        self._node = capture.add(Work(label="wait"), self._branch, after)


class FakeGraph(Resource):
    """A graph; see `pixelrt.cuda.protocol.Graph`."""

    kind = "graph"

    def __init__(self, gpu: Gpu, nodes: tuple[Node, ...]) -> None:
        super().__init__(gpu)
        self.nodes = nodes
        self._last: Operation | None = None

    def launch(self, stream: Stream) -> None:
        """Put its work into a stream, behind its own last launch; see `Graph.launch`."""
        with self.gpu.call("Graph.launch"):
            self.check_open()
            target = fake(stream, FakeStream, self.gpu)
            target.check_open()
            if target.capturing:
                raise DeviceError("the fake driver cannot capture the launch of a graph")
            before = (*target._tail, *([self._last] if self._last is not None else []))
            self._last = launch(self.gpu.simulation, self.nodes, target.handle, before)
            target._tail = (self._last,)


def _range(array: Bytes) -> Range:
    return int(array.ctypes.data), int(array.size)
