"""CUDA graphs of a slot: one per set of addresses, captured the second time that they come."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator

from pixelrt.cuda.capturing import CAPTURING
from pixelrt.cuda.protocol import Graph, Stream
from pixelrt.errors import ContextLost, DeviceError, DeviceLost

_LOG = logging.getLogger("pixelrt.pipeline")

_MOST_GRAPHS = 8
"""Per slot. A camera's buffers have a handful of addresses; a source with new ones each time gets none."""


class GraphPolicy:
    """Whether the slots of a ring capture, and if not, why. Shared by them: one refusal is enough."""

    def __init__(self, reason: str = "") -> None:
        self._reason = reason
        self._captured = 0

    @property
    def enabled(self) -> bool:
        """Whether runs are captured."""
        return not self._reason

    @property
    def text(self) -> str:
        """For people: `3 captured`, or why there are none."""
        return self._reason or f"{self._captured} captured"

    def count(self) -> None:
        """One more was captured."""
        self._captured += 1

    def refuse(self, problem: DeviceError) -> None:
        """Capture no more: CUDA or the network does not allow it."""
        self._reason = f"none: capture was refused ({problem})"
        _LOG.warning("CUDA graphs are not used: capture was refused (%s); every run is enqueued", problem)


class Graphs:
    """The graphs of one slot at its present shapes.

    A run is captured only after the same run was enqueued once, because libraries set things up in the first
    enqueue after a change of shapes, and that cannot be captured.
    """

    def __init__(self, policy: GraphPolicy) -> None:
        self._policy = policy
        self._graphs: OrderedDict[Hashable, Graph | None] = OrderedDict()

    def prepare(self, key: Hashable, enqueue: Callable[[], None], stream: Stream) -> Callable[[], None]:
        """What puts a run into a stream: its enqueue, or the launch of its graph, which may be captured now.

        Args:
            key: Everything that a graph freezes, beside the shapes.
            enqueue: Puts the run into the stream.
            stream: Where it shall run.

        Raises:
            ContextLost, DeviceLost: If CUDA is of no more use. A refused capture raises nothing: the run is
                then enqueued.
        """
        if not self._policy.enabled:
            return enqueue
        if key not in self._graphs:
            return lambda: self._first_time(key, enqueue)
        graph = self._graph(key, enqueue, stream)
        return enqueue if graph is None else lambda: graph.launch(stream)

    def _graph(self, key: Hashable, enqueue: Callable[[], None], stream: Stream) -> Graph | None:
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        if graph is None:
            graph = self._graphs[key] = self._capture(enqueue, stream)
        return graph

    def _first_time(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """Enqueue a run, and remember that it went well: only then may it be captured."""
        enqueue()
        self._graphs[key] = None
        while len(self._graphs) > _MOST_GRAPHS:
            _, oldest = self._graphs.popitem(last=False)
            if oldest is not None:
                oldest.close()

    def _capture(self, enqueue: Callable[[], None], stream: Stream) -> Graph | None:
        try:
            graph = capture(enqueue, stream)
        except (ContextLost, DeviceLost):
            raise
        except DeviceError as problem:
            self._policy.refuse(problem)
            return None
        self._policy.count()
        return graph

    def drop(self) -> None:
        """Free all: shapes or other frozen things have changed. None of them may be running."""
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs.clear()


def capture(enqueue: Callable[[], None], stream: Stream) -> Graph:
    """What `enqueue` puts into a stream, as a graph; the stream itself stays idle.

    Raises:
        DeviceError: If something of it cannot be captured. The stream works normally again.
    """
    with CAPTURING, _no_garbage_collection():
        stream.begin_capture()
        try:
            enqueue()
        except BaseException:
            _abandon(stream)
            raise
        return stream.end_capture()


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Memory of the GPU that is freed as garbage, anywhere, would spoil a capture of this thread."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _abandon(stream: Stream) -> None:
    try:
        stream.end_capture().close()
    except DeviceError as problem:  # the capture was invalid, which is why it is abandoned
        _LOG.debug("an abandoned capture: %s", problem)
