"""Frames in, masks out: `Segmenter` and its result."""

from __future__ import annotations

import dataclasses
import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle, write_file
from pixelrt.dependency import require
from pixelrt.errors import BundleError, InputError, SinkError
from pixelrt.manifest import ClassInfo, ColorOrder, Emit, Head
from pixelrt.session import Precision, Session, SessionOptions, open_session

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time of one call went. In a batch, each frame's share of it."""

    prepare_ms: float
    """Checking and resizing the frame, and changing its colour order."""
    network_ms: float
    """The session: network, mask, confidence and grid."""
    total_ms: float
    """From the call to its result."""


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
    color: ColorOrder = "rgb"
    """Colour order of the frame, and so of `overlay` and `colorize`."""
    others: Mapping[str, Segmentation] = field(default_factory=dict)
    """The other heads of the same frame."""

    def __repr__(self) -> str:
        present = [
            kind for kind in ("mask", "confidence", "grid", "logits") if getattr(self, kind) is not None
        ]
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
        _check_size(size)
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
        _check_size(size)
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
        _check_frame(frame, 3)
        cv2 = require("cv2", "video", "drawing an overlay")
        height, width, _ = frame.shape
        colors = cv2.applyColorMap(self.mask_at((height, width)), self._palette(color)[:, np.newaxis])
        blended: Bytes = cv2.addWeighted(frame, 1 - alpha, colors, alpha, 0)
        return blended

    def coverage(self) -> dict[str, float]:
        """Share of the mask's pixels per class name, 0..1, in the order of the classes.

        Raises:
            InputError: If the bundle emits no mask.
        """
        mask = self._mask()
        counts = np.bincount(mask.ravel(), minlength=len(self.classes))
        return {info.name: int(count) / mask.size for info, count in zip(self.classes, counts, strict=False)}

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
        if self.mask is None:
            raise InputError(f"head {self.name!r} emits no mask; export it with 'mask' among its outputs")
        return self.mask

    def _palette(self, color: ColorOrder | None) -> Bytes:
        color = color or self.color
        if color not in ("rgb", "bgr"):
            raise InputError(f"color is {color!r}, expected 'rgb' or 'bgr'")
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.classes)] = [info.color for info in self.classes]
        return palette if color == "rgb" else palette[:, ::-1]


