"""What segmentation and generation share: frames, their size and colours, ids of masks, where time went."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.device_array import DeviceArray
from pixelrt.dependency import require
from pixelrt.errors import InputError
from pixelrt.session import GpuTimes
from pixelrt.strict import type_of

WARM_UP_RUNS = 3
"""Per slot: the first sets up, the second captures a graph, the third launches it."""

UNLABELLED = 255
"""The id that most data sets give to pixels without a class, whatever their number of classes."""

T = TypeVar("T")
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
    """From the call to its result; after `submit` until the result was asked for and there."""
    gpu: GpuTimes | None = None
    """What the GPU did in that time, in a batch for the whole batch; None on the CPU."""


def unbatched(batch: DeviceArray | None) -> DeviceArray | None:
    """A batch of one as the frame in it, which alone keeps the memory."""
    if batch is None:
        return None
    with batch:
        return batch.reshaped(batch.shape[1:])


def fitted(frame: Bytes, size: tuple[int, int] | None) -> Bytes:
    """A frame uint8[H, W, C] at the size that a session wants, as the graph would resize it.

    Args:
        frame: Checked.
        size: Height and width; None where the graph resizes.

    Raises:
        MissingDependency: If it must be resized and OpenCV is not installed.
    """
    if size is None or frame.shape[:2] == size:
        return frame
    cv2 = require("cv2", "cpu", "resizing frames")
    resized: Bytes = cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(*size, -1)


def check_size(size: tuple[int, int]) -> None:
    """Refuse what is no height and width.

    Raises:
        InputError: Saying what was expected.
    """
    sides = size if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(is_whole(side) and side >= 1 for side in sides):
        raise InputError(f"size {size}: height and width, whole numbers of at least 1, were expected")


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


_FRAME_HINTS = {
    (3, ()): "; a grey frame becomes one with np.repeat(frame[..., None], 3, axis=2)",
    (3, (1,)): "; a grey frame becomes one with np.repeat(frame, 3, axis=2)",
    (3, (4,)): "; without its alpha channel it is frame[..., :3]",
    (1, ()): "; with an axis for its channel it is frame[..., None]",
    (1, (3,)): "; a frame in colour must be made grey first",
}
"""By the channels expected, and what stands behind height and width."""


def check_frame(frame: object, channels: int) -> None:
    """Refuse what is no frame on the host.

    Raises:
        InputError: Saying what came, what was expected, and how to convert it.
    """
    if frame is None:
        raise InputError("the frame is None, expected a NumPy array: did the camera or the file fail?")
    if not isinstance(frame, np.ndarray):
        raise InputError(
            f"the frame is {type_of(frame)}, expected a NumPy array uint8[H, W, {channels}]; "
            "np.asarray converts most image types"
        )
    found = f"{frame.dtype}{list(frame.shape)}"
    if frame.dtype != np.uint8:
        scale = {
            "f": "; from 0..1, convert with (frame * 255).astype(np.uint8)",
            "i": "; from 0..255, convert with frame.astype(np.uint8)",
            "u": "; from 0..255, convert with frame.astype(np.uint8)",
        }.get(frame.dtype.kind, "")
        raise InputError(f"the frame is {found}, expected uint8[H, W, {channels}]{scale}")
    if frame.ndim != 3 or frame.shape[2] != channels:
        first = frame.ndim == 3 and frame.shape[0] == channels
        hint = _FRAME_HINTS.get((channels, frame.shape[2:]), "")
        if first:
            hint = "; channels come last: frame.transpose(1, 2, 0)"
        raise InputError(f"the frame is {found}, expected uint8[H, W, {channels}]{hint}")
    if frame.size == 0:
        raise InputError(f"the frame is empty ({found}), expected at least one pixel; did the camera fail?")


def chunks(frames: Sequence[T], largest: int) -> list[Sequence[T]]:
    """Frames in parts of at most so many, in order."""
    return [frames[start : start + largest] for start in range(0, len(frames), largest)]


def frame_size(frame: Any) -> tuple[int, int]:
    """Height and width of a frame, wherever it is."""
    height, width = frame.shape[:2]
    return int(height), int(width)


def same_size(frames: list[Any]) -> list[list[Any]]:
    """Neighbours of equal shape on the host, together; frames on the GPU each on their own."""
    groups: list[list[Any]] = []
    for frame in frames:
        if groups and _stackable(groups[-1][0], frame):
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


def swapped(frame: Bytes) -> Bytes:
    """A frame with its first and third channel exchanged; by OpenCV where it is: ten times faster."""
    if frame.shape[2] == 3 and _has_opencv():
        cv2 = require("cv2", "video", "changing the colour order of frames")
        converted: Bytes = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        return converted
    swapped = np.array(frame)
    swapped[..., 0], swapped[..., 2] = frame[..., 2], frame[..., 0]
    return swapped


@functools.cache
def _has_opencv() -> bool:
    return importlib.util.find_spec("cv2") is not None


def _stackable(first: Any, frame: Any) -> bool:
    return isinstance(first, np.ndarray) and isinstance(frame, np.ndarray) and first.shape == frame.shape


def id_counts(mask: Bytes) -> NDArray[np.intp]:
    """How many pixels have each id, int[256].

    Pixels are counted two at a time, which takes half as long.
    """
    flat = np.ascontiguousarray(mask).reshape(-1)
    in_pairs = flat[: flat.size // 2 * 2].view(np.uint16)
    pairs = np.bincount(in_pairs, minlength=1 << 16).reshape(256, 256)
    counts: NDArray[np.intp] = pairs.sum(axis=0) + pairs.sum(axis=1)
    if flat.size % 2:
        counts[flat[-1]] += 1
    return counts


def foreign_ids(labels: Bytes, num_classes: int) -> list[int]:
    """Ids in labels that are neither a class nor a usual mark of "unlabelled", sorted.

    Unlabelled are 255, and the id after the last class (CamVid's 11).
    """
    ids = np.flatnonzero(np.bincount(labels.ravel(), minlength=1))
    return [int(one) for one in ids if one > num_classes and one != UNLABELLED]


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
    rows, columns = nearest_places(plane.shape[0], height), nearest_places(plane.shape[1], width)
    resized: Bytes = plane.take(columns, axis=1).take(rows, axis=0)
    return resized


def nearest_places(found: int, wanted: int) -> NDArray[np.intp]:
    """The places, of `found`, that `nearest` takes for `wanted`.

    In whole numbers: OpenCV's INTER_NEAREST_EXACT rounds, and misses by one at some sizes.
    """
    return (2 * np.arange(wanted, dtype=np.intp) + 1) * found // (2 * wanted)
