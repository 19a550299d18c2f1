"""The order, the time and the hazards of work on a simulated GPU."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from pixelrt.errors import InputError

Engine = Literal["up", "compute", "down"]
"""Copies to the GPU, kernels and copies inside it, copies to the host: each does one thing at a time."""
Order = Literal["lazy", "eager", "random"]
Lane = tuple[int, int]
"""Handle of a stream, and number of a branch within a graph: work that is ordered by itself."""
_BEHIND_ALL: Lane = (-1, 0)
Clock = dict[Lane, int]
Range = tuple[int, int]
"""Address and bytes."""


class DataRaceError(AssertionError):
    """Two operations use the same memory, one of them writes, and neither waits for the other.

    A GPU shows no error for it, only a wrong mask now and then. It is a failed test, not a `PixelRTError`, so
    that no code under test catches it.
    """


@dataclass(frozen=True, slots=True)
class Span:
    """What an engine did, in simulated time."""

    engine: Engine
    stream: int
    """The handle of the stream."""
    label: str
    start_ms: float
    end_ms: float

    def overlap_ms(self, other: Span) -> float:
        """How long both were at work at the same time; 0 if they were not."""
        return max(0.0, min(self.end_ms, other.end_ms) - max(self.start_ms, other.start_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something to do; without an engine it is a mark in a stream and takes no time."""

    label: str
    engine: Engine | None = None
    duration_ms: float = 0.0
    action: Callable[[], None] | None = None
    reads: tuple[Range, ...] = ()
    writes: tuple[Range, ...] = ()


@dataclass(eq=False, slots=True, kw_only=True)
class Operation:
    """Work that was put into a stream."""

    index: int
    lane: Lane
    work: Work
    """When it has run, its label alone: what it held can then be freed."""
    after: tuple[Operation, ...]
    """What it waits for; emptied when it has run."""
    clock: Clock
    """Per lane the last operation that surely ran before this one, and this one itself."""
    start_ms: float
    end_ms: float
    done: bool = False


@dataclass(frozen=True, slots=True)
class _Access:
    operation: Operation
    start: int
    end: int
    writes: bool

    def conflicts(self, other: _Access) -> bool:
        return (self.writes or other.writes) and self.start < other.end and other.start < self.end

    def replaces(self, older: _Access) -> bool:
        """Whether whatever races with the older access races with this one too, if this one comes after."""
        return self.start <= older.start and older.end <= self.end and (self.writes or not older.writes)


