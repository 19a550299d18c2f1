"""The parent's side of the child process: starts it, asks it, and notices how it ends.

    parent                                              child (`worker`)
    a socket with lines: load, request ...        ->
                                                  <-    ready, answer or failed, said
    memory for frames (written here)              ->
                                                  <-    memory for results (written there)
    standard input, closed when the parent ends   ->    the kernel kills the child

Memory and output have no names: the last process that holds them takes them along. The child has a session
of its own: Ctrl-C reaches the parent alone. Nothing is forked without exec, which CUDA would not survive.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pixelrt.errors
from pixelrt.errors import DeviceError, PixelRTError
from pixelrt.isolation.channel import Channel, ChannelEndError, SilenceError
from pixelrt.isolation.protocol import Answer, Failed, Load, Message, Plane, Ready, Request, Said
from pixelrt.isolation.shared import SharedMemory
from pixelrt.terminal import complain

_LOG = logging.getLogger("pixelrt.isolation")
_MOST_LINES = 12
_LINES_BEFORE_CRASH = 4
_PATIENCE_S = 5.0
_LOOK_S = 1.0
_START = (
    "import sys; sys.path[:] = sys.argv[5:]; "
    "from pixelrt.isolation.worker import main; main(*map(int, sys.argv[1:5]))"
)
"""The child imports from where its parent does, not from the folder that it happens to stand in."""


class ChildLostError(Exception):
    """The child is gone; the message says how it ended, and follows the words "the child process"."""


class Child:
    """A child process that has loaded a bundle.

    Attributes:
        pid: Its process id.
        ready: What it said when the bundle was loaded.
        start_s: How long it took until then.
    """

    def __init__(self, load: Load, timeout_s: float | None) -> None:
        """Start it.

        Args:
            load: What to load.
            timeout_s: How long that may take; None for ever.

        Raises:
            ChildLostError: If it ended, or had to be ended.
            DeviceError: If no process can be started.
            PixelRTError: What the child explained.
        """
        began_s = time.monotonic()
        self._answered = False
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
        """Whether it can be asked: it runs, and owes no answer to a call that was left."""
        return self._answered and self._process.poll() is None

    def ask(self, number: int, frames: Sequence[NDArray[np.uint8]], timeout_s: float | None) -> Answer:
        """Have it segment frames.

        If this is left while an answer is due, the child has ended: nobody can take a late one for another.

        Returns:
            The answer, whose arrays `read` fetches before the next question.

        Raises:
            ChildLostError: If it ended, or had to be ended.
            OutOfMemory: If there is no room for the frames.
            PixelRTError: What the child explained.
        """
        request = Request(number, self._frames.put(frames))
        answer: Answer = self._converse(request, Answer, timeout_s)
        return answer

    def read(self, plane: Plane) -> NDArray[Any]:
        """A copy of an array of the last answer."""
        return self._results.view(plane).copy()

    def obituary(self) -> str:
        """How it ended, in the words of `ChildLostError`."""
        if not self._answered:
            return "was ended, because a call was interrupted"
        return self._ending()

    def end(self, patience_s: float = 0.0) -> None:
        """End it, and wait until it is gone.

        Args:
            patience_s: How long it may take to free what it holds.
        """
        try:
            if patience_s and self.alive:
                self._channel.hang_up()
                self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            _LOG.warning("the child process %d did not end within %g s and is killed", self.pid, patience_s)
        finally:
            self._kill()

    def _start(self) -> subprocess.Popen[bytes]:
        hold = self._resources.enter_context
        try:
            self._frames = hold(contextlib.closing(SharedMemory.create("pixelrt-frames")))
            self._results = hold(contextlib.closing(SharedMemory.create("pixelrt-results")))
            self._output = hold(contextlib.closing(Output()))
            ours, theirs = socket.socketpair()
            self._channel = hold(contextlib.closing(Channel(ours)))
            with theirs:
                inherited = (theirs.fileno(), self._frames.descriptor, self._results.descriptor)
                return _popen(inherited, self._output.descriptor)
        except OSError as problem:
            raise DeviceError(
                f"the child process cannot be started ({sys.executable}: {problem.strerror}); "
                "the machine may be out of memory, processes or file descriptors"
            ) from problem

    def _converse(self, message: Load | Request, expected: type[Any], timeout_s: float | None) -> Any:
        """Send a message and wait for what answers it. The child is ended if there is no answer."""
        self._answered = False
        try:
            answer = self._exchange(message, timeout_s)
            fits = isinstance(answer, expected) and getattr(answer, "number", None) == getattr(
                message, "number", None
            )
            if not fits and not isinstance(answer, Failed):
                raise ChildLostError(f"was ended, because it answered {str(answer)[:60]} to another question")
            self._answered = True
        finally:
            if not self._answered:
                self._kill()
        if isinstance(answer, Failed):
            raise _error(answer)
        return answer

    def _exchange(self, message: Load | Request, timeout_s: float | None) -> Any:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._channel.send(message)
            while isinstance(answer := self._listen(deadline_s), Said):
                _log(answer)
        except SilenceError:
            raise ChildLostError(f"gave no answer within {timeout_s:g} s and was killed") from None
        except ChannelEndError:
            raise ChildLostError(self._ending()) from None
        except ValueError as problem:
            raise ChildLostError(f"was ended, because it said something strange: {problem}") from problem
        self._output.pass_on()
        return answer

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
        elif code < 0:
            how = f"crashed ({signal.Signals(-code).name})"
        else:
            how = f"ended with status {code}"
        return how + self._output.last_words()


class Output:
    """What the child and its libraries print: memory without a name, so that no file stays behind."""

    def __init__(self) -> None:
        self._file = open(os.memfd_create("pixelrt-output", os.MFD_CLOEXEC), "r+b", buffering=0)  # noqa: SIM115
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags | os.O_APPEND)

    @property
    def descriptor(self) -> int:
        """Where to print."""
        return self._file.fileno()

    def pass_on(self) -> None:
        """Show what was printed since the last time, as if it were printed here."""
        for line in self._take():
            complain(line)

    def last_words(self) -> str:
        """The end of what was printed, or the place where Python noticed a crash, for a message."""
        lines = self._take()
        crash = next((index for index, line in enumerate(lines) if line.startswith("Fatal Python")), None)
        start = max(0, len(lines) - _MOST_LINES if crash is None else crash - _LINES_BEFORE_CRASH)
        shown = "".join(f"\n  {line}" for line in lines[start : start + _MOST_LINES])
        return f"; it printed:{shown}" if shown else ""

    def _take(self) -> list[str]:
        """The lines that are there, whose memory is freed."""
        size_bytes = os.fstat(self.descriptor).st_size
        if not size_bytes:
            return []
        text = os.pread(self.descriptor, size_bytes, 0).decode(errors="replace")
        os.ftruncate(self.descriptor, 0)
        return [line for line in text.splitlines() if line]

    def close(self) -> None:
        """Forget it."""
        self._file.close()


def _popen(inherited: tuple[int, ...], output: int) -> subprocess.Popen[bytes]:
    paths = [os.path.abspath(path) for path in sys.path]
    return subprocess.Popen(
        [sys.executable, "-c", _START, *map(str, (*inherited, os.getpid())), *paths],
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


def _error(failed: Failed) -> PixelRTError:
    kind: type[PixelRTError] = getattr(pixelrt.errors, failed.kind)
    return kind(failed.text)


def _log(said: Said) -> None:
    logger = logging.getLogger(said.logger)
    if logger.isEnabledFor(said.level):
        logger.log(said.level, "%s", said.text)
