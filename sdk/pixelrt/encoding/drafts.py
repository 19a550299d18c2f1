"""Files that are hidden until they are whole, and found again when nobody finished them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pixelrt.encoding.files import explained, temporary_for
from pixelrt.errors import SinkError

_SYNC_S = 2.0
_TIME = r"\d{8}T\d{6}Z"
_EMPTY_S = 60.0
"""Where a hidden file is still empty after so long, nobody is about to write it."""
_LOOKED_AT_S, _POLL_S = 1.0, 0.001


class Draft:
    """A file that is being written, under a hidden name beside its place; it is empty at first.

    It is locked meanwhile: a hidden file without a lock is of a process that was killed (`rescue`).

    Args:
        path: Where it goes. What is there stays until `finish`.
        keep: Whether `give_up` keeps what was written.

    Attributes:
        hidden: Where it is until then.
        kept: Where `give_up` has left it.

    Raises:
        SinkError: If it cannot be made.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self.path, self._keep = path, keep
        self.hidden = temporary_for(path)
        self._place = self.hidden.with_name(Path(os.path.realpath(path)).name)
        self._was_there = self._place.exists()
        self.kept: Path | None = None
        self._synced_s = time.monotonic()
        with explained(path):
            self._file = os.open(self.hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        _lock(self._file, _LOOKED_AT_S)  # somebody may be looking whether it was left by a killed process

    @property
    def left(self) -> str:
        """What is left after `give_up`, for a message."""
        return f"what came before is in {self.kept}" if self.kept else "nothing half-written was left"

    def open(self) -> IO[bytes]:
        """It, for writing without a buffer.

        Raises:
            SinkError: If it cannot be opened; nothing is left then.
        """
        try:
            return self.hidden.open("wb", buffering=0)
        except OSError as problem:
            self.give_up(worth=False)
            raise SinkError(f"{self.path} cannot be written ({problem.strerror}); {self.left}") from problem

    def sync(self) -> None:
        """Bring what was written to the disk, where it was not within 2 s: the power may go at any time.

        Raises:
            OSError: If it cannot be done.
        """
        if self._keep and time.monotonic() - self._synced_s >= _SYNC_S:
            os.fdatasync(self._file)
            self._synced_s = time.monotonic()

    def finish(self) -> None:
        """Give it its name, when it is on the disk.

        Raises:
            OSError: If it cannot be done, or somebody else has made a file of that name meanwhile, which
                stays; `give_up` keeps this one then too.
        """
        if not self._was_there and self._place.exists():
            self._keep = True
            raise FileExistsError(errno.EEXIST, "somebody else has made that file meanwhile", str(self.path))
        os.fsync(self._file)
        self.hidden.replace(self._place)
        self._release()

    def give_up(self, *, worth: bool = True) -> None:
        """Keep what was written as `out-unfinished.mp4`, where that was asked for; else remove it.

        Args:
            worth: Whether there is something worth keeping in it.
        """
        if self._file == -1:
            return
        if self._keep and worth and os.fstat(self._file).st_size:
            self.kept = _shown(self.hidden, self.path)
        else:
            with contextlib.suppress(OSError):  # a disk that is read only holds nothing to remove
                self.hidden.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        file, self._file = self._file, -1
        os.close(file)


@contextlib.contextmanager
def drafted(path: Path) -> Iterator[Draft]:
    """A draft that is finished at the end of the block, and given up where that raises.

    Raises:
        SinkError: If it cannot be made, written or finished; nothing is left then.
    """
    draft = Draft(path)
    try:
        yield draft
        draft.finish()
    except OSError as problem:
        draft.give_up()
        raise SinkError(f"{path} cannot be written ({problem.strerror}); {draft.left}") from problem
    finally:
        draft.give_up()


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, also where the power goes (robots are switched off like that).

    Raises:
        SinkError: If it cannot be written.
    """
    with drafted(path) as draft, draft.open() as stream:
        left = memoryview(content)
        while left:
            left = left[stream.write(left) :]


def writing_progress(path: Path) -> object:
    """What differs as long as somebody writes the hidden files for a place: their sizes and times."""
    found = []
    for hidden in _hidden(path):
        with contextlib.suppress(OSError):  # it has its name now
            seen = hidden.stat()
            found.append((hidden.name, seen.st_size, seen.st_mtime_ns))
    return found


def is_being_written(path: Path) -> bool:
    """Whether there is a hidden file for a place."""
    return any(_hidden(path))


def _hidden(path: Path) -> Iterator[Path]:
    return path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.tmp")


def rescue(path: Path) -> list[Path]:
    """Give what killed processes left of a file, and of its parts (`out-2.mp4`), a name that is seen.

    A time in the name, such as `20261128T175646Z`, stands for every time: the next run has another one.

    Args:
        path: Where the file, or its first part, would have gone; behind all links.

    Returns:
        The new names, such as `out-unfinished.mp4`. Files that somebody still writes stay, and all of them in
        a folder that this user may not list.
    """
    if not os.access(path.parent, os.R_OK):
        return []
    stem = re.sub(_TIME, lambda _: _TIME, re.escape(path.stem))
    part = rf"{stem}(?:-\d+)?{re.escape(path.suffix)}"
    name = re.compile(rf"\.({part})\.[0-9a-f]{{8}}\.tmp")
    found = [match for file in sorted(path.parent.iterdir()) if (match := name.fullmatch(file.name))]
    rescued = []
    for match in found:
        hidden = path.with_name(match[0])
        with _abandoned(hidden) as size_bytes:
            if size_bytes:
                rescued.append(_shown(hidden, path.with_name(match[1])))
            elif size_bytes == 0:
                _remove_if_old(hidden)
    return [file for file in rescued if file.exists()]  # two may have found it at once


def sweep(folder: Path, suffix: str) -> None:
    """Remove what killed processes left of the files of a suffix that they wrote into a folder.

    Each holds one frame, or a part of it. Files that somebody still writes stay, and all of them in a folder
    that this user may not list.
    """
    if not folder.is_dir() or not os.access(folder, os.R_OK):
        return
    name = re.compile(rf"\..+{re.escape(suffix)}\.[0-9a-f]{{8}}\.tmp")
    for hidden in [folder / file for file in os.listdir(folder) if name.fullmatch(file)]:
        with _abandoned(hidden) as size_bytes:
            if size_bytes:
                with contextlib.suppress(OSError):  # somebody else has removed it
                    hidden.unlink()
            elif size_bytes == 0:
                _remove_if_old(hidden)


def _remove_if_old(empty: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else has removed it
        if time.time() - empty.stat().st_mtime > _EMPTY_S:
            empty.unlink()


@contextlib.contextmanager
def _abandoned(hidden: Path) -> Iterator[int | None]:
    """The size of a hidden file that nobody writes any more; None where somebody may."""
    try:
        file = os.open(hidden, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone meanwhile, or of another user
        yield None
        return
    try:
        yield os.fstat(file).st_size if _lock(file) else None
    finally:
        os.close(file)


def _lock(file: int, patience_s: float = 0.0) -> bool:
    """Whether the file could be locked, until it is closed: not on every kind of disk.

    Args:
        file: Its descriptor.
        patience_s: How long to wait for another one that has locked it.
    """
    ends_s = time.monotonic() + patience_s
    while (locked := _locked_now(file)) is None and time.monotonic() < ends_s:
        time.sleep(_POLL_S)
    return bool(locked)


def _locked_now(file: int) -> bool | None:
    """Whether it could be; None where another one has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        return False
    return True


def _shown(hidden: Path, path: Path) -> Path:
    """Rename a hidden file to `out-unfinished.mp4`, or `out-unfinished-2.mp4`; if it cannot be, it stays."""
    stem = f"{path.stem}-unfinished"
    kept, number = path.with_stem(stem), 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_stem(f"{stem}-{number}")
    try:
        hidden.rename(kept)
    except OSError:
        return hidden
    return kept
