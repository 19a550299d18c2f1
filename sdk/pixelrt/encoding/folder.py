"""Folders of images."""

from __future__ import annotations

from pathlib import Path

from pixelrt.encoding.files import check_writable, explained, write_whole
from pixelrt.encoding.images import Bytes, encode_png
from pixelrt.errors import SinkError


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
        self._names: set[str] = set()
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
        file = self.path / f"{name}.png"
        if name in self._names:
            raise SinkError(f"{file} was written already in this run: two frames are called {name!r}")
        self.make()
        self._names.add(name)
        write_whole(file, encode_png(image))

    def abort(self) -> None:
        """Remove the folder if it is new and empty; images that were written stay."""
        if self._new and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()
