"""One image, or a folder of images with or without labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.dependency import require
from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.video.frame import Bytes, Frame
from pixelrt.video.sources.base import DEFAULT_FPS, BaseSource, natural
from pixelrt.video.sources.jpeg import is_jpeg, up_to_its_end

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
FILMS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg")
"""Suffixes of what is a film, and no camera's stream."""
_NO_IMAGES = (*FILMS, ".ts", ".mcap", ".bag", ".db3")
"""Suffixes of what is a source, and no image."""
_PURPOSE = "reading images"


class Pictures(BaseSource):
    """Images as frames, naturally sorted.

    A folder `images` with a folder `labels` beside it (the CamVid layout) has ground truth; so has a folder
    that holds these two. Labels are PNGs of one byte a pixel with the names of their images.

    Args:
        path: An image or a folder.
        labels: Folder of labels, where it is elsewhere.
        fps: Frames a second that the folder stands for.
        color: Order of the channels.

    Raises:
        SourceError: If there is no image, the first cannot be read, or a label is missing.
    """

    def __init__(
        self, path: Path, *, labels: Path | None = None, fps: float = DEFAULT_FPS, color: ColorOrder = "rgb"
    ) -> None:
        self._files, found = _list(path)
        folder = labels or found
        self._labels = None if folder is None else [_label_of(file, folder) for file in self._files]
        self.name, self._color = path.resolve().name, color
        self.fps, self.num_frames = fps, len(self._files)
        folders = (path, self._files[0].parent, folder)
        read = (*(item for item in folders if item is not None), *self._files, *(self._labels or ()))
        self.paths = tuple(str(item) for item in dict.fromkeys(read))
        self.size = (0, 0)
        self.size = read_image(self._files[0]).shape[:2]

    def __enter__(self) -> Pictures:
        return self

    @property
    def has_labels(self) -> bool:
        """Whether every image has a label."""
        return self._labels is not None

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """The name of each frame, and its image."""
        stems = Counter(file.stem for file in self._files)
        return tuple((file.stem if stems[file.stem] == 1 else file.name, file) for file in self._files)

    def __iter__(self) -> Iterator[Frame]:
        for index, (name, file) in enumerate(self.files):
            if self.interrupted:
                return
            yield Frame(
                image=read_image(file, self._color),
                color=self._color,
                source=self.name,
                index=index,
                time_s=index / self.fps,
                name=name,
                truth=None if self._labels is None else read_labels(self._labels[index]),
            )


def read_image(file: Path, color: ColorOrder = "rgb") -> Bytes:
    """An image as uint8[H, W, 3], turned as its EXIF data says.

    Raises:
        SourceError: If the file is no image that OpenCV reads.
    """
    cv2 = require("cv2", "video", _PURPOSE)
    image = _decode(cv2, file, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if color == "rgb" else image, np.uint8)


def read_labels(file: Path) -> Bytes:
    """Class ids uint8[H, W] from a PNG of one byte a pixel.

    Raises:
        SourceError: If the file holds colours, or more than a byte a pixel.
    """
    cv2 = require("cv2", "video", _PURPOSE)
    labels = np.asarray(_decode(cv2, file, cv2.IMREAD_UNCHANGED))
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise SourceError(
            f"{file} holds {labels.dtype}{list(labels.shape)}, expected labels of one byte a pixel "
            "(a grey PNG whose values are class ids); convert its colours to ids"
        )
    return labels


def _decode(cv2: Any, file: Path, mode: int) -> Any:
    try:
        content = file.read_bytes()
    except OSError as problem:
        raise SourceError(f"{file} cannot be read ({problem.strerror})") from problem
    if is_jpeg(content) and up_to_its_end(content) is None:  # OpenCV would paint the rest grey
        raise SourceError(
            f"{file} is cut short: its JPEG has no end ({len(content)} bytes); copy or take it again"
        )
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), mode) if content else None
    except cv2.error as problem:
        raise SourceError(f"{file} cannot be decoded as an image ({problem.err})") from problem
    if image is None:
        raise SourceError(
            f"{file} ({len(content)} bytes) cannot be decoded as an image; "
            f"expected one of {', '.join(SUFFIXES)}"
        )
    return image


def _list(path: Path) -> tuple[list[Path], Path | None]:
    """The images of a path, and the folder with their labels where the layout says so."""
    if path.is_file():
        return [path], None
    if not _images_in(path) and (path / "images").is_dir():
        path = path / "images"
    files = sorted(_images_in(path), key=lambda file: natural(file.name))
    if not files:
        others = sorted(file.name for file in path.iterdir())
        found = (
            f"it holds {', '.join(others[:4])}{', ...' if len(others) > 4 else ''}"
            if others
            else "it is empty"
        )
        film = next((name for name in others if Path(name).suffix.lower() in _NO_IMAGES), "")
        hint = f"; a film is a source of its own, such as {path / film}" if film else ""
        raise SourceError(
            f"{path} has no images: {found}; expected files ending in {', '.join(SUFFIXES)}{hint}"
        )
    labels = path.parent / "labels"
    return files, labels if path.name == "images" and labels.is_dir() else None


def _images_in(folder: Path) -> list[Path]:
    return [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]


def _label_of(image: Path, folder: Path) -> Path:
    file = folder / f"{image.stem}.png"
    if not file.is_file():
        reason = "no such folder" if not folder.is_dir() else f"no {file.name} in it"
        raise SourceError(
            f"no label for {image} in {folder}: {reason}; labels carry the names of their images"
        )
    return file