@dataclass(slots=True)
class Simulation:
    """Operations in the order in which CUDA may run them, and a clock that knows no real time.

    When they start and end is settled when they are put: as soon as what they wait for has ended and their
    engine is free. When their effect on memory happens is another matter, since CUDA only promises that it
    has happened after a wait: `order` chooses among what is allowed.
    """

    order: Order = "lazy"
    seed: int = 0
    check_races: bool = True
    now_ms: float = 0.0
    """What the host's clock shows. It moves when the host waits, and in `pass_time`."""
    _random: random.Random = field(init=False)
    _next: int = field(default=0, init=False)
    _pending: dict[int, Operation] = field(default_factory=dict, init=False)
    _unknown: dict[int, Operation] = field(default_factory=dict, init=False)
    """What the host cannot know to have run, since it has not waited for it; the oldest first."""
    _host: Clock = field(default_factory=dict, init=False)
    _accesses: list[_Access] = field(default_factory=list, init=False)
    _busy: dict[Engine, list[tuple[float, float]]] = field(default_factory=dict, init=False)
    _spans: dict[int, Span] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise InputError(f"order is {self.order!r}, expected one of {', '.join(get_args(Order))}")
        self._random = random.Random(self.seed)
        self._busy = {engine: [] for engine in get_args(Engine)}

    @property
    def timeline(self) -> tuple[Span, ...]:
        """What has run, in the order in which it started."""
        asked = sorted(self._spans.items())
        return tuple(span for _, span in sorted(asked, key=lambda entry: entry[1].start_ms))

    @property
    def num_pending(self) -> int:
        """How many operations have not run yet."""
        return len(self._pending)

    def pass_time(self, duration_ms: float) -> None:
        """Let the host do something else for a while.

        Raises:
            InputError: If the duration is negative.
        """
        if duration_ms < 0:
            raise InputError(f"duration_ms is {duration_ms}, expected 0 or more")
        self.now_ms += duration_ms

    def put(self, work: Work, lane: Lane, after: Iterable[Operation]) -> Operation:
        """Put work into a lane, behind other operations.

        Raises:
            DataRaceError: If it uses memory that an operation uses which it does not wait for.
        """
        before = tuple(after)
        start_ms = self._reserve(work, max([self.now_ms, *(other.end_ms for other in before)]))
        operation = Operation(
            index=self._next,
            lane=lane,
            work=work,
            after=tuple(other for other in before if not other.done),
            clock=self._clock(lane, before),
            start_ms=start_ms,
            end_ms=start_ms + work.duration_ms,
        )
        self._note_accesses(operation)
        self._next += 1
        self._pending[operation.index] = self._unknown[operation.index] = operation
        self._progress()
        return operation

    def put_behind_all(self, work: Work) -> Operation:
        """Put work behind all operations of all lanes so far."""
        return self.put(work, _BEHIND_ALL, tuple(self._unknown.values()))

    def finish(self, operations: Iterable[Operation]) -> None:
        """Let the host wait for operations."""
        awaited = tuple(operations)
        if self.order == "random":
            while not all(operation.done for operation in awaited):
                self._run(self._random.choice(self._ready()))
        else:
            self._run_needed(awaited)
        for operation in awaited:
            self._learn(operation)

    def forget(self, address: int, size_bytes: int) -> None:
        """Memory was freed: what used it cannot race with those who get the same address."""
        self._accesses = [
            access
            for access in self._accesses
            if access.end <= address or access.start >= address + size_bytes
        ]

    def finish_all(self) -> None:
        """Let the host wait for everything."""
        self.finish(list(self._unknown.values()))

    def poll(self, operation: Operation) -> bool:
        """Whether an operation has run. After a no, one more of those that it waits for has run."""
        if operation.done:
            self._learn(operation)
            return True
        self._run(next(_latest_first(_needed((operation,)))))
        return False

    def _reserve(self, work: Work, earliest_ms: float) -> float:
        """Find the first gap of the engine in which it fits, and take it."""
        if work.engine is None:
            return earliest_ms
        taken = [span for span in self._busy[work.engine] if span[1] > self.now_ms]
        start_ms = earliest_ms
        for start, end in taken:
            if start_ms + work.duration_ms <= start:
                break
            start_ms = max(start_ms, end)
        taken.append((start_ms, start_ms + work.duration_ms))
        self._busy[work.engine] = sorted(taken)
        return start_ms

    def _clock(self, lane: Lane, before: tuple[Operation, ...]) -> Clock:
        clock: Clock = {}
        oldest = next(iter(self._unknown), self._next)
        for known in (self._host, *(other.clock for other in before), {lane: self._next}):
            for where, index in known.items():
                if index >= oldest and index > clock.get(where, -1):
                    clock[where] = index
        return clock

    def _note_accesses(self, operation: Operation) -> None:
        if not self.check_races:
            return
        work = operation.work
        uses = [(used, False) for used in work.reads] + [(used, True) for used in work.writes]
        for (address, size_bytes), writes in uses:
            new = _Access(operation, address, address + size_bytes, writes)
            kept = []
            for old in self._accesses:
                ordered = old.operation.index not in self._unknown or _is_before(old.operation, operation)
                if not ordered and new.conflicts(old):
                    raise DataRaceError(_race(old, new))
                if not (ordered and new.replaces(old)):
                    kept.append(old)
            self._accesses = [*kept, new]

    def _progress(self) -> None:
        """Run what runs before anybody waits."""
        if self.order == "eager":
            self._run_needed(tuple(self._pending.values()))
        elif self.order == "random":
            while self._pending and self._random.random() < 0.5:
                self._run(self._random.choice(self._ready()))

    def _ready(self) -> list[Operation]:
        return [
            operation for operation in self._pending.values() if all(other.done for other in operation.after)
        ]

    def _run_needed(self, awaited: tuple[Operation, ...]) -> None:
        for operation in _latest_first(_needed(awaited)):
            self._run(operation)

    def _run(self, operation: Operation) -> None:
        del self._pending[operation.index]
        work = operation.work
        operation.done, operation.after, operation.work = True, (), Work(label=work.label)
        if work.engine is not None:
            self._spans[operation.index] = Span(
                work.engine, operation.lane[0], work.label, operation.start_ms, operation.end_ms
            )
        if work.action is not None:
            work.action()

    def _learn(self, operation: Operation) -> None:
        """The host knows now that an operation, and all that it waited for, has run."""
        self.now_ms = max(self.now_ms, operation.end_ms)
        for lane, index in operation.clock.items():
            self._host[lane] = max(index, self._host.get(lane, -1))
        self._unknown = {
            index: other for index, other in self._unknown.items() if not _is_before(other, operation)
        }
        oldest = next(iter(self._unknown), self._next)
        self._host = {lane: index for lane, index in self._host.items() if index >= oldest}
        self._accesses = [access for access in self._accesses if access.operation.index in self._unknown]


def _is_before(first: Operation, second: Operation) -> bool:
    """Whether the second waits for the first, or is the first."""
    return second.clock.get(first.lane, -1) >= first.index


def _needed(operations: Iterable[Operation]) -> list[Operation]:
    """The operations that have not run, with all that they wait for."""
    needed: dict[int, Operation] = {}
    left = list(operations)
    while left:
        operation = left.pop()
        if not operation.done and operation.index not in needed:
            needed[operation.index] = operation
            left.extend(operation.after)
    return list(needed.values())


def _latest_first(operations: list[Operation]) -> Iterator[Operation]:
    """Operations so that each comes behind what it waits for, and else the latest first.

    A program that forgets to wait most often works as long as things happen in the order in which it asked
    for them; here they do not.
    """
    unmet = {operation.index: sum(not other.done for other in operation.after) for operation in operations}
    followers: dict[int, list[Operation]] = {}
    for operation in operations:
        for other in operation.after:
            followers.setdefault(other.index, []).append(operation)
    ready = [(-operation.index, operation) for operation in operations if unmet[operation.index] == 0]
    heapq.heapify(ready)
    while ready:
        _, operation = heapq.heappop(ready)
        yield operation
        for follower in followers.get(operation.index, ()):
            unmet[follower.index] -= 1
            if unmet[follower.index] == 0:
                heapq.heappush(ready, (-follower.index, follower))


def _race(old: _Access, new: _Access) -> str:
    def doing(access: _Access) -> str:
        verb = "writes" if access.writes else "reads"
        return f"{access.operation.work.label!r} in stream {access.operation.lane[0]} {verb}"

    return (
        f"{doing(new)} {new.end - new.start} bytes at {new.start:#x}, which {doing(old)}, and neither waits "
        f"for the other; record an event behind {old.operation.work.label!r} and let stream "
        f"{new.operation.lane[0]} wait for it"
    )
