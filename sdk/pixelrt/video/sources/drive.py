"""The procedural drive as a source: `test://drive?frames=300&size=720x1280&seed=7`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from pixelrt.errors import MisspeltSource, SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.strict import suggestion
from pixelrt.video.drive import CLASSES, Drive, DriveOptions
from pixelrt.video.frame import Frame
from pixelrt.video.sources.base import BaseSource, SourceOptions, check_fps, parse_size
from pixelrt.video.sources.hiding import HIDDEN, without_secrets

EXAMPLE = "test://drive?frames=300&size=720x1280&seed=7"


class DriveSource(BaseSource):
    """Frames of `pixelrt.video.drive` with their ground truth.

    Raises:
        SourceError: If the query has an unknown key or a value that cannot be used.
    """

    def __init__(self, query: str, color: ColorOrder = "rgb") -> None:
        options = parse(query)
        self._drive = Drive(options)
        self.name, self._color = "drive", color
        self.size, self.fps, self.num_frames = options.size, options.fps, options.frames
        self.truth_classes = CLASSES

    def __enter__(self) -> DriveSource:
        return self

    def __iter__(self) -> Iterator[Frame]:
        for index, (image, labels) in enumerate(self._drive):
            if self.interrupted:
                return
            yield Frame(
                image=image if self._color == "rgb" else np.ascontiguousarray(image[..., ::-1]),
                color=self._color,
                source=self.name,
                index=index,
                time_s=index / self.fps,
                name=f"{self.name}-{index:06d}",
                truth=labels,
            )


def open_test(text: str, options: SourceOptions) -> DriveSource:
    """Open `test://drive?...`.

    Raises:
        SourceError: If it is another test source, or an option cannot be used.
    """
    kind, _, query = text.partition("://")[2].partition("?")
    if kind != "drive":
        shown = without_secrets(text)
        kind = HIDDEN if HIDDEN in shown else kind
        raise MisspeltSource(f"{shown}: no test source {kind!r}{suggestion(kind, ['drive'])}; try {EXAMPLE}")
    return DriveSource(query, options.color)


def parse(query: str) -> DriveOptions:
    """The options in a query such as `frames=300&size=720x1280&seed=7`.

    Raises:
        MisspeltSource: If the query has an unknown or repeated key, or a value that cannot be used.
    """
    values: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as problem:
        raise MisspeltSource(f"{query!r} is not a list of key=value ({problem}); try {EXAMPLE}") from problem
    for key, text in pairs:
        if key not in _READERS:
            hint = suggestion(key, list(_READERS))
            raise MisspeltSource(f"test://drive has no option {key!r}{hint}; known: {', '.join(_READERS)}")
        if key in values:
            raise MisspeltSource(f"test://drive got {key} twice; give it once")
        values[key] = _READERS[key](key, text)
    try:
        return DriveOptions(**values)
    except SourceError as problem:
        raise MisspeltSource(str(problem)) from None


def _whole(key: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise MisspeltSource(
            f"test://drive got {key}={text}, expected a whole number; try {EXAMPLE}"
        ) from None


def _rate(key: str, text: str) -> float:
    try:
        fps = float(text)
    except ValueError:
        raise MisspeltSource(f"test://drive got {key}={text}, expected a number such as 25") from None
    try:
        check_fps(fps)
    except SourceError as problem:
        raise MisspeltSource(str(problem)) from None
    return fps


def _size(key: str, text: str) -> tuple[int, int]:
    try:
        return parse_size(text)
    except ValueError as problem:
        raise MisspeltSource(f"test://drive got {key}={text}: {problem}") from None


_READERS: dict[str, Callable[[str, str], Any]] = {
    "frames": _whole,
    "size": _size,
    "seed": _whole,
    "fps": _rate,
}
