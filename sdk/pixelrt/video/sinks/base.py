"""What every sink does with results."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import write_file
from pixelrt.dependency import require
from pixelrt.errors import BundleError, SinkError
from pixelrt.segmentation import Segmentation
from pixelrt.video.sources import Frame

Bytes = NDArray[np.uint8]


class Sink(Protocol):
    """Takes results, one after another.

    Ends in `close`, which finishes what was written, or in `abort`, which leaves nothing half-written. As a
    context manager it is closed, or aborted where an error left the block.
    """

    @property
    def wants_overlay(self) -> bool:
        """Whether `write` needs the overlay; it costs time to draw."""

    def write(self, frame: Frame, result: Segmentation, overlay: Bytes | None) -> None:
        """Take one frame.

        Args:
            frame: What was segmented.
            result: What came out.
            overlay: The frame with the classes drawn over it, uint8[H, W, 3] RGB; given where it is wanted.

        Raises:
            SinkError: If it cannot be written.
        """

    def close(self) -> tuple[Path, ...]:
        """Finish. Safe to call twice.

        Returns:
            The files and folders that now exist.

        Raises:
            SinkError: If it cannot be finished; nothing half-written is left.
        """

    def abort(self) -> None:
        """Give up, and remove what is half-written. Safe after `close`, which it does not undo."""

    def __enter__(self) -> Sink: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...


class BaseSink:
    """The part that all sinks share."""

    wants_overlay = False

    def close(self) -> tuple[Path, ...]:
        """Finish."""
        return ()

    def abort(self) -> None:
        """Give up."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def temporary_for(path: Path) -> Path:
    """A hidden name beside `path`, to be renamed to it when it is whole.

    Raises:
        SinkError: If there is no folder to write into, or a folder is in the way.
    """
    if not path.parent.is_dir():
        raise SinkError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise SinkError(f"{path} is a folder, expected a file; give {path}/ for a folder of masks")
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def explained(
    path: Path, doing: str = "written", kinds: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[None]:
    """Turn an error of the system (no permission, a full disk) into one that names the file."""
    try:
        yield
    except kinds as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise SinkError(f"{path} cannot be {doing} ({reason}); nothing half-written was left") from problem


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, also where the power goes (robots are switched off like that).

    Raises:
        SinkError: If it cannot be written.
    """
    temporary_for(path)
    try:
        write_file(path, content)
    except BundleError as problem:
        raise SinkError(str(problem)) from problem


def encode_image(path: Path, image: Bytes) -> bytes:
    """An image as the suffix of `path` says: uint8[H, W] grey or uint8[H, W, 3] RGB.

    Raises:
        SinkError: If OpenCV cannot.
    """
    cv2 = require("cv2", "video", "writing images")
    shown = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    encoded, content = cv2.imencode(path.suffix.lower(), shown)
    if not encoded:
        raise SinkError(f"OpenCV cannot encode {image.shape} as {path.suffix}; write .png")
    return content.tobytes() if isinstance(content, np.ndarray) else bytes(content)
