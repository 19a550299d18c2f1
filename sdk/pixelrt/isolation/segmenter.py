"""`IsolatedSegmenter`: segments frames as `Segmenter` does, in a child process."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.closing import Closing
from pixelrt.cuda.interop import is_on_device
from pixelrt.errors import DeviceError, InputError
from pixelrt.frames import check_frame, chunks
from pixelrt.isolation.flight import Flight
from pixelrt.isolation.options import IsolationOptions, LoadOptions, Size, check_loading, checked_size
from pixelrt.isolation.supervisor import Supervisor
from pixelrt.isolation.ticket import IsolatedTicket
from pixelrt.manifest import ClassInfo, ColorOrder
from pixelrt.patience import waits
from pixelrt.segmentation import Segmentation
from pixelrt.session import SessionInfo
from pixelrt.strict import type_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pixelrt.video.live import Stream, StreamArguments

Bytes = NDArray[np.uint8]


class IsolatedSegmenter(Closing):
    """Runs a segmentation bundle in a child process, which can be lost and replaced.

    Like a `Segmenter` it belongs to one thread at a time and is a context manager, and results own their
    arrays. A child that is lost is an error of every frame that was on its way, never an old or half a
    result. One that is lost in between is replaced before the next frame is sent, where `restarts` allow it.

    Calls, `batch`, `submit`, `stream`, `warm_up`, `frame_buffer`, `at_sizes`, `classes`, `color`, `bundle`
    and `close` are those of a `Segmenter`, so that a program can use either. What cannot cross to another
    process is not offered: frames on the GPU are refused (the CUDA context is the child's), results do not
    stay there (no `on_device`), and there is no `clone` (isolate the bundle once per thread) and no `session`
    (see `session_info`, `slots`).

    Attributes:
        bundle: What it runs.
        slots: How many frames may be on their way at once.
    """

    def __init__(
        self, bundle: Bundle, options: IsolationOptions | None = None, loading: LoadOptions | None = None
    ) -> None:
        """Use `pixelrt.isolate`.

        Args:
            bundle: What to run. The child reads it again from its folder.
            options: How the child is watched and replaced.
            loading: What `pixelrt.load` shall be called with.

        Raises:
            DeviceError: If the child cannot be started, or nothing may run the bundle.
            PixelRTError: As `pixelrt.load`.
        """
        self.bundle = bundle
        self._loading: LoadOptions = {**(loading or {})}
        check_loading(self._loading)
        self._supervisor = Supervisor(bundle, options or IsolationOptions(), self._loading)
        self.slots = self._supervisor.slots
        self._busy = threading.Lock()
        self._closed = False
        self._smaller: tuple[IsolatedSegmenter, ...] | None = None

    def __repr__(self) -> str:
        info = self.session_info
        state = f"process {self.pid}" if self.alive else "no process"
        return (
            f"IsolatedSegmenter({self.bundle.manifest.name!r}, {info.backend} {info.version} on "
            f"{info.device}, {info.precision}, {state}, restarts={self.restarts})"
        )

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the first head."""
        return self.bundle.segmentation.heads[0].classes

    @property
    def network_size(self) -> Size:
        """Height and width at which the network works, and of its masks."""
        return self.bundle.segmentation.preprocess.size

    @property
    def color(self) -> ColorOrder:
        """Colour order of the frames, where they have three channels or more."""
        return self._loading.get("color") or self.bundle.segmentation.preprocess.color

    @property
    def session_info(self) -> SessionInfo:
        """What runs the bundle in the child. A fresh child that would run it otherwise is refused."""
        return self._supervisor.info

    @property
    def alive(self) -> bool:
        """Whether a child is there for the next frame."""
        return self._supervisor.child is not None

    @property
    def pid(self) -> int | None:
        """Process id of the child, None if it is lost or closed."""
        child = self._supervisor.child
        return child.pid if child is not None else None

    @property
    def start_s(self) -> float | None:
        """How long the child took to start and load the bundle; None if it is lost or closed."""
        child = self._supervisor.child
        return child.start_s if child is not None else None

    @property
    def options(self) -> IsolationOptions:
        """How the child is watched and replaced."""
        return self._supervisor.options

    @options.setter
    def options(self, options: IsolationOptions) -> None:
        self._supervisor.options = options

    @property
    def restarts(self) -> int:
        """How many children have replaced a lost one so far."""
        return self._supervisor.replaced

    @overload
    def __call__(self, frame: Bytes) -> Segmentation: ...
    @overload
    def __call__(self, frame: Sequence[Bytes]) -> list[Segmentation]: ...
    def __call__(self, frame: Bytes | Sequence[Bytes]) -> Segmentation | list[Segmentation]:
        """Segment a frame, or several, as `Segmenter` does.

        Args:
            frame: uint8[H, W, C] in the memory of the host, of any size and strides; or several.

        Raises:
            InputError: If the frame has another dtype, rank or number of channels, or is empty.
            ExecutionFailed: If the child ended or was killed meanwhile; the next call can be another try.
            ContextLost: If CUDA works no more in the child, which is ended.
            DeviceError: If the backend fails, there is no child and none may be started by itself, or this is
                closed or in use by another thread.
        """
        if isinstance(frame, (list, tuple)) or (isinstance(frame, np.ndarray) and frame.ndim == 4):
            return self.batch(frame)
        return self.batch([frame])[0]  # type: ignore[list-item]

    def batch(self, frames: Sequence[Bytes] | Bytes) -> list[Segmentation]:
        """Segment several frames, each uint8[H, W, C]; their sizes may differ.

        Raises:
            InputError: If a frame cannot be used; nothing was run.
            PixelRTError: As for one frame.
        """
        frames = list(frames)
        for frame in frames:
            self._check(frame)
        parts = chunks(frames, self.bundle.manifest.axes["batch"].max)
        self._check_free()
        with self._busy:
            self._check_open()
            return [result for part in parts for result in self._supervisor.run(part)]

    def submit(self, frame: Bytes) -> IsolatedTicket:
        """Start with a frame and return at once, so that the next one is handed over while this is computed.

        As many frames are on their way as there are `slots`; one more waits for the oldest, whose result is
        kept for its ticket. Results come in the order of the frames, and can be asked for in any. An error
        belongs to the ticket of its frame. A child that is lost fails all tickets on their way.

        Args:
            frame: As for a call. One of `frame_buffer` stays as it is until the result is there; others are
                copied at once.

        Raises:
            InputError: If the frame cannot be used.
            OutOfMemory: If there is no memory to hand it over.
            DeviceError: If there is no child and none may be started by itself, or this is closed or in use
                by another thread.
        """
        self._check(frame)
        self._check_free()
        with self._busy:
            self._check_open()
            return IsolatedTicket(self, self._supervisor.send([frame], "submit"))

    def stream(self, source: Any, **options: Unpack[StreamArguments]) -> Stream:
        """Segment frames as they come, as `Segmenter.stream` does; frames on the GPU are refused.

        A child that is lost costs the frames that are on their way in it (counted as `failed`), as long as
        `restarts` allow a fresh one.

        Args:
            source: A URI, a source, an iterable of uint8[H, W, 3] arrays or of `Frame`s, or a list of those.
            **options: See `pixelrt.video.live.StreamOptions`.

        Raises:
            InputError: If an option cannot be used, or the bundle takes frames of other than 3 channels.
            SourceError: If a source cannot be opened.
            SinkError: If a sink cannot be opened.
            MissingDependency: If a library is needed that is not installed.
        """
        from pixelrt.video.live import stream

        return stream(self, source, **options)

    def warm_up(self, size: Size, buffers: Sequence[Bytes] = ()) -> None:
        """Have the child run black frames of a size until everything is set up for it.

        The first frames of a size take longer than all others: call this before a live source is opened, or
        use `isolate(..., warm_up=size)`. It may take `start_timeout_s`. Frames on their way are waited for.
        Fresh children warm up for this size as well.

        Args:
            size: Height and width.
            buffers: As for a `Segmenter`; they make no difference: a GPU works in memory of the child's own.

        Raises:
            InputError: If the bundle does not take frames of this size.
            ExecutionFailed: If the child ended or was killed meanwhile.
            DeviceError: If the backend fails, there is no child and none may be started by itself, or this is
                closed or in use by another thread.
        """
        size = checked_size("size", size)
        self._check_free()
        with self._busy:
            self._check_open()
            self._supervisor.warm_up(size)

    def at_sizes(self) -> tuple[IsolatedSegmenter, ...]:
        """This segmenter, and one for each smaller input that the bundle has, from large to small.

        Each has a child process of its own, watched, warmed up and replaced as that of this one; weights and
        working memory are held once for each size. They are started by the first call and closed with this.

        Returns:
            This one alone, where the bundle has one size.

        Raises:
            BundleError: If the bundle of a smaller input is missing or was changed.
            PixelRTError: As `isolate`.
        """
        self._check_open()
        if self._smaller is None:
            self._smaller = tuple(self._isolate_smaller())
        return self, *self._smaller

    def _isolate_smaller(self) -> list[IsolatedSegmenter]:
        options = dataclasses.replace(self.options, warm_up=tuple(self._supervisor.sizes))
        segmenters: list[IsolatedSegmenter] = []
        with contextlib.ExitStack() as undo:
            for bundle in self.bundle.smaller:
                segmenters.append(IsolatedSegmenter(bundle, options, self._loading))
                undo.callback(segmenters[-1].close)
            undo.pop_all()
        return segmenters

    def frame_buffer(self, size: Size) -> Bytes:
        """A frame to fill and segment, in memory that the child reads in place: it is not copied on the way.

        A frame that was called or submitted with it must stay as it is until its result or error is there, so
        a source that goes on meanwhile has as many of these as there are `slots`, and one more. A view of it
        that lies in one piece is read in place too; one that does not, and frames of a batch, are copied. It
        outlives the child, and is freed with the last view of it for the next buffer of its size.

        Args:
            size: Height and width.

        Returns:
            uint8[H, W, C], its content undefined.

        Raises:
            OutOfMemory: If there is not so much memory.
            DeviceError: If this is closed.
        """
        height, width = checked_size("size", size)
        self._check_open()
        return self._supervisor.buffers.make((height, width, self.bundle.segmentation.preprocess.channels))

    def collect(self, flight: Flight) -> list[Segmentation]:
        """Wait for what `submit` started; its ticket calls this."""
        if not flight.landed:
            self._check_free()
            with self._busy:
                self._check_open()
                self._supervisor.wait_for(flight)
        return flight.take()

    def has_landed(self, flight: Flight) -> bool:
        """Whether what `submit` started needs no more waiting; its ticket calls this."""
        if not flight.landed:
            self._check_free()
            with self._busy:
                self._check_open()
                self._supervisor.land_ready()
        return flight.landed

    def restart(self) -> None:
        """End the child, if there is one, and start a fresh one. Restarts before this count no more.

        Frames on their way are lost; submit them again.

        Raises:
            DeviceError: If this is closed, or in use by another thread.
            PixelRTError: As `isolate`.
        """
        self._check_free()
        with self._busy:
            self._check_open()
            self._supervisor.restart()

    def close(self) -> None:
        """Wait for what is on its way, at most half a minute a frame, keep its results, and end the child.

        Using this afterwards raises `DeviceError`; tickets and frame buffers can still be used. Those of
        `at_sizes` are closed likewise.
        """
        with contextlib.ExitStack() as closing:
            closing.callback(self._close)
            for smaller in self._smaller or ():
                closing.callback(smaller.close)

    def _close(self) -> None:
        self._check_free()
        with self._busy:
            self._closed = True
            self._supervisor.close()

    def _check(self, frame: object) -> None:
        if is_on_device(frame):
            raise InputError(
                f"the frame is {type_of(frame)} on the GPU, and a child process takes frames in host "
                "memory: copy it there, or use pixelrt.load"
            )
        check_frame(frame, self.bundle.segmentation.preprocess.channels)

    def _check_free(self) -> None:
        """Refuse a second thread. One that slips through waits at the lock.

        (Not `acquire(blocking=False)`: Ctrl-C right after it would leave the lock to nobody.)
        """
        if self._busy.locked() and not waits():
            raise DeviceError(
                "this segmenter is in use by another thread; isolate the bundle once per thread "
                "(pixelrt.isolate again)"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceError("this segmenter is closed; isolate the bundle again with pixelrt.isolate")
