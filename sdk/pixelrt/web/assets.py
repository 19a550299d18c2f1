"""The files that the page is made of, as they lie in the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

PAGE = "index.html"
_FOLDER = "page_files"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    kind: str
    """Its media type."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Assets:
    """All of them, by name."""

    files: dict[str, Asset]

    @classmethod
    def load(cls) -> Assets:
        """Read them."""
        folder = resources.files("pixelrt.web").joinpath(_FOLDER)
        found = {
            file.name: Asset(kind, file.read_bytes())
            for file in folder.iterdir()
            if (kind := _KINDS.get("." + file.name.rpartition(".")[2])) is not None
        }
        return cls(dict(sorted(found.items())))

    @property
    def version(self) -> str:
        """Another one if any file differs."""
        digest = hashlib.sha256()
        for name, asset in self.files.items():
            digest.update(name.encode() + b"\0" + asset.content)
        return digest.hexdigest()[:12]
