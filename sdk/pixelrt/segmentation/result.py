"""What comes out: `Segmentation`, the masks of one frame."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.bundle import write_file
from pixelrt.cuda.device_array import DeviceArray
from pixelrt.dependency import require
from pixelrt.errors import BundleError, InputError, SinkError
from pixelrt.frames import (
    Bytes,
    Floats,
    Latency,
    check_frame,
    check_size,
    id_counts,
    nearest,
    nearest_places,
    unbatched,
)
from pixelrt.manifest import ClassInfo, ColorOrder, Head


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


def head_result(
    head: Head,
    outputs: Mapping[str, Any],
    frame_size: tuple[int, int],
    latency: Latency,
    color: ColorOrder,
) -> Segmentation:
    """The result of a head.

    Args:
        head: Which one.
        outputs: Of the session, by name; each of this frame alone, or all on the GPU with a batch of one.
        frame_size: Height and width of the frame.
        latency: Where the time went.
        color: Colour order of the frame.
    """
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
