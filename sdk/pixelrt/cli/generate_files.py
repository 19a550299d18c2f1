"""What `pixelrt generate` writes: a sheet, a film, a folder or arrays, whole or not at all."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.cli.generate_inputs import Bytes, Inputs
from pixelrt.cli.generate_pictures import LARGEST_PX, Pictures
from pixelrt.cli.generate_plan import Made
from pixelrt.encoding import (
    FORMATS,
    IMAGES,
    ArraysEncoder,
    GifEncoder,
    ImageFolder,
    VideoEncoder,
    check_film,
    encode_image,
    temporary_for,
    whole_number,
    write_whole,
)
from pixelrt.errors import InputError, MisspeltSink, SinkError
from pixelrt.generation import Generated
from pixelrt.manifest import GenerationManifest
from pixelrt.video.legend import Legend
from pixelrt.video.sinks.places import refuse_scheme, unknown_place

DEFAULT_FPS = 12.0
_KNOWN = "a sheet (.png), a film (.gif, .mp4, .mov, .mkv), a folder (folder/), arrays (.npz) or null:"
_ENDINGS = {
    ".npz": "arrays",
    **dict.fromkeys((*FORMATS, ".gif"), "film"),
    **dict.fromkeys(IMAGES, "sheet"),
}
_GAP_PX, _PAIRS_GAP_PX = 2, 8


class MadeWriter:
    """Takes images as they are made, and keeps none: what `null:` stands for.

    Ends in `close`, which finishes what was written, or in `abort`, which leaves nothing half-written.
    """

    note = ""
    """What should be said about the files."""

    def add(self, made: Made) -> None:
        """Take some images.

        Raises:
            SinkError: If they cannot be written.
        """

    def close(self) -> tuple[str, ...]:
        """Finish.

        Returns:
            The files and folders that now exist.

        Raises:
            SinkError: If it cannot be finished.
        """
        return ()

    def abort(self) -> None:
        """Give up, and remove what is half-written."""


def open_writer(
    arguments: argparse.Namespace, manifest: GenerationManifest, inputs: Inputs, total: int | None
) -> MadeWriter:
    """The writer for `--out`. Nothing is written yet.

    Args:
        arguments: The options.
        manifest: Of the generator.
        inputs: Sources of masks and images.
        total: How many images there will be; None where nobody knows.

    Raises:
        InputError: If an option does not fit what is written.
        SinkError: If it cannot be written, or its ending is unknown.
    """
    text: str = arguments.out
    kind = _kind_of(text)
    _check_kind(arguments, kind, inputs)
    path = Path(text)
    if kind == "null":
        return MadeWriter()
    if kind == "arrays":
        return _Arrays(path)
    pictures = Pictures(
        manifest, scale=arguments.scale, pairs=_wants_pairs(arguments, kind, inputs), masks=bool(inputs.masks)
    )
    if kind == "film":
        known = (arguments.fps, inputs.fps, DEFAULT_FPS)
        return _Film(path, pictures, next(fps for fps in known if fps is not None))
    if kind == "folder":
        return _Folder(path, pictures)
    return _Sheet(path, pictures, arguments.columns, total)


def _kind_of(text: str) -> str:
    if text == "null:":
        return "null"
    refuse_scheme(text, _KNOWN)
    if not text:
        raise MisspeltSink(f"--out is empty; expected {_KNOWN}")
    if text.endswith(("/", os.sep)) or Path(text).is_dir():
        return "folder"
    kind = _ENDINGS.get(Path(text).suffix.lower())
    if kind is None:
        raise unknown_place(text, list(_ENDINGS), _KNOWN, "a folder of images")
    return kind


def _check_kind(arguments: argparse.Namespace, kind: str, inputs: Inputs) -> None:
    if arguments.columns is not None and kind != "sheet" and not arguments.labels:
        raise InputError(f"--columns is for sheets, and {arguments.out} is none; leave it out")
    if arguments.pairs is not None and not inputs.sources:
        raise InputError("--pairs is for --mask and --image, and none was given; leave it out")
    if kind in ("null", "arrays"):
        for option, unused in (("scale", 1), ("pairs", None)):
            if getattr(arguments, option) not in (unused, False):
                raise InputError(f"--{option} is for pictures, and {arguments.out} holds none; leave it out")
    if arguments.fps is not None and kind != "film":
        raise InputError(f"--fps is for films, and {arguments.out} is none; leave it out")


def _wants_pairs(arguments: argparse.Namespace, kind: str, inputs: Inputs) -> bool:
    if arguments.pairs is not None:
        return bool(arguments.pairs)
    several = inputs.is_film or (arguments.count or 1) > 1
    return kind == "sheet" and inputs.masks is not None and several


class _Film(MadeWriter):
    """A GIF or a video."""

    def __init__(self, path: Path, pictures: Pictures, fps: float) -> None:
        check_film(path, fps)
        self._path, self._pictures, self._fps = path, pictures, fps
        self._film: VideoEncoder | GifEncoder | None = None
        if path.suffix.lower() != ".gif" and any(side % 2 for side in pictures.size):
            rows, cols = pictures.size
            even = f"{rows + rows % 2}x{cols + cols % 2}"
            self.note = f"{path}: H.264 needs even sides; {rows}x{cols} became {even} by repeating the border"

    def add(self, made: Made) -> None:
        for image in self._pictures.of(made):
            if self._film is None:
                encoder = GifEncoder if self._path.suffix.lower() == ".gif" else VideoEncoder
                self._film = encoder(self._path, size=self._pictures.size, fps=self._fps)
            self._film.write(image)

    def close(self) -> tuple[str, ...]:
        return (str(self._path),) if self._film is not None and self._film.close() else ()

    def abort(self) -> None:
        if self._film is not None:
            self._film.abort()


class _Folder(MadeWriter):
    """A PNG per image, named after its mask or image, or numbered."""

    def __init__(self, path: Path, pictures: Pictures) -> None:
        self._folder, self._pictures = ImageFolder(path), pictures

    def add(self, made: Made) -> None:
        for place, image in enumerate(self._pictures.of(made)):
            self._folder.write(made.names[place] if made.names else f"{len(self._folder):05d}", image)

    def close(self) -> tuple[str, ...]:
        return (str(self._folder.path),) if len(self._folder) else ()

    def abort(self) -> None:
        self._folder.abort()


class _Sheet(MadeWriter):
    """All pictures on one page; the only one alone."""

    def __init__(self, path: Path, pictures: Pictures, columns: int | None, total: int | None) -> None:
        temporary_for(path)
        self._path, self._pictures, self._columns = path, pictures, columns
        self._images: list[Bytes] = []
        self._coverage: list[np.ndarray[Any, Any]] = []
        self._last: Generated | None = None
        self._check_room(total or 0)

    def add(self, made: Made) -> None:
        self._check_room(len(self._images) + len(made.generated))
        self._images += self._pictures.of(made)
        self._last = made.generated
        if self._pictures.classes:
            number = len(self._pictures.classes)
            self._coverage += [
                np.bincount(mask.ravel(), minlength=256)[:number] / mask.size for mask in made.given
            ]

    def close(self) -> tuple[str, ...]:
        if self._last is None:
            return ()
        page = self._images[0] if len(self._images) == 1 else self._page(self._last)
        if self._pictures.pairs and self._coverage:
            page = self._with_legend(page)
        write_whole(self._path, encode_image(page, self._path.suffix))
        self._last = None
        return (str(self._path),)

    def _check_room(self, count: int) -> None:
        rows, cols = self._pictures.size
        if count * rows * cols > LARGEST_PX:
            raise SinkError(
                f"{self._path} would have more than {LARGEST_PX // 10**6} million pixels; write a "
                "film or a folder, or fewer images with --count N (of a source: --limit N)"
            )

    def _page(self, like: Generated) -> Bytes:
        stacked = dataclasses.replace(like, images=np.stack(self._images), latents=None, labels=None)
        return stacked.sheet(self._columns, _PAIRS_GAP_PX if self._pictures.pairs else _GAP_PX)

    def _with_legend(self, page: Bytes) -> Bytes:
        classes = self._pictures.classes
        rows, cols, _ = page.shape
        legend = Legend(classes, (max(rows, round(0.42 * cols)), cols))
        whole = np.zeros((rows + legend.height_px, cols, 3), np.uint8)
        whole[:rows] = page
        shares = np.mean(self._coverage, axis=0)
        names = (info.name for info in classes)
        legend.draw(whole[rows:], {name: float(share) for name, share in zip(names, shares, strict=True)})
        return whole


class _Arrays(MadeWriter):
    """Images, their colour order, latents, labels and seed as NPZ."""

    def __init__(self, path: Path) -> None:
        self._encoder = ArraysEncoder(path)
        self._labels: list[str] = []
        self._others: dict[str, Any] = {}

    def add(self, made: Made) -> None:
        found = made.generated
        self._encoder.append(images=found.images)
        if found.latents is not None:
            self._encoder.append(latents=found.latents)
        if found.labels is not None:
            self._labels += found.labels
        if found.seed is not None:
            self._others["seed"] = whole_number(found.seed)
        if found.images.shape[3] == 3:
            self._others["color"] = np.array(found.color)

    def close(self) -> tuple[str, ...]:
        if self._labels:
            self._others["labels"] = np.array(self._labels)
        return (str(self._encoder.path),) if self._encoder.close(**self._others) else ()

    def abort(self) -> None:
        self._encoder.abort()
