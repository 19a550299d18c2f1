"""Work that is recorded instead of put: what a stream does while it is captured."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from pixelrt.errors import DeviceError
from pixelrt.testing.simulation import Lane, Operation, Simulation, Work


@dataclass(frozen=True, slots=True)
class Node:
    """Recorded work."""

    work: Work
    branch: int
    """Number of the captured stream among those of the capture."""
    after: tuple[int, ...]
    """Positions of the nodes that it waits for."""


@dataclass(eq=False, slots=True)
class Capture:
    """A recording, from `begin_capture` to `end_capture`. Streams join it by waiting for its events."""

    nodes: list[Node] = field(default_factory=list)
    num_branches: int = 1
    broken: str = ""
    """Why there will be no graph."""
    ended: bool = False
    thread: int = field(default_factory=threading.get_ident)

    def add(self, work: Work, branch: int, after: tuple[int, ...]) -> int:
        """Record work; its position is returned."""
        self.nodes.append(Node(work, branch, after))
        return len(self.nodes) - 1

    def join(self) -> int:
        """A number for one more stream."""
        self.num_branches += 1
        return self.num_branches - 1

    def refuse(self, reason: str) -> DeviceError:
        """Make the capture useless, as CUDA does, and give the error to raise."""
        self.broken = self.broken or reason
        return DeviceError(f"{reason}; the capture is lost, end_capture gives the stream back")

    def unjoined(self, tail: int | None) -> bool:
        """Whether the last node of the first stream leaves some node out of what it waits for."""
        reached: set[int] = set()
        left = [] if tail is None else [tail]
        while left:
            position = left.pop()
            if position not in reached:
                reached.add(position)
                left.extend(self.nodes[position].after)
        return len(reached) != len(self.nodes)


@dataclass(frozen=True, slots=True)
class CapturedMark:
    """Where an event lies that was recorded in a capture."""

    capture: Capture
    node: int | None
    """None before the first node."""


def launch(
    simulation: Simulation, nodes: tuple[Node, ...], stream: int, before: tuple[Operation, ...]
) -> Operation:
    """Put recorded work into a stream.

    Returns:
        A mark behind all of it.
    """
    placed: list[Operation] = []
    for node in nodes:
        after = [placed[position] for position in node.after]
        lane: Lane = (stream, node.branch)
        placed.append(simulation.put(node.work, lane, after or before))
    return simulation.put(Work(label="end of a graph"), (stream, 0), (*before, *placed))
