"""From anything that a program has to a source."""

from __future__ import annotations

import os
from typing import Any, cast

from pixelrt.manifest import ColorOrder
from pixelrt.video.sources.base import DEFAULT_FPS, Source
from pixelrt.video.sources.iterator import IteratorSource
from pixelrt.video.sources.opening import open_source

_PROTOCOL = ("name", "size", "fps", "live", "losses", "interrupt", "close", "__iter__")


def as_source(
    what: object,
    *,
    fps: float = DEFAULT_FPS,
    color: ColorOrder = "rgb",
    live: bool = False,
    wait: bool = False,
    name: str = "frames",
) -> Source:
    """Make a source of anything.

    Args:
        what: A URI or path (`open_source`); the number of a camera; a source, returned as it is, whatever the
            other arguments say; or an iterable, generator or function (`IteratorSource`).
        fps: Frames a second, of sources that do not say.
        color: Order of the channels: the wanted one of what is decoded, the given one of arrays.
        live: Of iterables: whether items come at their own time.
        wait: Of cameras: whether one that is not there yet is waited for.
        name: Of iterables.

    Raises:
        SourceError: If it is none of these, or cannot be opened.
    """
    if isinstance(what, int) and not isinstance(what, bool) and what >= 0:
        return open_source(str(what), fps=fps, color=color, wait=wait)
    if isinstance(what, (str, os.PathLike)):
        return open_source(what, fps=fps, color=color, wait=wait)
    if is_source(what):
        return cast("Source", what)
    return IteratorSource(cast("Any", what), name=name, fps=fps, color=color, live=live)


def is_source(what: object) -> bool:
    """Whether it has what `Source` asks for."""
    return all(hasattr(what, attribute) for attribute in _PROTOCOL)
