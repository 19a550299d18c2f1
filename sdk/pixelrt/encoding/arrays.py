"""Arrays that grow while they are made, as a file of NumPy."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.encoding.drafts import drafted
from pixelrt.encoding.files import explained, temporary_for
from pixelrt.errors import SinkError


class ArraysEncoder:
    """An `.npz` (what `numpy.load` reads) of arrays that come in pieces, along their first axis.

    What comes goes to nameless files beside it, which vanish with the process however it ends; memory stays
    bounded. `close` compresses them into the file, which then appears under its name.

    Args:
        path: Ends in .npz.

    Raises:
        SinkError: If there is no folder to write into, or another suffix.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".npz":
            raise SinkError(f"{path} ends in {path.suffix or 'nothing'}, expected .npz")
        temporary_for(path)
        self.path = path
        self._growing: dict[str, _Growing] = {}
        self._files = contextlib.ExitStack()

    def append(self, **pieces: NDArray[Any]) -> None:
        """Put pieces behind those of the same names.

        Args:
            **pieces: [N, ...] each; N may differ, type and the other axes may not.

        Raises:
            SinkError: If they cannot be written, or do not fit what came before.
        """
        for name, piece in pieces.items():
            with explained(self.path):
                if name not in self._growing:
                    file = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 (abort closes it)
                    self._files.callback(file.close)
                    self._growing[name] = _Growing(file, piece)
                self._growing[name].append(piece, f"{self.path}: {name}")

    def close(self, **others: NDArray[Any]) -> bool:
        """Write the file.

        Args:
            **others: Arrays that are there as a whole.

        Returns:
            Whether there is a file: not if nothing came.

        Raises:
            SinkError: If it cannot be written; nothing is left then.
        """
        if not self._growing:
            return False
        try:
            with drafted(self.path) as draft:
                self._write(draft.hidden, others)
        finally:
            self.abort()
        return True

    def abort(self) -> None:
        """Drop what came."""
        self._growing.clear()
        with contextlib.suppress(OSError):  # of a full disk, which has no room for what is still buffered
            self._files.close()

    def _write(self, place: Path, others: Mapping[str, NDArray[Any]]) -> None:
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, growing in self._growing.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    growing.write_to(member)
            for name, array in others.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def whole_number(value: int) -> NDArray[Any]:
    """A whole number of at least 0 as an array that needs no pickle, however large it is.

    Returns:
        An integer; from 2^64 on its digits as text. `int(array.item())` reads both.
    """
    return np.array(value if value < 1 << 64 else str(value))


class _Growing:
    """The bytes of an array so far."""

    def __init__(self, file: IO[bytes], like: NDArray[Any]) -> None:
        self._file = file
        self._dtype, self._shape = like.dtype, like.shape[1:]
        self._count = 0

    def append(self, piece: NDArray[Any], what: str) -> None:
        if piece.dtype != self._dtype or piece.shape[1:] != self._shape:
            raise SinkError(
                f"{what} was begun as {self._dtype}[N, {', '.join(map(str, self._shape))}], and "
                f"{piece.dtype}{list(piece.shape)} came"
            )
        self._file.write(np.ascontiguousarray(piece).data)
        self._count += len(piece)

    def write_to(self, member: IO[bytes]) -> None:
        shape = (self._count, *self._shape)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        self._file.seek(0)
        shutil.copyfileobj(self._file, member, 1 << 20)
