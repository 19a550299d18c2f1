"""An open camera: its settings, and the ring of buffers that its driver fills."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pixelrt.errors import SourceError, UnusableSource
from pixelrt.video.sources.v4l2 import kernel
from pixelrt.video.sources.v4l2.finding import Camera, cameras, missing, refusal
from pixelrt.video.sources.v4l2.modes import (
    USUAL_FPS,
    Mode,
    Wish,
    choose,
    described,
    list_modes,
    per_second,
    same_rate,
)
from pixelrt.video.sources.v4l2.pixels import BY_CODE, Layout, Taken, check_layout
from pixelrt.video.sources.waking import Wake

_BUFFERS = 4
"""Two being filled or waiting, one being read, one to spare."""


class Device:
    """A camera with its settings made.

    Args:
        path: Its device file.
        wish: What is asked of it.

    Raises:
        SourceError: If there is none, it may not be used, is in use, or cannot do what is asked.
    """

    def __init__(self, path: str, wish: Wish) -> None:
        self.path = path
        self._fd = _open(path)
        self._buffers: list[mmap.mmap] = []
        self._streaming = False
        try:
            self._check()
            with self._explained():
                self.layout, self.fps = self._set(wish)
                self._map()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Let pictures come, from now on.

        Raises:
            SourceError: If the driver refuses.
        """
        with self._explained():
            for index in range(len(self._buffers)):
                self._give_back(index)
            kernel.request(self._fd, kernel.STREAMON, ctypes.c_int(kernel.CAPTURE))
        self._streaming = True

    def take(self, timeout_s: float, wake: Wake) -> Taken | None:
        """The next picture, as soon as there is one.

        Args:
            timeout_s: How long it may take.
            wake: Ends the wait.

        Returns:
            None if the wait was ended.

        Raises:
            TimeoutError: If none came.
            SourceError: If the camera has gone or failed.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(wake.fd, select.POLLIN)
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            ready = dict(poll.poll(left_s * 1000))
            if wake.fd in ready:
                return None
            if self._fd in ready:
                with self._explained():
                    taken = self._dequeue()
                if taken is not None:
                    return taken
        raise TimeoutError

    def take_waiting(self) -> Taken | None:
        """A picture that is there already; None if there is none.

        Raises:
            SourceError: If the camera has gone or failed.
        """
        with self._explained():
            return self._dequeue()

    def give_back(self, taken: Taken) -> None:
        """Let the driver fill a buffer again.

        Raises:
            SourceError: If the camera has gone or failed.
        """
        with self._explained():
            self._give_back(taken.index)

    def close(self) -> None:
        """Stop the pictures and give the camera back."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        for buffer in self._buffers:
            buffer.close()
        self._buffers.clear()
        os.close(fd)  # which ends the streaming

    def _check(self) -> None:
        try:
            card, can = capability(self._fd)
        except OSError as problem:
            if problem.errno == errno.ENODEV:
                raise SourceError(refusal(self.path, problem)) from problem
            raise UnusableSource(
                f"{self.path} is no camera ({problem.strerror}), expected a device of Video4Linux"
            ) from problem
        if can & kernel.CAP_VIDEO_CAPTURE and can & kernel.CAP_STREAMING:
            return
        if can & kernel.CAP_VIDEO_CAPTURE_MPLANE:
            raise UnusableSource(
                f"{self.path} ({card}) gives pictures in several planes, which GStreamer reads: "
                f"gst://v4l2src device={self.path} ! videoconvert"
            )
        raise UnusableSource(
            f"{self.path} ({card}) gives no pictures; of several device files of a camera, one does; "
            f"present: {', '.join(map(str, cameras()))}"
        )

    def _set(self, wish: Wish) -> tuple[Layout, float | None]:
        now = kernel.Format(type=kernel.CAPTURE)
        kernel.request(self._fd, kernel.G_FMT, now)
        present = now.fmt.pix.height, now.fmt.pix.width
        modes = list_modes(self._fd, wish.size or present)
        mode = choose(modes, wish, present, self.path)
        layout = self._set_format(mode, wish, present, modes)
        return layout, self._set_rate(mode, wish, modes)

    def _set_format(self, mode: Mode, wish: Wish, present: tuple[int, int], modes: list[Mode]) -> Layout:
        height, width = wish.size or present
        wanted = kernel.Format(type=kernel.CAPTURE)
        pix = wanted.fmt.pix
        pix.height, pix.width, pix.field = height, width, kernel.ANY_FIELD
        pix.pixelformat = kernel.code_of(mode.code)
        kernel.request(self._fd, kernel.S_FMT, wanted)
        got = (kernel.name_of(pix.pixelformat), (pix.height, pix.width))
        if got != (mode.code, (height, width)):
            raise UnusableSource(
                f"{self.path} was asked for {mode.code} {height}x{width} and set itself to {got[0]} "
                f"{pix.height}x{pix.width}; it can give {described(modes)}"
            )
        if pix.field not in (kernel.ANY_FIELD, kernel.NO_FIELD):
            raise UnusableSource(
                f"{self.path} gives half pictures, interlaced, which PixelRT does not read; "
                f"gst://v4l2src device={self.path} ! videoconvert ! deinterlace does"
            )
        layout = Layout(pixels=BY_CODE[mode.code], size=(height, width), stride=pix.bytesperline)
        check_layout(layout, self.path)
        return layout

    def _set_rate(self, mode: Mode, wish: Wish, modes: list[Mode]) -> float | None:
        """Ask for the rate; the one that the driver says then."""
        now = kernel.StreamParameters(type=kernel.CAPTURE)
        if not kernel.answers(self._fd, kernel.G_PARM, now):
            self._check_rate(None, wish, modes)
            return None
        capture = now.parm.capture
        rate = mode.nearest_rate(wish.fps or USUAL_FPS) or wish.fps
        if rate and capture.capability & kernel.CAP_TIMEPERFRAME:
            capture.timeperframe.numerator, capture.timeperframe.denominator = 1000, round(rate * 1000)
            kernel.request(self._fd, kernel.S_PARM, now)
        got = per_second(capture.timeperframe) or None
        self._check_rate(got, wish, modes)
        return got

    def _check_rate(self, got: float | None, wish: Wish, modes: list[Mode]) -> None:
        if wish.fps is not None and not (got and same_rate(got, wish.fps)):
            found = f"set itself to {got:g}" if got else "does not say at which rate it gives pictures"
            raise UnusableSource(
                f"{self.path} was asked for {wish.fps:g} fps and {found}; it can give {described(modes)}"
            )

    def _map(self) -> None:
        asked = kernel.RequestBuffers(count=_BUFFERS, type=kernel.CAPTURE, memory=kernel.MMAP)
        kernel.request(self._fd, kernel.REQBUFS, asked)
        if asked.count < 2:
            raise SourceError(f"{self.path} has memory for {asked.count} pictures, expected 2 or more")
        for index in range(asked.count):
            buffer = _buffer(index)
            kernel.request(self._fd, kernel.QUERYBUF, buffer)
            self._buffers.append(mmap.mmap(self._fd, buffer.length, offset=buffer.m.offset))

    def _dequeue(self) -> Taken | None:
        """A filled buffer; None if there is none after all."""
        buffer = _buffer()
        try:
            kernel.request(self._fd, kernel.DQBUF, buffer)
        except BlockingIOError:
            return None
        monotonic = buffer.flags & kernel.TIMESTAMP_MASK == kernel.TIMESTAMP_MONOTONIC
        return Taken(
            index=buffer.index,
            content=self._buffers[buffer.index],
            length=buffer.bytesused,
            sequence=buffer.sequence,
            taken_s=buffer.timestamp.seconds + buffer.timestamp.microseconds * 1e-6 if monotonic else None,
            damaged=bool(buffer.flags & kernel.BUFFER_ERROR),
        )

    def _give_back(self, index: int) -> None:
        kernel.request(self._fd, kernel.QBUF, _buffer(index))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What the driver refuses is an error of the source."""
        try:
            yield
        except OSError as problem:
            raise SourceError(refusal(self.path, problem)) from problem


def survey() -> list[tuple[Camera, str]]:
    """All cameras that give pictures, and what each can do, or why it cannot be used."""
    found = []
    for camera in cameras():
        try:
            fd = _open(camera.path)
        except SourceError as problem:
            found.append((camera, str(problem)))
            continue
        try:
            if capability(fd)[1] & kernel.CAP_VIDEO_CAPTURE:
                found.append((camera, described(list_modes(fd, None))))
        except OSError as problem:
            found.append((camera, refusal(camera.path, problem)))
        finally:
            os.close(fd)
    return found


def capability(fd: int) -> tuple[str, int]:
    """What the driver calls a device, and what this device file of it can do.

    Raises:
        OSError: If it is no device of Video4Linux.
    """
    found = kernel.Capability()
    kernel.request(fd, kernel.QUERYCAP, found)
    marked = found.capabilities & kernel.CAP_DEVICE_CAPS
    return found.card.decode("utf-8", "replace"), found.device_caps if marked else found.capabilities


def _buffer(index: int = 0) -> kernel.Buffer:
    return kernel.Buffer(index=index, type=kernel.CAPTURE, memory=kernel.MMAP)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as problem:
        raise SourceError(missing(path)) from problem
    except OSError as problem:
        raise SourceError(refusal(path, problem)) from problem
