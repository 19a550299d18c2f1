"""Where results may go."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pixelrt.bundle import MANIFEST, Bundle
from pixelrt.errors import SinkError
from pixelrt.manifest import SIZES


def check_outside(bundle: Bundle, places: Iterable[str | os.PathLike[str]]) -> None:
    """Keep results out of a bundle.

    Args:
        bundle: What is run.
        places: Every file and folder that will be written; `null:` is none.

    Raises:
        SinkError: If one is the bundle's folder, or in it; or in that of the bundle whose smaller size it is.
    """
    folder = whole_folder(bundle)
    for text in (os.fspath(place) for place in places):
        if text != "null:" and Path(os.path.realpath(text)).is_relative_to(folder):
            raise SinkError(f"{text} is in the bundle {folder}; write somewhere else")


def whole_folder(bundle: Bundle) -> Path:
    """The folder of a bundle; of one that is the smaller size of another, the other's."""
    folder = bundle.path.resolve()
    outside = folder.parent.parent
    return outside if folder.parent.name == SIZES and (outside / MANIFEST).is_file() else folder
