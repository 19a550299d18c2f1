"""The manifest in a bundle's folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pixelrt.bundle.folder import MANIFEST
from pixelrt.errors import BundleError, ManifestError
from pixelrt.manifest import GenerationManifest, Manifest, SegmentationManifest, manifest_from_json


def manifest_bytes(folder: Path) -> bytes:
    """What stands in a bundle's manifest.

    Raises:
        BundleError: If there is no bundle, or it cannot be read.
    """
    file = folder / MANIFEST
    try:
        if file.is_file():
            return file.read_bytes()
        instead = _instead(folder)
    except OSError as problem:
        raise BundleError(
            f"{file} cannot be read: {problem.strerror}; who runs this must be able to read "
            "the folder and all that is in it"
        ) from problem
    raise BundleError(
        f"{folder} is not a bundle: {instead}; expected the folder that `pixelrt export` writes"
    )


def manifest_of(folder: Path, content: bytes) -> SegmentationManifest | GenerationManifest:
    """What the content of a bundle's manifest says.

    Raises:
        BundleError: If it is no text.
        ManifestError: If it cannot be understood.
    """
    try:
        return manifest_from_json(content.decode())
    except UnicodeDecodeError as problem:
        raise BundleError(f"{folder / MANIFEST} cannot be read: {problem}") from problem
    except ManifestError as problem:
        raise ManifestError(f"{folder}: {problem}") from problem


def check_alike(folder: Path, found: Manifest, larger: SegmentationManifest, size: tuple[int, int]) -> None:
    """Refuse a bundle whose results could not take the place of the larger one's.

    Raises:
        ManifestError: Naming what differs.
    """
    if not isinstance(found, SegmentationManifest) or found.smaller:
        raise ManifestError(
            f"{folder} is for {found.task}, or has smaller sizes; one size was expected there"
        )
    prepared = found.preprocess
    expected = dataclasses.replace(larger.preprocess, size=size)
    for what, here, there in (
        ("preprocess", prepared, expected),
        ("heads", found.heads, larger.heads),
    ):
        if here != there:
            raise ManifestError(
                f"{folder}: its {what} differ from those of the bundle that it is in ({here}, expected "
                f"{there}); export the bundle again"
            )


def _instead(path: Path) -> str:
    """What is there in the place of a bundle."""
    if not path.exists():
        home = (
            "; ~ is a name here like any other, os.path.expanduser replaces it" if str(path)[0] == "~" else ""
        )
        return f"no such folder{home}"
    if path.is_dir():
        return f"no {MANIFEST} in it"
    return f"a file; did you mean {path.parent}?" if path.name == MANIFEST else "a file"
