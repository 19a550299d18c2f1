"""The user's images and labels from a folder: what the ranges are measured on, and what the gate judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".npy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """How the network wants its frames."""

    size: tuple[int, int]
    """Height and width that images are resized to."""
    channels: int
    color: ColorOrder = "rgb"
    """Order of the first three channels of a frame."""


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Image files, sorted by name, and the label of each where there are labels."""

    folder: Path
    images: tuple[Path, ...]
    labels: tuple[Path, ...] | None = None
    num_found: int = 0
    """Images in the folder, of which `images` are evenly spread ones."""

    def __len__(self) -> int:
        return len(self.images)

    def read(self, form: ImageFormat) -> Iterator[Picture]:
        """Read the images one by one.

        Raises:
            SourceError: If one cannot be read, has other channels, or its label does not fit; it is named.
        """
        labels: tuple[Path | None, ...] = self.labels or (None,) * len(self.images)
        for path, label in zip(self.images, labels, strict=True):
            frame = read_frame(path, form.channels, form.color)
            truth = None if label is None else _resized_label(read_label(label), frame.shape[:2], form, label)
            yield Picture(path=path, frame=resized(frame, form.size), label=truth)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """An image at the network's size."""

    path: Path
    frame: NDArray[np.uint8]
    """uint8[H, W, C], resized once with OpenCV's INTER_LINEAR."""
    label: NDArray[np.uint8] | None
    """uint8[H, W] class ids at the same size (nearest neighbour), 255 where nothing is labelled."""

    def __repr__(self) -> str:
        return f"Picture({self.path.name}, {list(self.frame.shape)}, labelled={self.label is not None})"


def find_images(folder: Path, *, labels: Path | None = None, max_images: int = 64) -> ImageSet:
    """Find the images of a folder, and of each the label PNG of the same name.

    A folder that holds the folders `images` and `labels` stands for these two. Subfolders are not searched.

    Args:
        folder: Where the images are: jpg, png, bmp, webp, tif, or npy (uint8[H, W, C]).
        labels: Where the labels are; `None` for none.
        max_images: If there are more, this number of them is taken, evenly spread over the sorted names.

    Raises:
        SourceError: If a folder is missing or holds no image, or an image has no label.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise SourceError(f"the folder of images {folder} {found}; name a folder that holds images")
    if not _images_in(folder) and (folder / "images").is_dir():
        labels = labels_beside(folder / "images") if labels is None else labels
        folder = folder / "images"
    found_images = _images_in(folder)
    if not found_images:
        raise SourceError(
            f"{folder} holds no image, at least one was expected ({', '.join(sorted(IMAGE_SUFFIXES))}; "
            "subfolders are not searched)"
        )
    count = min(max_images, len(found_images))
    chosen = tuple(found_images[index * len(found_images) // count] for index in range(count))
    return ImageSet(folder, chosen, _labels_of(chosen, labels), len(found_images))


def labels_beside(images: Path) -> Path | None:
    """The folder `labels` beside a folder of images (or inside it, beside its own `images`), if it exists."""
    if (images / "images").is_dir() and (images / "labels").is_dir():
        return images / "labels"
    beside = images.parent / "labels"
    return beside if beside.is_dir() and beside != images else None


def read_frame(path: Path, channels: int, color: ColorOrder = "rgb") -> NDArray[np.uint8]:
    """Read an image at its own size.

    One channel is read as grey and three as colour, whatever the file has. Four need a PNG, WebP or TIFF with
    alpha (the fourth channel, depth or infrared say), or an `.npy`; any other number needs an `.npy`, whose
    channels are taken as they are.

    Raises:
        SourceError: If the file cannot be read, was cut short, or has other channels.
    """
    if path.suffix.lower() == ".npy":
        return _array(path, channels)
    flags = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR, 4: cv2.IMREAD_UNCHANGED}
    if channels not in flags:
        raise SourceError(
            f"{path}: the network takes {channels} channels; save them as .npy, uint8[H, W, {channels}]"
        )
    image = _decoded(path, flags[channels])
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.shape[2] != channels:
        raise SourceError(
            f"{path} is {image.dtype}[{', '.join(map(str, image.shape))}], the network takes uint8 with "
            f"{channels} channels; save them as a PNG with alpha, or as .npy"
        )
    if color == "rgb" and channels >= 3:
        order = [2, 1, 0, *range(3, channels)]
        image = image[:, :, order]
    return np.ascontiguousarray(image)


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read a label image, uint8[H, W] of class ids.

    Raises:
        SourceError: If it cannot be read, or holds colours instead of ids.
    """
    label = _decoded(path, cv2.IMREAD_UNCHANGED)
    if label.ndim != 2:
        raise SourceError(
            f"the label {path} holds colours ({label.shape[2]} channels, or a palette), class ids in one "
            "channel were expected; save the ids as an 8-bit grey PNG"
        )
    if label.max(initial=0) > 255:
        raise SourceError(f"the label {path} holds ids up to {label.max()}, at most 255 was expected")
    return label.astype(np.uint8)


