"""Tells whether two processes speak of the same bundle."""

from __future__ import annotations

from pixelrt.bundle import sha256
from pixelrt.manifest import SegmentationManifest


def fingerprint(manifest: SegmentationManifest) -> str:
    """SHA-256 of what the meaning of results depends on. Engines may be added to a bundle meanwhile."""
    return sha256(repr((manifest.heads, manifest.preprocess, manifest.axes)).encode())
