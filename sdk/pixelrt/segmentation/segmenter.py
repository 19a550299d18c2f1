"""What runs: `Segmenter`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.closing import Closing
from pixelrt.cuda.interop import is_on_device
from pixelrt.errors import InputError
from pixelrt.frames import (
    WARM_UP_RUNS,
    Bytes,
    Latency,
    check_frame,
    check_size,
    chunks,
    fitted,
    frame_size,
    same_size,
    swapped,
)
from pixelrt.manifest import ClassInfo, ColorOrder
from pixelrt.pipeline.times import together
from pixelrt.segmentation.result import Segmentation, head_result
from pixelrt.session import Session, Ticket
from pixelrt.strict import type_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pixelrt.video.live import Stream, StreamArguments


class SegmentationTicket:
    """A frame on its way; see `Segmenter.submit`. It belongs to the thread that uses its segmenter."""

    def __init__(self, segmenter: Segmenter, work: _Work) -> None:
        self._segmenter = segmenter
        self._work = work
        self._result: Segmentation | None = None

    @property
    def done(self) -> bool:
        """Whether `result` returns without waiting for the GPU."""
        return self._result is not None or all(ticket.done for ticket in self._work.tickets)

    def result(self) -> Segmentation:
        """Wait for the result; any number of times.

        Raises:
            DeviceError: If the GPU failed at this frame.
        """
        if self._result is None:
            (self._result,) = self._segmenter.collect(self._work)
        return self._result


@dataclass(frozen=True, slots=True)
class _Work:
    """Frames that were submitted: one ticket per group of frames of one size."""

    sizes: list[tuple[int, int]]
    tickets: list[Ticket]
    on_device: bool
    began_s: float
    ready_s: float


class Segmenter(Closing):
    """Runs a segmentation bundle on frames.

    Holds a session, so it belongs to one thread at a time (`clone` makes one for another thread); it is a
    context manager. Results own their arrays. On a CPU frames may have any size; a GPU takes the sizes of the
    manifest's axes.

    Attributes:
        bundle: What it runs.
        session: What runs it, and on what (`session.info`).
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        color: ColorOrder | None = None,
        open_smaller: Callable[[], Sequence[Segmenter]] | None = None,
    ) -> None:
        """Use `pixelrt.load`, which chooses the session.

        Args:
            bundle: A segmentation bundle.
            session: An open session of it, which the segmenter then owns.
            color: Colour order of the frames that will come, where they have three channels or more; None for
                the bundle's own.
            open_smaller: Opens the bundle's smaller sizes, from large to small, as this one was opened.

        Raises:
            InputError: If the colour order is unknown.
        """
        if color not in (None, "rgb", "bgr"):
            raise InputError(f"color is {color!r}, expected 'rgb', 'bgr', or None for the bundle's own")
        self.bundle = bundle
        self.session = session
        form = bundle.segmentation.preprocess
        self._color: ColorOrder = color or form.color
        self._swap_color = form.channels >= 3 and color not in (None, form.color)
        self._network_size = session.inputs[0].fixed_size
        self._open_smaller = open_smaller
        self._smaller: tuple[Segmenter, ...] | None = None

    def __repr__(self) -> str:
        return f"Segmenter({self.bundle.manifest.name!r}, {self.session!r})"

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the first head."""
        return self.bundle.segmentation.heads[0].classes

    @property
    def color(self) -> ColorOrder:
        """Colour order of the frames, where they have three channels or more."""
        return self._color

    @property
    def network_size(self) -> tuple[int, int]:
        """Height and width at which the network works, and of its masks."""
        return self.bundle.segmentation.preprocess.size

    @property
    def swaps_color(self) -> bool:
        """Whether frames come in another colour order than the network takes; only the host can change it."""
        return self._swap_color

    @property
    def slots(self) -> int:
        """How many frames may be on their way at once; 1 on the CPU."""
        return self.session.slots

    def close(self) -> None:
        """Free the session, and those of `at_sizes`."""
        with contextlib.ExitStack() as closing:
            closing.callback(self.session.close)
            for smaller in self._smaller or ():
                closing.callback(smaller.close)

    def clone(self) -> Segmenter:
        """A segmenter of the same loaded network for another thread, with a session of its own."""
        return Segmenter(self.bundle, self.session.clone(), self._color, self._open_smaller)

    def at_sizes(self) -> tuple[Segmenter, ...]:
        """This segmenter, and one for each smaller input that the bundle has, from large to small.

        They are opened by the first call, with the options of this one, and closed with it: weights and
        working memory are held once for each size. They belong to the thread that this belongs to.

        Returns:
            This one alone, where the bundle has one size.

        Raises:
            BundleError: If the bundle of a smaller input is missing or was changed.
            PixelRTError: As `pixelrt.load`.
        """
        if self._smaller is None:
            if self._open_smaller is None and self.bundle.segmentation.smaller:
                raise InputError(
                    f"{self.bundle.path} has smaller sizes, and nobody told this segmenter how to open them; "
                    "open the bundle with pixelrt.load"
                )
            self._smaller = tuple(self._open_smaller()) if self._open_smaller else ()
        return self, *self._smaller

    def warm_up(self, size: tuple[int, int], buffers: Sequence[Bytes] = ()) -> None:
        """Run black frames of a size until everything is set up for it, CUDA graphs included.

        The first frames of a size take longer than all others: call this before a live source is opened.

        Args:
            size: Height and width.
            buffers: Frames of `frame_buffer` that will be used. Where the GPU works in the host's memory
                (Jetson), each has a graph of its own.

        Raises:
            InputError: If the bundle does not take frames of this size.
            DeviceError: If the backend fails.
        """
        check_size(size)
        ordinary = np.zeros((*map(int, size), self.bundle.segmentation.preprocess.channels), np.uint8)
        for frame in (ordinary, *buffers):
            for _ in range(WARM_UP_RUNS):
                for ticket in [self.submit(frame) for _ in range(self.slots)]:
                    ticket.result()

    def frame_buffer(self, size: tuple[int, int]) -> Bytes:
        """A frame to fill and segment: on a GPU page-locked, which saves copying it to memory that is.

        It is freed with the last view of it. A frame that was submitted must stay as it is until its result
        is there, so a source that goes on meanwhile has as many of these as there are slots, and one more.

        Args:
            size: Height and width.

        Returns:
            uint8[H, W, C], its content undefined.

        Raises:
            OutOfMemory: If the host has no more memory to lock.
        """
        check_size(size)
        shape = (*map(int, size), self.bundle.segmentation.preprocess.channels)
        return self.session.host_array(np.dtype(np.uint8), shape)

    @overload
    def __call__(self, frame: Bytes) -> Segmentation: ...
    @overload
    def __call__(self, frame: Sequence[Any]) -> list[Segmentation]: ...
    @overload
    def __call__(self, frame: Any) -> Segmentation: ...
    def __call__(self, frame: Any) -> Segmentation | list[Segmentation]:
        """Segment a frame, or several.

        Args:
            frame: uint8[H, W, C] of any size, in the bundle's colour order (or the one given to `load`), with
                any strides. A list of frames, or uint8[N, H, W, C], gives a list of results, as `batch` does.
                On a GPU also an array that is there already (PyTorch, CuPy, pycuda: `__dlpack__` or
                `__cuda_array_interface__`), contiguous; it is not copied.

        Raises:
            InputError: If the frame has another dtype, rank or number of channels, or is empty.
            DeviceError: If the backend fails.
        """
        if isinstance(frame, (list, tuple)) or (isinstance(frame, np.ndarray) and frame.ndim == 4):
            return self.batch(frame)
        return self.submit(frame).result()

    def submit(self, frame: Any, *, on_device: bool = False) -> SegmentationTicket:
        """Start with a frame and return at once, so that the next one is copied while this one is computed.

        On a GPU as many frames are on their way as the session has slots (`GpuOptions.slots`); one more waits
        for the oldest, whose result is kept for its ticket. On the CPU the work is done when this returns.

        Args:
            frame: As for a call. One of `frame_buffer`, or on the GPU, stays as it is until the result is
                there; others are copied at once.
            on_device: Leave the results on the GPU: `Segmentation.device_mask`.

        Raises:
            InputError: If the frame cannot be used, or there is no GPU for the results to stay on.
            DeviceError: If the backend fails; the next frame is not affected.
        """
        return SegmentationTicket(self, self._submit([frame], on_device=on_device))

    def batch(self, frames: Sequence[Bytes] | Bytes) -> list[Segmentation]:
        """Segment several frames, each uint8[H, W, C]; their sizes may differ.

        Neighbours of one size go through the network together, as many as the manifest's batch axis allows.

        Raises:
            InputError: If a frame cannot be used; nothing was run.
            DeviceError: If the backend fails.
        """
        if getattr(frames, "ndim", 4) == 3 or not isinstance(frames, (Sequence, np.ndarray)):
            raise InputError(
                "batch takes several frames: a list of them, or uint8[N, H, W, C]; one: segmenter(frame)"
            )
        frames = list(frames)
        for frame in frames:
            self._check(frame)
        largest = self.session.largest_batch or self.bundle.manifest.axes["batch"].max
        started = [self._submit(part) for part in chunks(frames, largest)]
        return [result for work in started for result in self.collect(work)]

    def stream(self, source: Any, **options: Unpack[StreamArguments]) -> Stream:
        """Segment frames as they come: from cameras the newest, from files every one.

            for frame, result in segmenter.stream("rtsp://camera/1"):
                show(result.overlay(frame.image))

        Taking frames, computing and writing each have a thread; a loop that is left, in whatever way, ends
        them. Each item is a `Delivery`: a pair that also knows its `times`, its `overlay()` and the `size` of
        the network. While it runs, the stream alone uses this segmenter.

        Args:
            source: A URI (see `pixelrt.video.sources`), a source, an iterable of uint8[H, W, 3] arrays in
                this segmenter's colour order or of `Frame`s, or a list of those for several at once.
            **options: See `pixelrt.video.live.StreamOptions`: `policy` ("latest" or "all"), `deadline`,
                `sinks`, `head`, `alpha`, `legend`, `adaptive`, `on_event`, `watchdog` and `on_watchdog`,
                `on_sink_error`, `on_source_error`, `stall`, `log`.

        Raises:
            InputError: If an option cannot be used, or the bundle takes frames of other than 3 channels.
            SourceError: If a source cannot be opened.
            SinkError: If a sink cannot be opened.
            MissingDependency: If a library is needed that is not installed.
        """
        from pixelrt.video.live import stream

        return stream(self, source, **options)

    def _check(self, frame: Any) -> None:
        if not is_on_device(frame):
            check_frame(frame, self.bundle.segmentation.preprocess.channels)
        elif len(getattr(frame, "shape", ())) != 3:
            shape = tuple(getattr(frame, "shape", ()))
            raise InputError(
                f"the frame on the GPU has the shape {shape}, expected [H, W, C]; they come one at a time"
            )
        elif self.session.info.device == "cpu":
            raise InputError(
                f"the frame is {type_of(frame)} on a GPU, this segmenter runs on the CPU; copy it "
                "to the host, or load the bundle with device='cuda'"
            )
        elif self._swap_color:
            raise InputError(
                f"the frame is on the GPU in {self._color}, the bundle takes "
                f"{self.bundle.segmentation.preprocess.color}; reorder its channels there, and load without "
                "color"
            )

    def _submit(self, frames: Sequence[Any], *, on_device: bool = False) -> _Work:
        began = time.perf_counter()
        for frame in frames:
            self._check(frame)
        prepared = [self._prepare(frame) for frame in frames]
        ready = time.perf_counter()
        (spec,) = self.session.inputs
        masks = [head.outputs["mask"] for head in self.bundle.segmentation.heads if "mask" in head.outputs]
        outputs = masks if on_device else None
        tickets = [
            self.session.submit({spec.name: self._batched(group)}, outputs=outputs, on_device=on_device)
            for group in same_size(prepared)
        ]
        return _Work([frame_size(frame) for frame in frames], tickets, on_device, began, ready)

    def collect(self, work: _Work) -> list[Segmentation]:
        """Wait for what `submit` started; its ticket calls this."""
        groups = [ticket.result() for ticket in work.tickets]
        done = time.perf_counter()
        scale = 1e3 / len(work.sizes)
        latency = Latency(
            prepare_ms=(work.ready_s - work.began_s) * scale,
            network_ms=(done - work.ready_s) * scale,
            total_ms=(done - work.began_s) * scale,
            gpu=together([ticket.times for ticket in work.tickets]),
        )
        if work.on_device:
            return [self._result(groups[0], work.sizes[0], latency)]
        rows = [
            {name: value[i] for name, value in group.items()} for group in groups for i in _indices(group)
        ]
        return [self._result(row, size, latency) for row, size in zip(rows, work.sizes, strict=True)]

    def _batched(self, frames: list[Any]) -> Any:
        """Frames of one size as the session takes them; one on a GPU puts them together itself."""
        if not isinstance(frames[0], np.ndarray):
            return frames[0]
        if len(frames) == 1:
            return frames[0][np.newaxis]
        return np.stack(frames) if self.session.info.device == "cpu" else tuple(frames)

    def _prepare(self, frame: Any) -> Any:
        if is_on_device(frame):
            return frame
        frame = fitted(frame, self._network_size)
        return swapped(frame) if self._swap_color else frame

    def _result(
        self, outputs: Mapping[str, NDArray[Any]], frame_size: tuple[int, int], latency: Latency
    ) -> Segmentation:
        first, *others = (
            head_result(head, outputs, frame_size, latency, self._color)
            for head in self.bundle.segmentation.heads
        )
        if not others:
            return first
        return dataclasses.replace(first, others={other.name: other for other in others})


def _indices(outputs: Mapping[str, NDArray[Any]]) -> range:
    return range(len(next(iter(outputs.values()))))