def resized(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame at another height and width, with OpenCV's INTER_LINEAR."""
    if frame.shape[:2] == size:
        return frame
    result = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(result.reshape(*size, frame.shape[2]), dtype=np.uint8)


def _resized_label(
    label: NDArray[np.uint8], frame_size: tuple[int, ...], form: ImageFormat, path: Path
) -> NDArray[np.uint8]:
    if label.shape != frame_size:
        raise SourceError(
            f"the label {path} is {label.shape[0]}x{label.shape[1]}, its image is "
            f"{frame_size[0]}x{frame_size[1]}; the same height and width were expected"
        )
    nearest = cv2.resize(label, form.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.ascontiguousarray(nearest, dtype=np.uint8)


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def _labels_of(images: tuple[Path, ...], folder: Path | None) -> tuple[Path, ...] | None:
    if folder is None:
        return None
    if not folder.is_dir():
        raise SourceError(f"the folder of labels {folder} does not exist; name the folder that holds them")
    labels = tuple(folder / f"{image.stem}.png" for image in images)
    missing = [label.name for label in labels if not label.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SourceError(
            f"{folder} lacks {', '.join(missing[:3])}{more}; a label of the same name was expected for every "
            "image"
        )
    return labels


def _array(path: Path, channels: int) -> NDArray[np.uint8]:
    try:
        image = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise SourceError(f"{path} is no readable .npy file ({problem}); save it again") from problem
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels or not image.size:
        raise SourceError(f"{path} is {image.dtype}{list(image.shape)}, uint8[H, W, {channels}] was expected")
    return np.ascontiguousarray(image)


def _decoded(path: Path, flags: int) -> NDArray[np.generic]:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise SourceError(f"{path} cannot be read: {problem.strerror}") from problem
    if _cut_short(content):
        raise SourceError(f"{path} was cut short: its end is missing; copy it again, or take it away")
    try:
        image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags) if content else None
    except cv2.error as problem:
        raise SourceError(f"{path} is no readable image ({problem.err}); take it away") from problem
    if image is None:
        raise SourceError(f"{path} is no readable image; copy it again, or take it away")
    return np.asarray(image)


def _cut_short(content: bytes) -> bool:
    """Whether an image's end is missing: OpenCV fills the rest with grey and says nothing."""
    for start, is_cut in _ENDS.items():
        if content.startswith(start):
            return is_cut(content)
    return False


_ENDS: dict[bytes, Callable[[bytes], bool]] = {
    b"\xff\xd8": lambda content: content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"),
    b"\x89PNG": lambda content: b"IEND" not in content,
    b"RIFF": lambda content: len(content) < 8 + int.from_bytes(content[4:8], "little"),
    b"BM": lambda content: len(content) < int.from_bytes(content[2:6], "little"),
}
