"""Every output of every frame, as files of NumPy."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.encoding import FRAME_SIZE, ImageFolder
from pixelrt.errors import InputError, MisspeltSink
from pixelrt.segmentation import Segmentation
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.folders import open_folder
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sources.address import parse_path, switch

SUFFIX = ".npz"
_OUTPUTS = ("mask", "confidence", "grid", "logits")


class ArraysFolder(BaseSink):
    """A folder with an `.npz` per frame, named after it: what `numpy.load` reads.

    It holds the outputs of the head that is recorded at the network's size (`mask`, `confidence`, `grid`,
    `logits`, those that there are), of other heads as `HEAD.mask`, ..., and `classes` (names), `index`,
    `time_s`, `clock_s` (NaN where the source has no clock) and `frame_size` (height, width). Each file is
    whole as soon as it has its name, and replaces one of an earlier run; `abort` keeps those, and removes the
    folder if it is new and empty.

    Args:
        folder: Where they go.
        compress: Whether to compress, which takes longer than all else.
    """

    wants_picture = False

    def __init__(self, folder: ImageFolder, *, compress: bool = True) -> None:
        self.path, self._folder = folder.path, folder
        self._pack = np.savez_compressed if compress else np.savez

    def write(self, delivery: Delivery) -> None:
        """Write the outputs of a frame.

        Raises:
            SinkError: If they cannot be written, or another frame had the same name.
            InputError: If they stay on the GPU.
        """
        frame, result = delivery.frame, delivery.result
        if result.device_mask is not None:
            raise InputError("these results stay on the GPU; leave on_device away to record them")
        values: dict[str, Any] = dict(_outputs(result, ""))
        for name, other in result.others.items():
            values |= _outputs(other, f"{name}.")
        values["classes"] = np.array([info.name for info in result.classes])
        values["index"] = np.int64(frame.index)
        values["time_s"] = np.float64(frame.time_s)
        values["clock_s"] = np.float64("nan" if frame.clock_s is None else frame.clock_s)
        values[FRAME_SIZE] = np.array(frame.size, np.int64)
        content = io.BytesIO()
        self._pack(content, **values)
        self._folder.save(frame.name, content.getvalue())

    def close(self) -> tuple[Path, ...]:
        """Say what is there; a new folder into which nothing came is removed."""
        return (self.path,) if self._folder.close() else ()

    def abort(self) -> None:
        """Remove the folder if it is new and empty."""
        self._folder.abort()

    def remains(self) -> tuple[Path, ...]:
        """The folder, if it is there: every file in it is whole."""
        return (self.path,) if self.path.is_dir() else ()


def _outputs(result: Segmentation, prefix: str) -> Iterator[tuple[str, Any]]:
    for kind in _OUTPUTS:
        value = getattr(result, kind)
        if value is not None:
            yield f"{prefix}{kind}", value


def open_arrays(uri: str, options: SinkOptions) -> ArraysFolder:
    """Open a folder of arrays: `results.npz/?compress=no`; for a camera a new one, such as `results-2.npz`.

    Raises:
        SinkError: If an option is unknown, or the folder cannot be made.
    """
    address = parse_path(uri, error=MisspeltSink)
    given = address.options({"compress": switch}, MisspeltSink)
    path = Path(address.rest)
    return ArraysFolder(open_folder(path, options, SUFFIX, ending=path.suffix), **given)
