"""Files, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from pixelrt.bundle import write_file
from pixelrt.errors import BundleError, SinkError


def temporary_for(path: Path) -> Path:
    """A hidden name beside `path`, to be renamed to it when it is whole.

    Raises:
        SinkError: If there is no folder to write into, it may not be written to, or a folder is in the way.
    """
    if not path.parent.is_dir():
        raise SinkError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    check_writable(path.parent, path)
    if path.is_dir():
        raise SinkError(f"{path} is a folder, expected a file; give {path}/ for a folder of images")
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def check_writable(folder: Path, path: Path) -> None:
    """Refuse a folder that is read only, before any work.

    Args:
        folder: It exists.
        path: What shall be written into it, for the message.

    Raises:
        SinkError: If this user may not write to it.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(
            f"{path} cannot be written: this user may not write to {folder.absolute()}; choose another place"
        )


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


def give_name(temporary: Path, path: Path) -> None:
    """Rename a finished file, when it is on the disk: the power may go at any time.

    Raises:
        OSError: If it cannot be done.
    """
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)


def keep_unfinished(temporary: Path, path: Path) -> Path:
    """Keep what there is of a file that was not finished, under a name that says so: `out-unfinished.mp4`.

    Raises:
        OSError: If it cannot be renamed.
    """
    kept = path.with_name(f"{path.stem}-unfinished{path.suffix}")
    temporary.replace(kept)
    return kept


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