class Segmenter:
    """Runs a segmentation bundle on frames.

    Holds a session, so it belongs to one thread at a time; it is a context manager. Results own their arrays.
    On a CPU frames may have any size; an engine takes the sizes of the manifest's axes.

    Attributes:
        bundle: What it runs.
        session: What runs it, and on what (`session.info`).
    """

    def __init__(self, bundle: Bundle, session: Session, color: ColorOrder | None = None) -> None:
        """Use `pixelrt.load`, which chooses the session.

        Args:
            bundle: A segmentation bundle.
            session: An open session of it, which the segmenter then owns.
            color: Colour order of the frames that will come, where they have three channels or more; None for
                the bundle's own.

        Raises:
            InputError: If the colour order is unknown.
        """
        if color not in (None, "rgb", "bgr"):
            raise InputError(f"color is {color!r}, expected 'rgb', 'bgr', or None for the bundle's own")
        self.bundle = bundle
        self.session = session
        form = bundle.manifest.preprocess
        self._color: ColorOrder = color or form.color
        self._swap_color = form.channels >= 3 and color not in (None, form.color)

    def __repr__(self) -> str:
        return f"Segmenter({self.bundle.manifest.name!r}, {self.session!r})"

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the first head."""
        return self.bundle.manifest.heads[0].classes

    def close(self) -> None:
        """Free the session."""
        self.session.close()

    @overload
    def __call__(self, frame: Bytes) -> Segmentation: ...
    @overload
    def __call__(self, frame: Sequence[Bytes]) -> list[Segmentation]: ...
    def __call__(self, frame: Bytes | Sequence[Bytes]) -> Segmentation | list[Segmentation]:
        """Segment a frame, or several.

        Args:
            frame: uint8[H, W, C] of any size, in the bundle's colour order (or the one given to `load`), with
                any strides. A list of frames, or uint8[N, H, W, C], gives a list of results, as `batch` does.

        Raises:
            InputError: If the frame has another dtype, rank or number of channels, or is empty.
            DeviceError: If the backend fails.
        """
        if isinstance(frame, (list, tuple)) or (isinstance(frame, np.ndarray) and frame.ndim == 4):
            return self.batch(frame)
        _check_frame(frame, self.bundle.manifest.preprocess.channels)
        return self._run([np.asarray(frame)])[0]

    def batch(self, frames: Sequence[Bytes] | Bytes) -> list[Segmentation]:
        """Segment several frames, each uint8[H, W, C]; their sizes may differ.

        Raises:
            InputError: If a frame cannot be used; nothing was run.
            DeviceError: If the backend fails.
        """
        frames = list(frames)
        for frame in frames:
            _check_frame(frame, self.bundle.manifest.preprocess.channels)
        largest = self.bundle.manifest.axes["batch"].max
        chunks = [frames[start : start + largest] for start in range(0, len(frames), largest)]
        return [result for chunk in chunks for result in self._run(chunk)]

    def _run(self, frames: list[Bytes]) -> list[Segmentation]:
        began = time.perf_counter()
        prepared = [self._prepare(frame) for frame in frames]
        ready = time.perf_counter()
        outputs = [self._network(group) for group in _same_size(prepared)]
        done = time.perf_counter()
        scale = 1e3 / len(frames)
        latency = Latency((ready - began) * scale, (done - ready) * scale, (done - began) * scale)
        rows = [
            {name: value[i] for name, value in group.items()} for group in outputs for i in _indices(group)
        ]
        return [self._result(row, frame.shape[:2], latency) for row, frame in zip(rows, frames, strict=True)]

    def _prepare(self, frame: Bytes) -> Bytes:
        size = self.session.frame_size
        if size is not None and frame.shape[:2] != size:
            cv2 = require("cv2", "cpu", "resizing frames")
            frame = cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
            frame = frame.reshape(*size, -1)
        if self._swap_color:
            frame = frame[..., [2, 1, 0, *range(3, frame.shape[2])]]
        return frame

    def _network(self, frames: list[Bytes]) -> dict[str, NDArray[Any]]:
        (spec,) = self.session.inputs
        stacked = frames[0][np.newaxis] if len(frames) == 1 else np.stack(frames)
        return self.session.run({spec.name: stacked})

    def _result(
        self, outputs: Mapping[str, NDArray[Any]], frame_size: tuple[int, int], latency: Latency
    ) -> Segmentation:
        first, *others = (
            _head_result(head, outputs, frame_size, latency, self._color)
            for head in self.bundle.manifest.heads
        )
        if not others:
            return first
        return dataclasses.replace(first, others={other.name: other for other in others})


def load(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    backend: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    color: ColorOrder | None = None,
) -> Segmenter:
    """Open a bundle on this machine, ready to segment frames.

    Args:
        bundle: The folder that `pixelrt export` wrote, or an opened bundle.
        device: `cuda` or `cpu` forbid to use the other; `auto` takes the best.
        backend: `openvino`, `onnxruntime`, ...; None for the best.
        precision: `float32`, `bfloat16` or `float16`; None for the fastest whose gate passed at the export.
        threads: CPU threads; None for one per core.
        color: Colour order of the frames to come, `rgb` or `bgr` (OpenCV's); None for the bundle's own.

    Raises:
        BundleError: If there is no bundle there, or it is damaged.
        DeviceError: If nothing here may run it; the message gives the reasons.
        InputError: If an option is unknown.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if opened.manifest.task != "segmentation":
        raise InputError(
            f"{opened.path} is a bundle for {opened.manifest.task}, expected segmentation: "
            "this version of PixelRT runs no other task"
        )
    options = SessionOptions(device=device, backend=backend, precision=precision, threads=threads)
    return Segmenter(opened, open_session(opened, options), color)


def _head_result(
    head: Head,
    outputs: Mapping[str, NDArray[Any]],
    frame_size: tuple[int, int],
    latency: Latency,
    color: ColorOrder,
) -> Segmentation:
    def output(kind: Emit) -> Any:
        return outputs[head.outputs[kind]] if kind in head.outputs else None

    return Segmentation(
        name=head.name,
        classes=head.classes,
        frame_size=(int(frame_size[0]), int(frame_size[1])),
        latency=latency,
        color=color,
        mask=output("mask"),
        confidence=output("confidence"),
        grid=output("grid"),
        logits=output("logits"),
    )


def check_alpha(alpha: float) -> None:
    """Refuse a weight of colours outside 0..1.

    Raises:
        InputError: Saying what was expected.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}, expected 0 (the frame alone) to 1 (the colours alone)")


def _check_size(size: tuple[int, int]) -> None:
    if not all(isinstance(side, (int, np.integer)) and side >= 1 for side in size) or len(size) != 2:
        raise InputError(f"size {size}: height and width, whole numbers of at least 1, were expected")


def _check_frame(frame: object, channels: int) -> None:
    if not isinstance(frame, np.ndarray):
        raise InputError(
            f"the frame is a {type(frame).__name__}, expected a NumPy array uint8[H, W, {channels}]; "
            "np.asarray converts most image types"
        )
    found = f"{frame.dtype}{list(frame.shape)}"
    if frame.dtype != np.uint8:
        scale = "; from 0..1, convert with (frame * 255).astype(np.uint8)" if frame.dtype.kind == "f" else ""
        raise InputError(f"the frame is {found}, expected uint8[H, W, {channels}]{scale}")
    if frame.ndim != 3 or frame.shape[2] != channels:
        first = frame.ndim == 3 and frame.shape[0] == channels
        hint = "; channels come last: frame.transpose(1, 2, 0)" if first else ""
        raise InputError(f"the frame is {found}, expected uint8[H, W, {channels}]{hint}")
    if frame.size == 0:
        raise InputError(f"the frame is empty ({found}), expected at least one pixel; did the camera fail?")


def _same_size(frames: list[Bytes]) -> list[list[Bytes]]:
    """Neighbours of equal shape, together."""
    groups: list[list[Bytes]] = []
    for frame in frames:
        if groups and groups[-1][0].shape == frame.shape:
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


def _indices(outputs: Mapping[str, NDArray[Any]]) -> range:
    return range(len(next(iter(outputs.values()))))


@overload
def nearest(plane: Bytes, height: int, width: int) -> Bytes: ...
@overload
def nearest(plane: None, height: int, width: int) -> None: ...
@overload
def nearest(plane: Bytes | None, height: int, width: int) -> Bytes | None: ...
def nearest(plane: Bytes | None, height: int, width: int) -> Bytes | None:
    """A mask at another size, by nearest neighbour with half-pixel centres, as the network counts pixels."""
    if plane is None or plane.shape == (height, width):
        return plane
    rows = ((np.arange(height) + 0.5) * (plane.shape[0] / height)).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * (plane.shape[1] / width)).astype(np.intp)
    resized: Bytes = plane.take(columns, axis=1).take(rows, axis=0)
    return resized
