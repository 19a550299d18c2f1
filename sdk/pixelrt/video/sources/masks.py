"""Masks of class ids as a source: PNG files, or the ground truth of another source."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pixelrt.errors import SourceError
from pixelrt.video.sources.base import DEFAULT_FPS, BaseSource, Bytes, Source
from pixelrt.video.sources.drive import EXAMPLE
from pixelrt.video.sources.opening import open_source
from pixelrt.video.sources.pictures import SUFFIXES, Pictures, read_labels

_KNOWN = f"a folder of PNG masks, one such file, or a source with ground truth such as {EXAMPLE}"


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """One mask of a source."""

    ids: Bytes
    """uint8[H, W], class ids."""
    index: int
    """Position in the source, from 0."""
    name: str
    """Unlike every other name of the source; a file name without its suffix."""


class MaskSource(BaseSource):
    """Masks, one after another, from an opened source: its ground truth, or its own pictures read as ids.

    Use `open_masks`.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.fps, self.num_frames = source.name, source.fps, source.num_frames
        self.size, self.paths, self.truth_classes = source.size, source.paths, source.truth_classes

    def __enter__(self) -> MaskSource:
        return self

    def interrupt(self) -> None:
        """End the iteration soon."""
        self.interrupted = True
        self._source.interrupt()

    def close(self) -> None:
        """Give back what the source holds."""
        self._source.close()

    def __iter__(self) -> Iterator[Mask]:
        if isinstance(self._source, Pictures) and not self._source.has_labels:
            for index, (name, file) in enumerate(self._source.files):
                if self.interrupted:
                    return
                yield Mask(read_labels(file), index, name)
            return
        for frame in self._source:
            assert frame.truth is not None
            yield Mask(frame.truth, frame.index, frame.name)


def open_masks(uri: str | os.PathLike[str], *, fps: float = DEFAULT_FPS) -> MaskSource:
    """Open masks by their URI.

    Args:
        uri: A folder of PNG files of one byte a pixel, or one of them; a folder with `images/` and `labels/`,
            or `images/` beside `labels/` (CamVid's layout): the labels are taken; `test://drive?...`.
        fps: Masks a second that a folder stands for.

    Raises:
        SourceError: If there is nothing to open, or it has no masks.
    """
    text = os.fspath(uri)
    source: Source
    with contextlib.ExitStack() as undo:
        if _is_film(text):
            raise SourceError(
                f"{text} has no ground truth, so it has no masks; expected {_KNOWN}; a segmentation bundle "
                "makes masks of a video: pixelrt run BUNDLE drive.mp4 --out masks/"
            )
        source = open_source(text, fps=fps)
        undo.callback(source.close)
        if not isinstance(source, Pictures) and source.truth_classes is None:
            raise SourceError(f"{text} has no ground truth, so it has no masks; expected {_KNOWN}")
        undo.pop_all()
    return MaskSource(source)


def _is_film(text: str) -> bool:
    """A camera or a video: found out before it is opened, which may take a while."""
    if re.fullmatch(r"(?:(?:v4l2://)?/dev/video)?\d+", text):
        return True
    path = Path(text)
    return path.is_file() and path.suffix.lower() not in SUFFIXES
