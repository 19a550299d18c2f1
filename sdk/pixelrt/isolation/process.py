"""The parent's side of the child process: starts it, asks it, and notices how it ends.

    parent                                              child (`worker`)
    a socket with lines: load, request ...        ->
                                                  <-    ready, answer or failed, said
    memory for frames, per slot (written here)    ->
                                                  <-    memory for results, per slot (written there)
    memory for frame buffers (written here)       ->
    standard input, closed when the parent ends   ->    the kernel kills the child

Requests are answered in their order. One that is sent while the child is busy has a slot of its own.

Memory and output have no names: the last process that holds them takes them along. The child has a session
of its own: Ctrl-C reaches the parent alone. Nothing is forked without exec, which CUDA would not survive.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import pixelrt.errors
from pixelrt.bundle import Bundle
from pixelrt.errors import ContextLost, DeviceError, DeviceLost, PixelRTError
from pixelrt.isolation.buffers import FrameBuffers
from pixelrt.isolation.channel import Channel, ChannelEndError, SilenceError
from pixelrt.isolation.flight import Flight
from pixelrt.isolation.options import Size
from pixelrt.isolation.output import Output
from pixelrt.isolation.protocol import Answer, Failed, Load, Message, Ready, Request, Said, Warm, WarmUp
from pixelrt.isolation.results import fetch
from pixelrt.isolation.shared import SharedMemory

_LOG = logging.getLogger("pixelrt.isolation")
_PATIENCE_S = 5.0
_LOOK_S = 1.0
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from pixelrt.isolation.worker import main; main(*map(int, sys.argv[1].split(',')))"
)
"""The child imports from where its parent does, not from the folder that it happens to stand in."""


class ChildLostError(Exception):
    """The child is gone; the message says how it ended, and follows the words "the child process"."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a child and its successors have in common."""

    bundle: Bundle
    slots: int
    """How many requests may be on their way at once."""
    buffers: FrameBuffers


@dataclass(frozen=True, slots=True)
class Slot:
    """Shared memory for one request that is on its way."""

    frames: SharedMemory
    results: SharedMemory


