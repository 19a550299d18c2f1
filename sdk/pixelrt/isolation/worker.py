"""The child process: loads a bundle, segments what comes. Started by `process`, never imported by it."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import fcntl
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pixelrt.errors
from pixelrt.errors import InputError, PixelRTError
from pixelrt.isolation.channel import Channel, ChannelEndError
from pixelrt.isolation.fingerprint import fingerprint
from pixelrt.isolation.protocol import (
    Answer,
    Failed,
    FrameResult,
    HeadResult,
    Load,
    Message,
    Ready,
    Request,
    Said,
    Warm,
    WarmUp,
)
from pixelrt.isolation.shared import SharedMemory
from pixelrt.segmentation import Segmentation, SegmentationTicket, Segmenter
from pixelrt.strict import type_of

_KINDS = ("mask", "confidence", "grid", "logits")
_LOOK_S = 1.0
_LOOK_AGAIN_S = 1e-4
"""Pause between looks at the parent and at a GPU that is busy: nothing wakes us up for both."""


def main(parent: int, channel: int, buffers: int, *slots: int) -> None:
    """Serve the parent until it hangs up, and end the process.

    An error that is not PixelRT's own ends the process as well, and the parent shows its traceback. The
    process is ended without clean-up of the interpreter: some versions of TensorRT crash in theirs.

    Args:
        parent: Process id of the parent.
        channel: File descriptor of the socket to the parent.
        buffers: Of the memory with frame buffers.
        *slots: Of the memories in which frames come and results go, in turns.
    """
    faulthandler.enable(all_threads=False)
    _end_with(parent)
    for descriptor in (channel, buffers, *slots):
        os.set_inheritable(descriptor, False)
    parent_end = Channel(socket.socket(fileno=channel))
    memories = [SharedMemory(descriptor) for descriptor in slots]
    with contextlib.suppress(ChannelEndError):
        segmenter = _load(parent_end)
        if segmenter is not None:
            with segmenter:
                _Server(segmenter, parent_end, SharedMemory(buffers), memories).serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _load(channel: Channel) -> Segmenter | None:
    """Load what the parent names, or tell it why that cannot be."""
    order = channel.receive()
    if not isinstance(order, Load):
        raise TypeError(f"{type(order).__name__} came from the parent, expected Load")
    log = logging.getLogger("pixelrt")
    log.addHandler(_Speaker(channel))
    log.setLevel(order.level)
    log.propagate = False
    gpu = {} if order.gpu is None else {"gpu": order.gpu}
    try:
        segmenter = _loader(order.loader)(order.bundle, **order.options, **gpu)
        if not isinstance(segmenter, Segmenter):
            raise InputError(f"loader {order.loader!r} gave {type_of(segmenter)}, expected a Segmenter")
        for size in order.warm_up:
            segmenter.warm_up(size)
    except PixelRTError as problem:
        channel.send(_failed(problem))
        return None
    channel.send(Ready(segmenter.session.info, fingerprint(segmenter.bundle.segmentation)))
    return segmenter


def _loader(name: str) -> Callable[..., Segmenter]:
    """What the parent wants to be called.

    Raises:
        InputError: If there is no such thing.
    """
    module, _, function = name.partition(":")
    try:
        loader: Callable[..., Segmenter] = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as problem:
        raise InputError(f"loader {name!r}: there is no module {problem.name!r}") from problem
    except AttributeError as problem:
        raise InputError(f"loader {name!r}: the module {module!r} has no {function!r}") from problem
    return loader


class _Server:
    """Answers requests in their order. Those that were submitted overlap, as far as the segmenter can."""

    def __init__(
        self, segmenter: Segmenter, channel: Channel, buffers: SharedMemory, slots: Sequence[SharedMemory]
    ) -> None:
        self._segmenter = segmenter
        self._channel = channel
        self._buffers = buffers
        self._frames, self._results = slots[::2], slots[1::2]
        self._waiting: collections.deque[tuple[Request, SegmentationTicket | _Refused]] = collections.deque()

    def serve(self) -> None:
        """Answer until the parent hangs up."""
        while True:
            message = self._next()
            if isinstance(message, WarmUp):
                self._channel.send(self._warm_up(message))
            elif isinstance(message, Request):
                self._take(message)
            else:
                raise TypeError(f"{type(message).__name__} came from the parent, expected Request or WarmUp")

    def _next(self) -> Message:
        """Wait for a message, and meanwhile answer what is done."""
        while self._waiting and not self._channel.waiting(_LOOK_AGAIN_S):
            self._answer_done()
        return self._channel.receive()

    def _take(self, request: Request) -> None:
        frames = [self._memory(request).view(plane) for plane in request.frames]
        if request.how == "submit":
            self._waiting.append((request, self._submit(frames[0])))
            self._answer_done()
            return
        while self._waiting:
            self._answer_oldest()
        self._answer(request, lambda: self._run(request, frames))

    def _memory(self, request: Request) -> SharedMemory:
        return self._buffers if request.in_buffer else self._frames[request.slot]

    def _submit(self, frame: NDArray[np.uint8]) -> SegmentationTicket | _Refused:
        try:
            return self._segmenter.submit(frame)
        except PixelRTError as problem:
            return _Refused(problem)

    def _run(self, request: Request, frames: list[NDArray[np.uint8]]) -> list[Segmentation]:
        return self._segmenter.batch(frames) if request.how == "batch" else [self._segmenter(frames[0])]

    def _answer_done(self) -> None:
        """Answer what is done, and wait for the oldest if the parent can send no more before."""
        while self._waiting and (len(self._waiting) == len(self._results) or _is_done(self._waiting[0][1])):
            self._answer_oldest()

    def _answer_oldest(self) -> None:
        request, ticket = self._waiting.popleft()
        self._answer(request, lambda: [ticket.result()])

    def _answer(self, request: Request, work: Callable[[], list[Segmentation]]) -> None:
        answer: Answer | Failed
        try:
            answer = Answer(request.number, _put(work(), self._results[request.slot]))
        except PixelRTError as problem:
            answer = _failed(problem, request.number)
        self._channel.send(answer)

    def _warm_up(self, message: WarmUp) -> Warm | Failed:
        try:
            self._segmenter.warm_up(message.size)
        except PixelRTError as problem:
            return _failed(problem)
        return Warm()


class _Refused:
    """The ticket of a frame that could not be submitted: its error waits for its turn."""

    done = True

    def __init__(self, problem: PixelRTError) -> None:
        self._problem = problem

    def result(self) -> Segmentation:
        raise self._problem


def _is_done(ticket: SegmentationTicket | _Refused) -> bool:
    try:
        return ticket.done
    except PixelRTError:
        return True  # so says `result` too, and why


def _put(found: Sequence[Segmentation], results: SharedMemory) -> tuple[FrameResult, ...]:
    heads = [(head, _arrays(head)) for frame in found for head in (frame, *frame.others.values())]
    planes = iter(results.put([array for _, arrays in heads for array in arrays.values()]))
    described = iter(
        [
            HeadResult(head.name, head.frame_size, head.color, {kind: next(planes) for kind in arrays})
            for head, arrays in heads
        ]
    )
    return tuple(
        FrameResult(tuple(next(described) for _ in range(1 + len(frame.others))), frame.latency)
        for frame in found
    )


def _arrays(head: Segmentation) -> dict[str, NDArray[Any]]:
    values = {kind: getattr(head, kind) for kind in _KINDS}
    return {kind: value for kind, value in values.items() if value is not None}


def _failed(problem: PixelRTError, number: int = 0) -> Failed:
    """An error for the parent: as the nearest of its classes that the parent knows too."""
    kind = next(kind for kind in type(problem).__mro__ if kind.__module__ == pixelrt.errors.__name__)
    return Failed(number, kind.__name__, str(problem))


class _Speaker(logging.Handler):
    """Tells the parent what is logged, with its traceback where there is one."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._channel.send(Said(record.name, record.levelno, self.format(record)))
        except ChannelEndError:
            os._exit(1)


def _end_with(parent: int) -> None:
    """Have this process ended when the parent is gone, however that went.

    The parent alone writes to our standard input, and never does. Its end makes the kernel kill us, even if
    native code hangs or we are stopped. Where the parent was forked, somebody else holds the other end too:
    therefore a thread looks who our parent is.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_look_for, args=(parent,), daemon=True).start()


def _look_for(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
