"""The folder of a bundle: names of its files, and how it is written: whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pixelrt.errors import BundleError

MANIFEST = "manifest.json"
MODEL = "model.onnx"


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def file_place(path: Path) -> Path:
    """Where a file of a name is written: what links with that name point to, which stay as they are.

    Raises:
        BundleError: If something is there that no file may take the place of: a folder, a device, a pipe.
    """
    place = Path(os.path.realpath(path))
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return place
    except OSError as problem:
        raise BundleError(f"{path} cannot be written ({problem.strerror})") from problem
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "no file but a device, a pipe or a socket"
        raise BundleError(f"{path} cannot be written: it is {what}; choose another name")
    return place


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under a temporary name, flushed to disk, then renamed.

    Raises:
        BundleError: If it cannot be written (a full disk, no permission, no file is there); nothing is left
            behind.
    """
    place = file_place(path)
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(place)
    except OSError as problem:
        raise BundleError(f"{path} cannot be written ({problem.strerror}); nothing was changed") from problem
    finally:
        with contextlib.suppress(OSError):  # a disk that is read only holds nothing to remove
            temporary.unlink(missing_ok=True)


def check_folder(path: Path) -> Path:
    """Refuse a place where no bundle can be written, before any work.

    Returns:
        The absolute path.

    Raises:
        BundleError: If `path` holds something that is not a bundle, or its parent is no writable folder.
    """
    place = path.resolve()
    if place.exists() and not (place / MANIFEST).is_file() and (not place.is_dir() or any(place.iterdir())):
        raise BundleError(f"{path} exists and is not a bundle; choose another folder, or remove it first")
    parent = next(folder for folder in place.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        found = "is no folder" if not parent.is_dir() else "may not be written to"
        raise BundleError(f"{path} cannot be written: {parent} {found}; choose another place")
    return place


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder whole or not at all.

    `fill` gets a temporary sibling, which then takes the place of `path`.
    Whatever was at `path` is replaced only after `fill` returned.

    Raises:
        BundleError: If the folder cannot be written, or `path` holds something that is not a bundle.
    """
    place = check_folder(path)
    token = secrets.token_hex(4)
    temporary = place.with_name(f".{place.name}.{token}.tmp")
    retired = place.with_name(f".{place.name}.{token}.old")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        _flush(temporary)
        _replace(place, temporary, retired)
    except OSError as problem:
        raise BundleError(f"{path} cannot be written ({problem.strerror}); nothing was changed") from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if place.exists():
            shutil.rmtree(retired, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring a folder's files to the disk, so that a power cut after the renaming finds them whole."""
    for file in (*folder.rglob("*"), folder):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(place: Path, fresh: Path, retired: Path) -> None:
    """Put a folder in the place of another, or leave all as it was, Ctrl-C included."""
    try:
        if place.exists():
            place.rename(retired)
        fresh.rename(place)
    except BaseException:
        if retired.exists() and not place.exists():
            retired.rename(place)
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process (advisory lock; released when the process ends, however it ends)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as problem:
        raise BundleError(f"{folder} cannot be opened ({problem.strerror}); is it there?") from problem
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as problem:
            raise BundleError(
                f"{folder} cannot be locked ({problem.strerror}); keep bundles on a disk of this machine"
            ) from problem
        yield
    finally:
        os.close(descriptor)
