"""Where results may go."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pixelrt.bundle import Bundle
from pixelrt.errors import SinkError


def check_outside(bundle: Bundle, places: Iterable[str | os.PathLike[str]]) -> None:
    """Keep results out of a bundle.

    Args:
        bundle: What is run.
        places: Every file and folder that will be written; `null:` is none.

    Raises:
        SinkError: If one is the bundle's folder, or in it.
    """
    folder = bundle.path.resolve()
    for text in (os.fspath(place) for place in places):
        if text != "null:" and Path(text).resolve().is_relative_to(folder):
            raise SinkError(f"{text} is in the bundle {bundle.path}; write somewhere else")
