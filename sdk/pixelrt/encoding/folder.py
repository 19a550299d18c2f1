"""Folders of images."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pixelrt.encoding.files import check_writable, explained, write_whole
from pixelrt.encoding.images import Bytes, encode_png
from pixelrt.errors import SinkError

_BIT_DIGITS = 4


class _Names:
    """A set of names, in a fifth of a byte for each of those that count, such as `front-000123`.

    Its last four digits are a bit of a number; a camera's day of 2.6 million frames takes half a megabyte.
    """

    def __init__(self) -> None:
        self._bits: dict[tuple[str, int], int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        stem, bit = _split(name)
        return bool(self._bits.get(stem, 0) & bit)

    def add(self, name: str) -> None:
        """Put in a name that is not there."""
        stem, bit = _split(name)
        self._bits[stem] = self._bits.get(stem, 0) | bit
        self._count += 1


def _split(name: str) -> tuple[tuple[str, int], int]:
    """What a name begins with and the number of digits behind that, and the bit of these."""
    match = re.search(rf"[0-9]{{0,{_BIT_DIGITS}}}\Z", name)
    digits = match[0] if match else ""
    stem = name[: len(name) - len(digits)]
    return (stem, len(digits)), 1 << int(digits or 0)


class ImageFolder:
    """A PNG per image. Each file is whole as soon as it has its name; files of other names stay.

    Args:
        path: The folder; it is made by `make`, or with the first image.

    Raises:
        SinkError: If a file is in the way, or there is no folder to make it in, or one that is read only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = not path.exists()
        self._names = _Names()
        if not self._new and not path.is_dir():
            raise SinkError(f"{path} is a file, expected a folder; choose another name")
        if not path.parent.is_dir():
            raise SinkError(f"{path}/ cannot be made: there is no folder {path.parent}; make it first")
        check_writable(path.parent if self._new else path, path)

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
        """Write an image.

        Args:
            name: Of the file, without its suffix.
            image: uint8[H, W] or [H, W, 1] grey, or [H, W, 3] RGB.

        Raises:
            SinkError: If it cannot be written, or another image had the same name.
        """
        write_whole(self.file(name, ".png"), encode_png(image))

    def file(self, name: str, suffix: str) -> Path:
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
        file = self.path / f"{name}{suffix}"
        if file.is_symlink():
            raise SinkError(f"{file} is a link to something elsewhere; choose a folder without links")
        if name in self._names:
            raise SinkError(f"{file} was written already in this run: two frames are called {name!r}")
        self.make()
        self._names.add(name)
        return file

    def abort(self) -> None:
        """Remove the folder if it is new and empty; images that were written stay."""
        if self._new and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()
