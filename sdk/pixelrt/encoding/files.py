"""Places of files, before anything is written there."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from pixelrt.bundle import file_place
from pixelrt.errors import BundleError, SinkError


def temporary_for(path: Path) -> Path:
    """A hidden name beside the place of `path`, to be renamed to it when it is whole.

    Links are followed: the file that they point to is the one that is replaced, and they stay.

    Raises:
        SinkError: If there is no folder to write into, it may not be written to, or something is in the way:
            a folder, a device, a pipe, a file that is read only.
    """
    if not path.parent.is_dir():
        raise SinkError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise SinkError(f"{path} is a folder, expected a file; give {path}/ for a folder of images")
    place = real_place(path)
    if not place.parent.is_dir():
        raise SinkError(f"{path} cannot be written: it is a link to {place}, and there is no such folder")
    check_writable(place.parent, path)
    if place.exists() and not os.access(place, os.W_OK):
        raise SinkError(f"{path} is read only for this user; choose another name, or remove it first")
    return place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")


def real_place(path: Path) -> Path:
    """Where a file of a name is written: behind all links.

    Raises:
        SinkError: If something is there that no file may take the place of.
    """
    try:
        return file_place(path)
    except BundleError as problem:
        raise SinkError(str(problem)) from problem


def check_writable(folder: Path, path: Path) -> None:
    """Refuse a folder that is read only, before any work.

    Args:
        folder: It exists.
        path: What shall be written into it, for the message.

    Raises:
        SinkError: If this user may not write to it, or nobody may.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        place = folder.absolute()
        why = f"this user may not write to {place}"
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            why = f"the file system of {place} is read-only"
        raise SinkError(f"{path} cannot be written: {why}; choose another place")


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