class Child:
    """A child process that has loaded a bundle.

    Where one of its methods is left in the middle (Ctrl-C), the child has ended: nobody knows how far the
    other side came, and nobody can take a late answer for another.

    Attributes:
        pid: Its process id.
        ready: What it said when the bundle was loaded.
        start_s: How long it took until then.
        flights: What is on its way, the oldest first.
    """

    def __init__(self, load: Load, ground: Ground, timeout_s: float | None) -> None:
        """Start it.

        Args:
            load: What to load.
            ground: What it shares with its predecessor.
            timeout_s: How long loading and warming up may take; None for ever.

        Raises:
            ChildLostError: If it ended, or had to be ended.
            DeviceError: If no process can be started.
            PixelRTError: What the child explained.
        """
        began_s = time.monotonic()
        self.flights: collections.deque[Flight] = collections.deque()
        self._ground = ground
        self._in_step = True
        self._heard_s = 0.0
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self._resources.close)
            self._process = self._start()
            self._kill = weakref.finalize(self, _kill, self._process, self._resources)
            undo.callback(self._kill)
            self.pid = self._process.pid
            self.ready: Ready = self._converse(load, Ready, timeout_s)
            undo.pop_all()
        self.start_s = time.monotonic() - began_s

    @property
    def alive(self) -> bool:
        """Whether it can be asked: it runs, and no call was left in the middle."""
        return self._in_step and self._process.poll() is None

    def send(
        self,
        flight: Flight,
        frames: Sequence[NDArray[np.uint8]],
        how: Literal["call", "submit", "batch"],
    ) -> None:
        """Have it segment frames. There must be a free slot.

        Raises:
            ChildLostError: If it ended, or had to be ended.
            OutOfMemory: If there is no room for the frames.
        """
        if not self.flights:
            self._output.forget()
        taken = {other.slot for other in self.flights}
        flight.slot = next(slot for slot in range(self._ground.slots) if slot not in taken)
        buffered = self._ground.buffers.place(frames[0]) if len(frames) == 1 else None
        planes = (buffered,) if buffered else self._slots[flight.slot].frames.put(frames)
        with self._step():
            self.flights.append(flight)
            flight.sent_s = time.monotonic()
            self._channel.send(Request(flight.first, flight.slot, planes, how, buffered is not None))

    def receive(self, timeout_s: float | None, *, wait: bool) -> bool:
        """Take the answer to the oldest frames on their way, which then have their results or their error.

        Args:
            timeout_s: How long it may take, from when they were sent and those before them answered.
            wait: Whether to wait for it.

        Returns:
            Whether it was there.

        Raises:
            ChildLostError: If it ended, or had to be ended.
            ContextLost, DeviceLost: If it is of no more use; it has ended, and the frames are still on their
                way.
        """
        flight = self.flights[0]
        now_s = time.monotonic()
        end_s = None if timeout_s is None else max(flight.sent_s, self._heard_s) + timeout_s
        with self._step():
            try:
                answer = self._hear(end_s if wait else now_s)
            except SilenceError:
                if wait or (end_s is not None and now_s >= end_s):
                    raise ChildLostError(_silent(timeout_s)) from None
                return False
            self._heard_s = time.monotonic()
            self._land(flight, _checked(answer, Answer, flight.first))
            self.flights.popleft()
        return True

    def warm_up(self, size: Size, timeout_s: float | None) -> None:
        """Have it warm up for frames of a size. Nothing else may be on its way.

        Raises:
            ChildLostError: If it ended, or had to be ended.
            PixelRTError: What the child explained.
        """
        self._converse(WarmUp(size), Warm, timeout_s)

    def obituary(self) -> str:
        """How it ended, in the words of `ChildLostError`."""
        if not self._in_step:
            return "was ended, because a call was interrupted"
        return self._ending()

    def end(self, patience_s: float = 0.0) -> None:
        """End it, and wait until it is gone.

        Args:
            patience_s: How long it may take to free what it holds.
        """
        orderly = patience_s > 0 and self.alive
        self._in_step = False
        try:
            if orderly:
                self._channel.hang_up()
                self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            _LOG.warning("the child process %d did not end within %g s and is killed", self.pid, patience_s)
        finally:
            self._kill()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            self._slots = [Slot(self._memory("frames"), self._memory("results")) for _ in self._each_slot()]
            self._output = self._resources.enter_context(contextlib.closing(Output()))
            ours, theirs = socket.socketpair()
            self._channel = self._resources.enter_context(contextlib.closing(Channel(ours)))
            with theirs:
                shared = [memory.descriptor for slot in self._slots for memory in (slot.frames, slot.results)]
                inherited = (theirs.fileno(), self._ground.buffers.descriptor, *shared)
                return _popen(inherited, self._output.descriptor)
        except OSError as problem:
            raise DeviceError(
                f"the child process cannot be started ({sys.executable}: {problem.strerror}); "
                "the machine may be out of memory, processes or file descriptors"
            ) from problem

    def _each_slot(self) -> range:
        return range(self._ground.slots)

    def _memory(self, what: str) -> SharedMemory:
        return self._resources.enter_context(contextlib.closing(SharedMemory.create(f"pixelrt-{what}")))

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        """What is begun in here comes to its end, or the child does."""
        if not self._in_step:
            raise ChildLostError(self.obituary())
        self._in_step = False
        try:
            yield
            self._in_step = True
        except ChannelEndError:
            raise ChildLostError(self._ending()) from None
        except ValueError as problem:
            raise ChildLostError(f"was ended, because it said something strange: {problem}") from problem
        finally:
            if not self._in_step:
                self._kill()

    def _converse(self, message: Load | WarmUp, expected: type[Any], timeout_s: float | None) -> Any:
        """Send a message and wait for what answers it."""
        with self._step():
            self._channel.send(message)
            try:
                answer = self._hear(None if timeout_s is None else time.monotonic() + timeout_s)
            except SilenceError:
                raise ChildLostError(_silent(timeout_s)) from None
            _checked(answer, expected, 0)
        if isinstance(answer, Failed):
            raise _error(answer)
        return answer

    def _land(self, flight: Flight, answer: Answer | Failed) -> None:
        if isinstance(answer, Answer):
            memory = self._slots[flight.slot].results
            flight.succeed(fetch(answer, memory, self._ground.bundle, flight.began_s))
            return
        problem = _error(answer)
        if isinstance(problem, (ContextLost, DeviceLost)):
            raise problem
        flight.fail(type(problem), str(problem))

    def _hear(self, deadline_s: float | None) -> Message:
        """Wait for a message that is not for the log."""
        while isinstance(message := self._listen(deadline_s), Said):
            _log(message)
        self._output.forget()
        self._output.pass_on()
        return message

    def _listen(self, deadline_s: float | None) -> Message:
        """Wait for a message, and meanwhile show what is printed: building an engine takes minutes."""
        while True:
            look_s = time.monotonic() + _LOOK_S
            try:
                return self._channel.receive(look_s if deadline_s is None else min(look_s, deadline_s))
            except SilenceError:
                self._output.pass_on()
                if deadline_s is not None and time.monotonic() >= deadline_s:
                    raise

    def _ending(self) -> str:
        """How a child that hung up has ended."""
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"hung up without ending and was killed{self._output.last_words()}"
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL: by somebody, or because the machine ran out of memory; see: dmesg)"
        elif -code in _ASKED_TO_END:
            how = f"was ended from outside ({signal.Signals(-code).name})"
        elif code < 0:
            how = f"crashed ({signal.Signals(-code).name})"
        else:
            how = f"ended with status {code}"
        return how + self._output.last_words()


_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _popen(inherited: tuple[int, ...], output: int) -> subprocess.Popen[bytes]:
    numbers = ",".join(map(str, (os.getpid(), *inherited)))
    return subprocess.Popen(
        [sys.executable, "-c", _START, numbers, *map(os.path.abspath, sys.path)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        pass_fds=inherited,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[bytes], resources: contextlib.ExitStack) -> None:
    """End the process and give back what was shared with it. Refers to no `Child`, which may be gone."""
    process.kill()
    process.wait()
    if process.stdin:
        process.stdin.close()
    resources.close()


def _checked(answer: Message, expected: type[Any], number: int) -> Any:
    """An answer, if it is one to this question."""
    if not isinstance(answer, (expected, Failed)) or getattr(answer, "number", 0) != number:
        raise ChildLostError(f"was ended, because it answered {str(answer)[:60]} to another question")
    return answer


def _silent(timeout_s: float | None) -> str:
    return f"gave no answer within {timeout_s:g} s and was killed"


def _error(failed: Failed) -> PixelRTError:
    kind: type[PixelRTError] = getattr(pixelrt.errors, failed.kind)
    return kind(failed.text)


def _log(said: Said) -> None:
    logger = logging.getLogger(said.logger)
    if logger.isEnabledFor(said.level):
        logger.log(said.level, "%s", said.text)
