"""`IsolatedSegmenter`: segments frames as `Segmenter` does, in a child process."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.closing import Closing
from pixelrt.cuda.interop import is_on_device
from pixelrt.errors import (
    BundleError,
    ContextLost,
    DeviceError,
    DeviceLost,
    ExecutionFailed,
    InputError,
    PixelRTError,
)
from pixelrt.frames import check_frame, chunks
from pixelrt.isolation.buffers import FrameBuffers
from pixelrt.isolation.fingerprint import fingerprint
from pixelrt.isolation.flight import Flight
from pixelrt.isolation.options import LOADER, IsolationOptions, LoadOptions, Size, checked_size, sizes
from pixelrt.isolation.process import Child, ChildLostError, Ground
from pixelrt.isolation.protocol import Load
from pixelrt.isolation.ticket import IsolatedTicket
from pixelrt.manifest import ClassInfo, ColorOrder
from pixelrt.segmentation import Segmentation
from pixelrt.session import GpuOptions, SessionInfo, SessionOptions
from pixelrt.strict import suggestion

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pixelrt.video.live import Stream, StreamArguments

Bytes = NDArray[np.uint8]

_LOG = logging.getLogger("pixelrt.isolation")
_PATIENCE_S = 5.0
_CLOSING_S = 30.0
_FEWEST_SLOTS = 2
"""Even where one frame is computed at a time, the next one can be handed over meanwhile."""


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
        options: How the child is watched and replaced.
        restarts: How many children have replaced a lost one so far.
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
        self.options = options or IsolationOptions()
        self.restarts = 0
        _check_loading(loading or {})
        self._loading: dict[str, Any] = dict(loading or {})
        self._gpu: GpuOptions | None = self._loading.pop("gpu", None)
        self._sizes = list(self.options.warm_up)
        self.slots = max(_FEWEST_SLOTS, (self._gpu or GpuOptions()).slots)
        self._buffers = FrameBuffers()
        weakref.finalize(self, self._buffers.close)
        self._busy = threading.Lock()
        self._closed = False
        self._frames = 0
        self._why_lost = ""
        self._restarted_s: collections.deque[float] = collections.deque()
        self._child: Child | None = None
        self._smaller: tuple[IsolatedSegmenter, ...] | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self._buffers.close)
            self._child = self._start()
            undo.pop_all()
        self._info = self._child.ready.info

    def __repr__(self) -> str:
        info = self._info
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
        asked: ColorOrder | None = self._loading.get("color")
        return asked or self.bundle.segmentation.preprocess.color

    @property
    def session_info(self) -> SessionInfo:
        """What runs the bundle in the child. A fresh child that would run it otherwise is refused."""
        return self._info

    @property
    def alive(self) -> bool:
        """Whether a child is there for the next frame."""
        return self._child is not None and self._child.alive

    @property
    def pid(self) -> int | None:
        """Process id of the child, None if it is lost or closed."""
        child = self._child
        return child.pid if child is not None and child.alive else None

    @property
    def start_s(self) -> float | None:
        """How long the child took to start and load the bundle; None if it is lost or closed."""
        child = self._child
        return child.start_s if child is not None and child.alive else None

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
            return [result for part in parts for result in self._run(part)]

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
            return IsolatedTicket(self, self._send([frame], "submit"))

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
            self._land_all()
            self._warm_up(self._ready_child(), size)
            if size not in self._sizes:
                self._sizes.append(size)

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
        options = dataclasses.replace(self.options, warm_up=tuple(self._sizes))
        loading: LoadOptions = {**self._loading, "gpu": self._gpu}  # type: ignore[typeddict-item]
        segmenters: list[IsolatedSegmenter] = []
        with contextlib.ExitStack() as undo:
            for bundle in self.bundle.smaller:
                segmenters.append(IsolatedSegmenter(bundle, options, loading))
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
        return self._buffers.make((height, width, self.bundle.segmentation.preprocess.channels))

    def collect(self, flight: Flight) -> list[Segmentation]:
        """Wait for what `submit` started; its ticket calls this."""
        if not flight.landed:
            self._check_free()
            with self._busy:
                self._check_open()
                self._wait_for(flight)
        return flight.take()

    def has_landed(self, flight: Flight) -> bool:
        """Whether what `submit` started needs no more waiting; its ticket calls this."""
        if not flight.landed:
            self._check_free()
            with self._busy:
                self._check_open()
                self._land_ready()
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
            self._land_ready()
            self._lose("was ended by restart()", outlook="submit it again")
            self._restarted_s.clear()
            self._replace()

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
            while self._on_their_way:
                self._receive(wait=True, timeout_s=self.options.timeout_s or _CLOSING_S)
            if self._child is not None:
                self._child.end(_PATIENCE_S)
            self._child = None
            self._buffers.close()

    def _check(self, frame: object) -> None:
        if is_on_device(frame):
            raise InputError(
                f"the frame is a {type(frame).__name__} on the GPU, and a child process takes frames in host "
                "memory: copy it there, or use pixelrt.load"
            )
        check_frame(frame, self.bundle.segmentation.preprocess.channels)

    def _other_bundle(self) -> PixelRTError:
        if self.options.loader != LOADER:
            return InputError(
                f"loader {self.options.loader!r} gave a segmenter with other heads, sizes, colour order or "
                f"outputs than {self.bundle.path} has; results would be read wrongly"
            )
        return BundleError(
            f"{self.bundle.path} has changed since it was opened: its heads, sizes or colour order are "
            "others now; open it again with pixelrt.isolate"
        )

    def _check_free(self) -> None:
        """Refuse a second thread. One that slips through waits at the lock.

        (Not `acquire(blocking=False)`: Ctrl-C right after it would leave the lock to nobody.)
        """
        if self._busy.locked():
            raise DeviceError(
                "this segmenter is in use by another thread; isolate the bundle once per thread "
                "(pixelrt.isolate again)"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceError("this segmenter is closed; isolate the bundle again with pixelrt.isolate")

    def _run(self, frames: Sequence[Bytes]) -> list[Segmentation]:
        flight = self._send(frames, "call" if len(frames) == 1 else "batch")
        self._wait_for(flight)
        return flight.take()

    def _send(self, frames: Sequence[Bytes], how: Literal["call", "submit", "batch"]) -> Flight:
        """Send frames, as soon as there is a slot and a child. Where it is lost, so are they."""
        began_s = time.monotonic()
        while self._on_their_way and self._receive(wait=self._on_their_way >= self.slots):
            pass
        child = self._ready_child()
        flight = Flight(self._frames + 1, len(frames), began_s)
        self._frames = flight.last
        try:
            child.send(flight, frames, how)
        except ChildLostError as lost:
            self._lose(f"{lost}")
        return flight

    @property
    def _on_their_way(self) -> int:
        return len(self._child.flights) if self._child is not None else 0

    def _wait_for(self, flight: Flight) -> None:
        while not flight.landed:
            self._receive(wait=True)

    def _land_all(self) -> None:
        while self._on_their_way:
            self._receive(wait=True)

    def _land_ready(self) -> None:
        while self._on_their_way and self._receive(wait=False):
            pass

    def _receive(self, *, wait: bool, timeout_s: float | None = None) -> bool:
        """Take the answer to the oldest frames on their way.

        Returns:
            Whether it was there. Where the child was lost instead, that is the answer.
        """
        if self._child is None:
            raise DeviceError("these frames are with no child process; submit them again")
        try:
            return self._child.receive(timeout_s or self.options.timeout_s, wait=wait)
        except ChildLostError as lost:
            self._lose(f"{lost}")
        except (ContextLost, DeviceLost) as problem:
            self._lose(f"was ended after an error ({problem})", problem)
        return True

    def _warm_up(self, child: Child, size: Size) -> None:
        height, width = size
        which = f"warming up for frames of {height}x{width}"
        try:
            child.warm_up(size, self.options.start_timeout_s)
        except ChildLostError as lost:
            self._lose(f"{lost}")
            raise ExecutionFailed(f"the child process {lost}\n{which}: not done; {self._outlook()}") from None
        except (ContextLost, DeviceLost) as problem:
            self._lose(f"was ended after an error ({problem})")
            raise type(problem)(f"{problem}\n{which}: not done; {self._outlook()}") from None

    def _ready_child(self) -> Child:
        """The child, or a fresh one where that may be."""
        child = self._child
        if child is not None and child.alive:
            return child
        if child is not None:
            self._lose(child.obituary())
        if not self._restarts_left():
            raise DeviceError(
                f"there is no child process to run this: the last one {self._why_lost}\n{self._outlook()}"
            )
        self._restarted_s.append(time.monotonic())
        _LOG.warning(
            "the child process %s; a fresh one is started (restart %d of at most %d within %g s)",
            self._why_lost,
            len(self._restarted_s),
            self.options.restarts,
            self.options.restart_window_s,
        )
        return self._replace()

    def _replace(self) -> Child:
        try:
            child = self._start()
        except PixelRTError as problem:
            self._why_lost = f"could not be replaced ({problem})"
            raise
        found, expected = (dataclasses.replace(info, why="") for info in (child.ready.info, self._info))
        if found != expected:
            child.end()
            self._why_lost = f"would have run on {found.backend} on {found.device} in {found.precision}"
            raise DeviceError(
                f"a fresh child process would run {self.bundle.path} with {found}, and the one before it ran "
                f"it with {expected}: results would differ. Choose with pixelrt.isolate(..., backend=..., "
                "device=..., precision=...)"
            )
        self._child = child
        self.restarts += 1
        return child

    def _start(self) -> Child:
        folder = str(self.bundle.path.absolute())
        order = Load(self.options.loader, folder, self._loading, self._gpu, tuple(self._sizes), _level())
        ground = Ground(self.bundle, self.slots, self._buffers)
        try:
            child = Child(order, ground, self.options.start_timeout_s)
        except ChildLostError as lost:
            raise DeviceError(f"while it loaded {self.bundle.path}, the child process {lost}") from None
        if child.ready.heads != fingerprint(self.bundle.segmentation):
            child.end()
            raise self._other_bundle()
        _LOG.info("the child process %d has loaded %s in %.2f s", child.pid, order.bundle, child.start_s)
        return child

    def _lose(self, why: str, problem: PixelRTError | None = None, outlook: str = "") -> None:
        """Let the child go, and with it what is on its way.

        Args:
            why: How the child ended.
            problem: The error that frames have then, if not `ExecutionFailed`.
            outlook: What happens next, and what the user can do, if that is not as usual.
        """
        self._why_lost = why
        child = self._child
        if child is None:
            return
        child.end()
        kind, text = (type(problem), problem) if problem else (ExecutionFailed, f"the child process {why}")
        outlook = outlook or self._outlook()
        for flight in child.flights:
            flight.fail(kind, f"{text}\n{flight.which}: no result; {outlook}")
        self._child = None

    def _outlook(self) -> str:
        """What happens next without a child, and what the user can do."""
        allowed, window_s = self.options.restarts, self.options.restart_window_s
        if left := self._restarts_left():
            number = allowed - left + 1
            limit = f"restart {number} of at most {allowed} within {window_s:g} s"
            return f"the next call starts a fresh child ({limit})"
        if not allowed:
            return "restart() starts a fresh child; with restarts=3, say, the next call would"
        return (
            f"the child was replaced {allowed} times within {window_s:g} s and is not again by itself: find "
            "what ends it, then call restart(), or allow more with restarts=..."
        )

    def _restarts_left(self) -> int:
        """How many restarts may follow by themselves now."""
        since_s = time.monotonic() - self.options.restart_window_s
        while self._restarted_s and self._restarted_s[0] < since_s:
            self._restarted_s.popleft()
        return self.options.restarts - len(self._restarted_s)


def isolate(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    restarts: int = 3,
    restart_window_s: float = 60.0,
    timeout_s: float | None = 30.0,
    start_timeout_s: float | None = None,
    loader: str = LOADER,
    warm_up: Size | Sequence[Size] = (),
    **loading: Unpack[LoadOptions],
) -> IsolatedSegmenter:
    """Open a bundle in a child process, which may crash, hang or lose its GPU while this process goes on.

    CUDA works no more in a process after some errors, and native code can end a process: here that costs one
    frame, and the next call starts a fresh child. See `IsolationOptions` for what may be chosen.

    Args:
        bundle: The folder that `pixelrt export` wrote, or an opened bundle.
        restarts: How often a lost child is replaced by itself within `restart_window_s`; 0 for never.
        restart_window_s: See `restarts`.
        timeout_s: How long one run of the network may take before the child is killed; None for ever.
        start_timeout_s: How long loading and warming up may take; None for ever, because it may build an
            engine.
        loader: `module:function` that the child calls in the place of `pixelrt.load`.
        warm_up: Size of the frames to come (height, width), or several sizes: every child is warmed up for
            them before it gets a frame. Without it, the first frames take longer, perhaps than `timeout_s`.
        **loading: The keyword arguments of `pixelrt.load`: device, backend, ...

    Raises:
        BundleError: If there is no bundle there, or it is damaged.
        DeviceError: If nothing here may run it, or no child can be started.
        InputError: If an option is unknown.
    """
    options = IsolationOptions(
        restarts=restarts,
        restart_window_s=restart_window_s,
        timeout_s=timeout_s,
        start_timeout_s=start_timeout_s,
        loader=loader,
        warm_up=sizes(warm_up),
    )
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if opened.manifest.task != "segmentation":
        raise InputError(
            f"{opened.path} is a bundle for {opened.manifest.task}, pixelrt.isolate runs bundles for "
            "segmentation; run it in this process: pixelrt.load"
        )
    return IsolatedSegmenter(opened, options, loading)


def _check_loading(loading: LoadOptions) -> None:
    """Refuse here what the child would refuse, before it is started."""
    for name in loading:
        if name not in LoadOptions.__annotations__:
            raise TypeError(
                f"isolate() got an unexpected keyword argument {name!r}"
                f"{suggestion(name, list(LoadOptions.__annotations__))}"
            )
    values: dict[str, Any] = {name: value for name, value in loading.items() if name != "color"}
    if values.get("gpu", ...) is None:
        del values["gpu"]
    SessionOptions(**values)


def _level() -> int:
    """The level of `logging` from which this process wants to hear anything of PixelRT."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("pixelrt.")]
    return min(logging.getLogger(name).getEffectiveLevel() for name in ("pixelrt", *names))
