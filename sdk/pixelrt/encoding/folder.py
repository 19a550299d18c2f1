"""Folders with a file per image."""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from pixelrt.encoding.drafts import sweep, write_whole
from pixelrt.encoding.files import check_writable, explained
from pixelrt.encoding.images import Bytes, encode_png
from pixelrt.errors import SinkError

_BIT_DIGITS = 4
_FEW_STEMS = 64
_NAMES_A_STEM = 1000
"""Where stems have fewer names than that, a set takes less."""
_PNG_HEAD_BYTES = 33
"""Signature and first chunk."""
_SAID = b"tEXt" + b"Software\0PixelRT"
_MARK = struct.pack(">I", len(_SAID) - 4) + _SAID + struct.pack(">I", zlib.crc32(_SAID))
"""A chunk that says who wrote a PNG."""
FRAME_SIZE = "frame_size"
"""The array by which an `.npz` of a frame is known to be PixelRT's."""


class _Names:
    """A set of names, in a fifth of a byte for each of those that count, such as `front-000123`.

    Its last four digits are a bit of a number; a camera's day of 2.6 million frames takes half a megabyte.
    Names that do not count at their end, or count in nanoseconds, are in an ordinary set.
    """

    def __init__(self) -> None:
        self._bits: dict[tuple[str, int], int] = {}
        self._others: set[str] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        stem, bit = _split(name)
        return bool(self._bits.get(stem, 0) & bit) or name in self._others

    def add(self, name: str) -> None:
        """Put in a name that is not there."""
        stem, bit = _split(name)
        if stem in self._bits or len(self._bits) < _FEW_STEMS + self._count // _NAMES_A_STEM:
            self._bits[stem] = self._bits.get(stem, 0) | bit
        else:
            self._others.add(name)
        self._count += 1


def _split(name: str) -> tuple[tuple[str, int], int]:
    """What a name begins with and the number of digits behind that, and the bit of these."""
    match = re.search(rf"[0-9]{{0,{_BIT_DIGITS}}}\Z", name)
    digits = match[0] if match else ""
    stem = name[: len(name) - len(digits)]
    return (stem, len(digits)), 1 << int(digits or 0)


class ImageFolder:
    """A file per image. Each is whole as soon as it has its name; files of other names stay.

    A file of an earlier run is replaced where one has its name; one that somebody else wrote or changed, such
    as a photograph, is not: PNGs are told by a mark, `.npz` by their array `frame_size`. What processes that
    were killed left half-written in the folder is removed.

    Args:
        path: The folder; it is made by `make`, or with the first image.
        suffix: Of the files.

    Attributes:
        earlier: How many files of the suffix were there at the beginning.

    Raises:
        SinkError: If a file is in the way, or there is no folder to make it in, or one that is read only.
    """

    def __init__(self, path: Path, suffix: str = ".png") -> None:
        self.path, self._suffix = path, suffix
        self._new = not path.exists()
        self._names = _Names()
        self._written = 0
        if not self._new and not path.is_dir():
            raise SinkError(f"{path} is a file, expected a folder; choose another name")
        if not path.parent.is_dir():
            raise SinkError(f"{path}/ cannot be made: there is no folder {path.parent}; make it first")
        check_writable(path.parent if self._new else path, path)
        sweep(path, suffix)
        self.earlier = _count(path, suffix)

    def __len__(self) -> int:
        return len(self._names)

    def make(self) -> None:
        """Make the folder, where it is not there.

        Raises:
            SinkError: If it cannot be made.
        """
        with explained(self.path, "made"):
            self.path.mkdir(exist_ok=True)

    def write(self, name: str, image: Bytes) -> None:
        """Write an image as PNG.

        Args:
            name: Of the file, without its suffix.
            image: uint8[H, W] or [H, W, 1] grey, or [H, W, 3] RGB.

        Raises:
            SinkError: If it cannot be written, another image had the same name, or one of that name is there
                that somebody else wrote.
        """
        content = encode_png(image)
        self.save(name, content[:_PNG_HEAD_BYTES] + _MARK + content[_PNG_HEAD_BYTES:])

    def save(self, name: str, content: bytes) -> None:
        """Write a file.

        Args:
            name: Of the file, without its suffix.
            content: All of it.

        Raises:
            SinkError: If it cannot be written, another one had the same name, or one of that name is there
                that somebody else wrote; where it cannot be written the message says how many were before
                it, which stay.
        """
        file = self.file(name)
        _check_replaced(file)
        try:
            write_whole(file, content)
        except SinkError as problem:
            if not self._written:
                raise
            before = "the file before it is" if self._written == 1 else f"the {self._written} before it are"
            raise SinkError(f"{problem}; {before} whole, and kept in {self.path}/") from problem
        self._written += 1

    def file(self, name: str) -> Path:
        """Where to write something of a name that is new, in the folder, which is there then.

        Raises:
            SinkError: If it is no name of a file in the folder, there was something of that name already, or
                the folder cannot be made.
        """
        if {"/", "\0", os.sep} & {*name}:
            raise SinkError(
                f"{self.path}/ cannot hold {name!r}, which is no name of a file in it; give frames names "
                "without a slash"
            )
        file = self.path / f"{name}{self._suffix}"
        with explained(file, kinds=(OSError, ValueError)):  # a name that is too long, or no text
            os.fsencode(file)
            is_link = file.is_symlink()
        if is_link:
            raise SinkError(f"{file} is a link to something elsewhere; choose a folder without links")
        if name in self._names:
            raise SinkError(f"{file} was written already in this run: two frames are called {name!r}")
        self.make()
        self._names.add(name)
        return file

    def close(self) -> bool:
        """Remove the folder if it is new and empty; whether it is there."""
        self.abort()
        return self.path.is_dir()

    def abort(self) -> None:
        """Remove the folder if it is new and empty; images that were written stay."""
        if self._new and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


def _check_replaced(file: Path) -> None:
    """Refuse to replace a file that somebody else wrote.

    Raises:
        SinkError: If there is one.
    """
    is_ours = _WRITTEN_HERE.get(file.suffix)
    if is_ours is None or not file.exists():
        return
    what_then = "so it is not replaced; choose another folder, or move it away"
    try:
        ours = is_ours(file)
    except OSError as problem:
        raise SinkError(f"{file} is there and cannot be read ({problem.strerror}), {what_then}") from problem
    if not ours:
        raise SinkError(f"{file} is there and was not written by PixelRT, {what_then}")


def _is_marked(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(_PNG_HEAD_BYTES + len(_MARK))[_PNG_HEAD_BYTES:] == _MARK


def _holds_frame(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as arrays:
            return f"{FRAME_SIZE}.npy" in arrays.namelist()
    except zipfile.BadZipFile:
        return False


_WRITTEN_HERE: dict[str, Callable[[Path], bool]] = {".png": _is_marked, ".npz": _holds_frame}
"""Whether PixelRT wrote a file of a suffix."""


def _count(folder: Path, suffix: str) -> int:
    """How many files of a suffix are in a folder; none where there is no folder that this user may list."""
    if not os.access(folder, os.R_OK):
        return 0
    with os.scandir(folder) as files:
        return sum(file.name.endswith(suffix) and not file.name.startswith(".") for file in files)
