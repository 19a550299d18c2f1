"""A bundle: a folder with a manifest, the portable ONNX and engines."""

from __future__ import annotations

from pixelrt.bundle.folder import (
    MANIFEST,
    MODEL,
    check_folder,
    file_place,
    locked,
    sha256,
    write_file,
    write_folder,
)
from pixelrt.bundle.opened import Bundle

__all__ = [
    "MANIFEST",
    "MODEL",
    "Bundle",
    "check_folder",
    "file_place",
    "locked",
    "sha256",
    "write_file",
    "write_folder",
]
