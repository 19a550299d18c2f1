"""Images that a generator made."""

from __future__ import annotations

import dataclasses
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.device_array import DeviceArray
from pixelrt.encoding import ImageFolder, encode_png, whole_number, write_gif, write_video, write_whole
from pixelrt.errors import InputError
from pixelrt.frames import Bytes, Latency, is_whole
from pixelrt.manifest import ColorOrder

_FPS = 12.0
_BYTE = np.dtype(np.uint8)
_COLORED = 3
"""Channels."""


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Images, and what they were made from."""

    images: Bytes
    """uint8[N, H, W, C], C 1 or 3; of no images where they stayed on the GPU."""
    latency: Latency
    latents: NDArray[np.float32] | None = None
    """float32[N, *size], where the generator takes latents and they came from the host."""
    labels: tuple[str, ...] | None = None
    """The name of each image's label, where the generator is conditional."""
    seed: int | None = None
    """Of latents, labels and noise that were drawn; None where nothing was."""
    device_images: DeviceArray | None = None
    """The images on the GPU, uint8[N, H, W, C], where they were to stay there. They belong to this result."""
    color: ColorOrder = "rgb"
    """Order of three channels."""
    columns: int | None = None
    """Images in a row of a sheet, where the strategy has rows."""

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != _BYTE or len(shape) != 4 or shape[3] not in (1, 3):
            raise InputError(
                f"images is {self.images.dtype}{list(shape)}, expected uint8[N, H, W, C] with C 1 or 3"
            )

    def __repr__(self) -> str:
        count, height, width, channels = self._shape
        place = " on the GPU" if self.device_images is not None else ""
        seed = "" if self.seed is None else f"seed={self.seed}, "
        return (
            f"Generated({count} x {height}x{width}x{channels}{place}, {seed}"
            f"total_ms={self.latency.total_ms:.1f})"
        )

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.images.shape if self.device_images is None else self.device_images.shape

    @property
    def image(self) -> Bytes:
        """The image, where there is one: uint8[H, W, C].

        Raises:
            InputError: If there are several, or it stayed on the GPU.
        """
        images = self._host_images()
        if len(images) != 1:
            raise InputError(f"there are {len(images)} images; take one: images[0]")
        first: Bytes = images[0]
        return first

    def sheet(self, columns: int | None = None, gap: int = 2) -> Bytes:
        """All images on one, row by row, uint8[H, W, 3], black where there is none.

        Args:
            columns: Images in a row; None for the strategy's, else about as many as there are rows.
            gap: Black pixels between two images.

        Raises:
            InputError: If columns is below 1 or gap below 0, or the images stayed on the GPU.
        """
        images = self._host_images()
        count, height, width, channels = images.shape
        columns = columns if columns is not None else self.columns or math.ceil(math.sqrt(count))
        for what, value, least in (("columns", columns, 1), ("gap", gap, 0)):
            if not is_whole(value) or value < least:
                raise InputError(f"{what} is {value!r}, expected a whole number of at least {least}")
        columns = min(columns, count)
        rows = -(-count // columns)
        cells = np.zeros((rows * columns, height + gap, width + gap, 3), np.uint8)
        cells[:count, :height, :width] = images if channels == 3 else np.repeat(images, 3, axis=3)
        grid = cells.reshape(rows, columns, height + gap, width + gap, 3).transpose(0, 2, 1, 3, 4)
        whole = grid.reshape(rows * (height + gap), columns * (width + gap), 3)
        return np.ascontiguousarray(whole[: whole.shape[0] - gap, : whole.shape[1] - gap])

    def save(self, path: str | os.PathLike[str], fps: float = _FPS) -> None:
        """Write the images, each file whole or not at all.

        Args:
            path: `.png` for the image, or a sheet of several; `.gif` or `.mp4` for a film; `.npz` for images,
                color (their order, "rgb" or "bgr", where they have three channels), latents, labels and seed
                (`int(file["seed"].item())`); without an ending, a folder of PNG files.
            fps: Images per second of a film.

        Raises:
            InputError: If the ending is another one, or the images stayed on the GPU.
            MissingDependency: If OpenCV or PyAV is needed and not installed.
            SinkError: If a file cannot be written, or no film has such a rate.
        """
        file, ending = Path(path), Path(path).suffix.lower()
        self._host_images()
        if ending == ".png":
            write_whole(file, encode_png(self._one_image()))
        elif ending == ".npz":
            write_whole(file, self._npz())
        elif ending in (".gif", ".mp4"):
            (write_gif if ending == ".gif" else write_video)(file, self._rgb().images, fps)
        elif not ending:
            self._write_folder(file)
        else:
            raise InputError(
                f"{file} ends in {ending!r}, expected .png, .gif, .mp4 or .npz, or no ending for a folder"
            )

    def _one_image(self) -> Bytes:
        shown = self._rgb()
        return shown.image if len(shown.images) == 1 else shown.sheet()

    def _rgb(self) -> Generated:
        if self.color == "rgb" or self.images.shape[3] == 1:
            return self
        return dataclasses.replace(self, images=np.ascontiguousarray(self.images[..., ::-1]), color="rgb")

    def _write_folder(self, folder: Path) -> None:
        images = ImageFolder(folder)
        for index, image in enumerate(self._rgb().images):
            images.write(f"{index:05d}", image)

    def _npz(self) -> bytes:
        seed = None if self.seed is None else whole_number(self.seed)
        color = self.color if self.images.shape[3] == _COLORED else None
        known = {
            "images": self.images,
            "color": color,
            "latents": self.latents,
            "labels": self.labels,
            "seed": seed,
        }
        stream = io.BytesIO()
        arrays: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    def _host_images(self) -> Bytes:
        if self.device_images is not None:
            raise InputError("these images stay on the GPU; device_images.to_host() copies them")
        return self.images
