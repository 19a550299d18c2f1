"""What `pixelrt generate` writes: a sheet, a film, a folder or arrays, whole or not at all."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.cli.generate_plan import Bytes, Inputs, Made
from pixelrt.encoding import (
    FORMATS,
    IMAGES,
    GifEncoder,
    VideoEncoder,
    check_film,
    encode_image,
    encode_png,
    explained,
    temporary_for,
    write_whole,
)
from pixelrt.errors import InputError, SinkError
from pixelrt.frames import fitted, nearest
from pixelrt.generation import Generated
from pixelrt.manifest import ClassInfo, GenerationManifest
from pixelrt.strict import suggestion
from pixelrt.video.legend import Legend

DEFAULT_FPS = 12.0
_KNOWN = "a sheet (.png), a film (.gif, .mp4, .mov, .mkv), a folder (folder/), arrays (.npz) or null:"
_LARGEST_SHEET_PX = 100_000_000
_GAP_PX, _SHEET_GAP_PX = 2, 8


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


def open_writer(arguments: argparse.Namespace, manifest: GenerationManifest, inputs: Inputs) -> MadeWriter:
    """The writer for `--out`. Nothing is written yet.

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
        temporary_for(path)
        return _Arrays(path)
    pictures = _Pictures(
        manifest, scale=arguments.scale, pairs=_wants_pairs(arguments, kind, inputs), masks=bool(inputs.masks)
    )
    if kind == "film":
        known = (arguments.fps, inputs.fps, DEFAULT_FPS)
        return _Film(path, pictures, next(fps for fps in known if fps is not None))
    if kind == "folder":
        return _Folder(path, pictures)
    temporary_for(path)
    return _Sheet(path, pictures, arguments.columns)


def _kind_of(text: str) -> str:
    if text == "null:":
        return "null"
    if scheme := re.match(r"([a-z][a-z0-9+.-]*)://|([a-z]{2,}):$", text):
        hint = suggestion(scheme[0], ["null:"])
        raise SinkError(f"{text}: unknown scheme {scheme[0]}{hint}; expected {_KNOWN}")
    if not text:
        raise SinkError(f"--out is empty; expected {_KNOWN}")
    if text.endswith(("/", os.sep)) or Path(text).is_dir():
        return "folder"
    suffix = Path(text).suffix.lower()
    endings = {
        ".npz": "arrays",
        **dict.fromkeys((*FORMATS, ".gif"), "film"),
        **dict.fromkeys(IMAGES, "sheet"),
    }
    if suffix in endings:
        return endings[suffix]
    if not suffix:
        raise SinkError(f"{text} has no suffix; expected {_KNOWN}; for a folder of images write {text}/")
    raise SinkError(f"{text} ends in {suffix}{suggestion(suffix, list(endings))}; expected {_KNOWN}")


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


class _Pictures:
    """Makes pictures of images: enlarged, and beside what they were made from."""

    def __init__(self, manifest: GenerationManifest, *, scale: int, pairs: bool, masks: bool) -> None:
        self._scale, self.pairs = scale, pairs
        self._size = manifest.output.size
        self.classes: tuple[ClassInfo, ...] = manifest.mask.classes if manifest.mask and masks else ()
        self._palette = np.zeros((256, 3), np.uint8)
        self._palette[: len(self.classes)] = [info.color for info in self.classes] or np.zeros((0, 3))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        height, width = self._size
        both = 2 * width * self._scale + _GAP_PX if self.pairs else width * self._scale
        return height * self._scale, both

    def of(self, made: Made) -> list[Bytes]:
        """One for each image: uint8[H, W, C], C 1 or 3 (RGB)."""
        shown = [_enlarged(image, self._scale) for image in made.generated.images]
        if not self.pairs:
            return shown
        return [self._beside(given, image) for given, image in zip(made.given, shown, strict=True)]

    def _beside(self, given: Bytes, image: Bytes) -> Bytes:
        height, width, channels = image.shape
        page = np.zeros((height, 2 * width + _GAP_PX, 3), np.uint8)
        if given.ndim == 2:
            mask = np.asarray(nearest(given, height, width))
            page[:, :width] = self._palette[mask]
        else:
            page[:, :width] = _enlarged(np.asarray(fitted(given, self._size)), self._scale)
        page[:, width + _GAP_PX :] = image if channels == 3 else np.repeat(image, 3, axis=2)
        return page


def _enlarged(image: Bytes, scale: int) -> Bytes:
    return image if scale == 1 else image.repeat(scale, axis=0).repeat(scale, axis=1)


class _Film(MadeWriter):
    """A GIF or a video."""

    def __init__(self, path: Path, pictures: _Pictures, fps: float) -> None:
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
    """A PNG per image, each whole as soon as it has its name."""

    def __init__(self, path: Path, pictures: _Pictures) -> None:
        self._path, self._pictures = path, pictures
        self._count, self._new = 0, not path.exists()
        if not path.parent.is_dir():
            raise SinkError(f"{path}/ cannot be made: there is no folder {path.parent}; make it first")
        if not self._new and not path.is_dir():
            raise SinkError(f"{path} is a file, expected a folder; choose another name")

    def add(self, made: Made) -> None:
        with explained(self._path, "made"):
            self._path.mkdir(exist_ok=True)
        for place, image in enumerate(self._pictures.of(made)):
            name = made.names[place] if made.names else f"{self._count:05d}"
            write_whole(self._path / f"{name}.png", encode_png(image))
            self._count += 1

    def close(self) -> tuple[str, ...]:
        return (str(self._path),) if self._count else ()

    def abort(self) -> None:
        if self._new and self._path.is_dir() and not any(self._path.iterdir()):
            self._path.rmdir()


class _Sheet(MadeWriter):
    """All pictures on one page; the only one alone."""

    def __init__(self, path: Path, pictures: _Pictures, columns: int | None) -> None:
        self._path, self._pictures, self._columns = path, pictures, columns
        self._images: list[Bytes] = []
        self._coverage: list[np.ndarray[Any, Any]] = []
        self._last: Generated | None = None

    def add(self, made: Made) -> None:
        rows, cols = self._pictures.size
        if (len(self._images) + len(made.generated)) * rows * cols > _LARGEST_SHEET_PX:
            raise SinkError(
                f"{self._path} would have more than {_LARGEST_SHEET_PX // 10**6} million pixels; write a "
                "film or a folder, or fewer images with --count N (of a source: --limit N)"
            )
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

    def _page(self, like: Generated) -> Bytes:
        stacked = dataclasses.replace(like, images=np.stack(self._images), latents=None, labels=None)
        return stacked.sheet(self._columns, _SHEET_GAP_PX if self._pictures.pairs else _GAP_PX)

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
    """Images, latents, labels and seed as NPZ."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[Generated] = []

    def add(self, made: Made) -> None:
        self._parts.append(made.generated)

    def close(self) -> tuple[str, ...]:
        if not self._parts:
            return ()
        first = self._parts[0]
        latents = [part.latents for part in self._parts if part.latents is not None]
        labels = [label for part in self._parts for label in part.labels or ()]
        whole = dataclasses.replace(
            first,
            images=np.concatenate([part.images for part in self._parts]),
            latents=np.concatenate(latents) if latents else None,
            labels=tuple(labels) if first.labels is not None else None,
        )
        whole.save(self._path)
        return (str(self._path),)
