"""Frames in, masks out: `Segmenter` and its result."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle, write_file
from pixelrt.closing import Closing
from pixelrt.cuda.device_array import DeviceArray
from pixelrt.cuda.interop import is_on_device
from pixelrt.dependency import require
from pixelrt.errors import BundleError, InputError, SinkError
from pixelrt.frames import (
    WARM_UP_RUNS,
    Bytes,
    Floats,
    Latency,
    check_frame,
    check_size,
    chunks,
    fitted,
    frame_size,
    id_counts,
    nearest,
    nearest_places,
    same_size,
    swapped,
    unbatched,
)
from pixelrt.manifest import ClassInfo, ColorOrder, Head
from pixelrt.pipeline.times import together
from pixelrt.session import Session, Ticket

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pixelrt.video.live import Stream, StreamArguments

__all__ = [
    "Latency",
    "Segmentation",
    "SegmentationTicket",
    "Segmenter",
    "check_alpha",
    "check_frame",
    "chunks",
    "nearest",
]


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The masks of one frame.

    Outputs that the bundle does not emit are None. A bundle with several heads gives the first one; the
    others are reached by name: `result["lanes"]`.
    """

    name: str
    """The head."""
    classes: tuple[ClassInfo, ...]
    """Class ids are positions in it. A head with one sigmoid channel has two: background and foreground."""
    frame_size: tuple[int, int]
    """Height and width of the frame."""
    latency: Latency
    mask: Bytes | None = None
    """uint8[h, w], class ids, at the network's size; see `resized`."""
    confidence: Bytes | None = None
    """uint8[h, w], probability of the mask's class, 0..255 for 0..1."""
    grid: Floats | None = None
    """float32[C, rows, cols], class probabilities averaged over each cell."""
    logits: Floats | None = None
    """float32[C, h, w], what the network says before softmax or sigmoid."""
    device_mask: DeviceArray | None = None
    """The mask on the GPU, uint8[h, w], where results were to stay there; `mask` and the others are None
    then. It belongs to this result: no later frame overwrites it."""
    color: ColorOrder = "rgb"
    """Colour order of the frame, and so of `overlay` and `colorize`."""
    others: Mapping[str, Segmentation] = field(default_factory=dict)
    """The other heads of the same frame."""

    def __repr__(self) -> str:
        kinds = ("mask", "confidence", "grid", "logits", "device_mask")
        present = [kind for kind in kinds if getattr(self, kind) is not None]
        return (
            f"Segmentation({self.name!r}, {', '.join(present)}, frame_size={self.frame_size}, "
            f"classes={len(self.classes)}, total_ms={self.latency.total_ms:.1f})"
        )

    def __getitem__(self, head: str) -> Segmentation:
        """The result of a head.

        Raises:
            InputError: If there is no head of that name.
        """
        if head == self.name:
            return self
        if head not in self.others:
            raise InputError(f"there is no head {head!r}, this bundle has {[self.name, *self.others]}")
        return self.others[head]

    def resized(self, size: tuple[int, int] | None = None) -> Segmentation:
        """Mask and confidence at another size, by nearest neighbour; the grid stays, logits are left out.

        Args:
            size: Height and width; None for the frame's own.

        Raises:
            InputError: If a side is no whole number of at least 1.
        """
        size = size or self.frame_size
        check_size(size)
        height, width = size
        return dataclasses.replace(
            self,
            mask=nearest(self.mask, height, width),
            confidence=nearest(self.confidence, height, width),
            logits=None,
            others={name: other.resized((height, width)) for name, other in self.others.items()},
        )

    def mask_at(self, size: tuple[int, int]) -> Bytes:
        """The class ids at a size (height, width), by nearest neighbour, uint8[H, W].

        Raises:
            InputError: If a side is below 1, or the bundle emits no mask.
        """
        check_size(size)
        return nearest(self._mask(), *size)

    def colorize(self, color: ColorOrder | None = None) -> Bytes:
        """The mask in the colours of its classes, uint8[h, w, 3].

        Args:
            color: Colour order of the picture; None for the frame's.

        Raises:
            InputError: If the bundle emits no mask.
        """
        colored: Bytes = np.take(self._palette(color), self._mask(), axis=0)
        return colored

    def overlay(self, frame: Bytes, alpha: float = 0.5, color: ColorOrder | None = None) -> Bytes:
        """The frame with the classes' colours laid over it, uint8[H, W, 3].

        Args:
            frame: uint8[H, W, 3], of any size; the mask is resized to it.
            alpha: Weight of the colours, 0..1.
            color: Colour order of `frame`; None for that of the frame that was segmented.

        Raises:
            InputError: If the frame or alpha cannot be used, or the bundle emits no mask.
            MissingDependency: If OpenCV is not installed.
        """
        check_alpha(alpha)
        check_frame(frame, 3)
        cv2 = require("cv2", "video", "drawing an overlay")
        colors = self._colors_at(frame.shape[:2], color)
        blended: Bytes = cv2.addWeighted(frame, 1 - alpha, colors, alpha, 0, colors)
        return blended

    def coverage(self) -> dict[str, float]:
        """Share of the mask's pixels per class name, 0..1, in the order of the classes.

        Raises:
            InputError: If the bundle emits no mask.
        """
        mask = self._mask()
        counts = id_counts(mask).tolist()
        return {info.name: count / mask.size for info, count in zip(self.classes, counts, strict=False)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as a PNG of class ids, or every output as NPZ, whole or not at all.

        Args:
            path: Ends in `.png` or `.npz`.

        Raises:
            InputError: If the ending is another one, or there is no mask for a PNG.
            SinkError: If the file cannot be written.
        """
        file = Path(path)
        writers = {".png": self._png, ".npz": self._npz}
        if file.suffix.lower() not in writers:
            raise InputError(
                f"{file} ends in {file.suffix!r}, expected .png (class ids) or .npz (every output)"
            )
        try:
            write_file(file, writers[file.suffix.lower()]())
        except BundleError as problem:
            raise SinkError(str(problem)) from problem

    def _png(self) -> bytes:
        cv2 = require("cv2", "video", "saving a mask as PNG")
        encoded, content = cv2.imencode(".png", self._mask())
        if not encoded:
            raise SinkError(f"OpenCV cannot encode a mask of {self._mask().shape} as PNG; save it as .npz")
        return bytes(content)

    def _npz(self) -> bytes:
        named = {kind: getattr(self, kind) for kind in ("mask", "confidence", "grid", "logits")}
        stream = io.BytesIO()
        np.savez_compressed(stream, **{kind: value for kind, value in named.items() if value is not None})
        return stream.getvalue()

    def _mask(self) -> Bytes:
        if self.device_mask is not None:
            raise InputError("this mask stays on the GPU; device_mask.to_host() copies it")
        if self.mask is None:
            raise InputError(f"head {self.name!r} emits no mask; export it with 'mask' among its outputs")
        return self.mask

    def _colors_at(self, size: tuple[int, int], color: ColorOrder | None) -> Bytes:
        """The mask in colours at a size, an array of its own.

        Rows that would only be repeated are coloured once and then copied, which is several times faster.
        """
        cv2 = require("cv2", "video", "drawing an overlay")
        height, width = size
        mask = self._mask()
        ids = nearest(mask, min(mask.shape[0], height), width)
        colors: Bytes = cv2.applyColorMap(ids, self._palette(color)[:, np.newaxis])
        return colors if len(colors) == height else colors.take(nearest_places(len(colors), height), axis=0)

    def _palette(self, color: ColorOrder | None) -> Bytes:
        color = color or self.color
        if color not in ("rgb", "bgr"):
            raise InputError(f"color is {color!r}, expected 'rgb' or 'bgr'")
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.classes)] = [info.color for info in self.classes]
        return palette if color == "rgb" else palette[:, ::-1]


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
                `on_sink_error`, `on_source_error`, `stall`.

        Raises:
            InputError: If an option cannot be used, or the bundle takes frames of other than 3 channels.
            SourceError: If a source cannot be opened.
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
                f"the frame is a {type(frame).__name__} on a GPU, this segmenter runs on the CPU; copy it "
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
            _head_result(head, outputs, frame_size, latency, self._color)
            for head in self.bundle.segmentation.heads
        )
        if not others:
            return first
        return dataclasses.replace(first, others={other.name: other for other in others})


def _head_result(
    head: Head,
    outputs: Mapping[str, Any],
    frame_size: tuple[int, int],
    latency: Latency,
    color: ColorOrder,
) -> Segmentation:
    result = Segmentation(
        name=head.name,
        classes=head.classes,
        frame_size=frame_size,
        latency=latency,
        color=color,
    )
    if any(isinstance(value, DeviceArray) for value in outputs.values()):
        return dataclasses.replace(result, device_mask=unbatched(outputs.get(head.outputs.get("mask", ""))))
    return dataclasses.replace(result, **{kind: outputs[name] for kind, name in head.outputs.items()})


def check_alpha(alpha: float) -> None:
    """Refuse a weight of colours outside 0..1.

    Raises:
        InputError: Saying what was expected.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}, expected 0 (the frame alone) to 1 (the colours alone)")


def _indices(outputs: Mapping[str, NDArray[Any]]) -> range:
    return range(len(next(iter(outputs.values()))))
