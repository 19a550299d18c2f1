"""The child process: loads a bundle, segments what comes. Started by `process`, never imported by it."""

from __future__ import annotations

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
from pixelrt.errors import PixelRTError
from pixelrt.isolation.channel import Channel, ChannelEndError
from pixelrt.isolation.fingerprint import fingerprint
from pixelrt.isolation.protocol import (
    Answer,
    Failed,
    FrameResult,
    HeadResult,
    Load,
    Ready,
    Request,
    Said,
)
from pixelrt.isolation.shared import SharedMemory
from pixelrt.segmentation import Segmentation, Segmenter

_KINDS = ("mask", "confidence", "grid", "logits")
_LOOK_S = 1.0


def main(channel: int, frames: int, results: int, parent: int) -> None:
    """Serve the parent until it hangs up, and end the process.

    An error that is not PixelRT's own ends the process as well, and the parent shows its traceback. The
    process is ended without clean-up of the interpreter: some versions of TensorRT crash in theirs.

    Args:
        channel: File descriptor of the socket to the parent.
        frames: Of the memory in which frames come.
        results: Of the memory in which results go.
        parent: Process id of the parent.
    """
    faulthandler.enable(all_threads=False)
    _end_with(parent)
    for descriptor in (channel, frames, results):
        os.set_inheritable(descriptor, False)
    parent_end = Channel(socket.socket(fileno=channel))
    with contextlib.suppress(ChannelEndError):
        _serve(parent_end, SharedMemory(frames), SharedMemory(results))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _serve(channel: Channel, frames: SharedMemory, results: SharedMemory) -> None:
    segmenter = _load(channel)
    if segmenter is None:
        return
    with segmenter:
        while isinstance(request := channel.receive(), Request):
            channel.send(_answer(segmenter, request, frames, results))


def _load(channel: Channel) -> Segmenter | None:
    """Load what the parent names, or tell it why that cannot be."""
    order = channel.receive()
    if not isinstance(order, Load):
        raise TypeError(f"{type(order).__name__} came from the parent, expected Load")
    log = logging.getLogger("pixelrt")
    log.addHandler(_Speaker(channel))
    log.setLevel(order.level)
    log.propagate = False
    module, _, function = order.loader.partition(":")
    loader: Callable[..., Segmenter] = getattr(importlib.import_module(module), function)
    gpu = {} if order.gpu is None else {"gpu": order.gpu}
    try:
        segmenter = loader(order.bundle, **order.options, **gpu)
    except PixelRTError as problem:
        channel.send(_failed(problem))
        return None
    channel.send(Ready(segmenter.session.info, fingerprint(segmenter.bundle.manifest)))
    return segmenter


def _answer(
    segmenter: Segmenter, request: Request, frames: SharedMemory, results: SharedMemory
) -> Answer | Failed:
    try:
        found = _segment(segmenter, [frames.view(plane) for plane in request.frames])
        return Answer(request.number, _put(found, results))
    except PixelRTError as problem:
        return _failed(problem)


def _segment(segmenter: Segmenter, frames: list[NDArray[np.uint8]]) -> list[Segmentation]:
    return [segmenter(frames[0])] if len(frames) == 1 else segmenter.batch(frames)


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


def _failed(problem: PixelRTError) -> Failed:
    """An error for the parent: as the nearest of its classes that the parent knows too."""
    kind = next(kind for kind in type(problem).__mro__ if kind.__module__ == pixelrt.errors.__name__)
    return Failed(kind.__name__, str(problem))


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
