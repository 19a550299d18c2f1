"""The user's images and labels from a folder: what the ranges are measured on, and what the gate judges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".npy"})


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Image files, sorted by name, and the label of each where there are labels."""

    folder: Path
    images: tuple[Path, ...]
    labels: tuple[Path, ...] | None = None


def find_images(folder: Path, *, labels: Path | None = None, max_images: int = 64) -> ImageSet:
    """Find the images of a folder, and of each the label PNG of the same name.

    A folder without images that holds a folder `images` stands for that one. Subfolders are not searched.

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
        folder = folder / "images"
    found_images = _images_in(folder)
    if not found_images:
        raise SourceError(
            f"{folder} holds no image, at least one was expected ({', '.join(sorted(IMAGE_SUFFIXES))}; "
            "subfolders are not searched)"
        )
    chosen = tuple(found_images[index] for index in evenly_spread(len(found_images), max_images))
    return ImageSet(folder, chosen, _labels_of(chosen, labels))


def evenly_spread(count: int, limit: int) -> list[int]:
    """Indices of at most `limit` of `count` things, evenly spread."""
    number = min(count, limit)
    return [index * count // number for index in range(number)]


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
    """Whether the end of a JPEG is missing."""
    # OpenCV 4.10 fills the rest with grey and says nothing; it refuses other formats, and 5.0 refuses all.
    return content.startswith(b"\xff\xd8") and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")
