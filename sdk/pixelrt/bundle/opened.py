"""`Bundle`: what is in a bundle, checked as it is used, and engines added to it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from pixelrt.bundle.folder import MANIFEST, locked, sha256, write_file
from pixelrt.bundle.reading import check_alike, manifest_bytes, manifest_of
from pixelrt.errors import BundleError, InputError
from pixelrt.manifest import SIZES, Artifact, GenerationManifest, SegmentationManifest, Smaller


class Bundle:
    """An opened bundle.

    Attributes:
        path: The folder.
        manifest: What it says about itself.
    """

    def __init__(self, path: Path, manifest: SegmentationManifest | GenerationManifest) -> None:
        self.path = path
        self.manifest = manifest

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, name={self.manifest.name!r}, task={self.manifest.task!r})"

    @property
    def segmentation(self) -> SegmentationManifest:
        """The manifest of a bundle that reads frames into masks.

        Raises:
            InputError: If it does something else.
        """
        if isinstance(self.manifest, SegmentationManifest):
            return self.manifest
        raise InputError(
            f"{self.path} is a bundle for {self.manifest.task}, expected segmentation; generators are for "
            "pixelrt.load(...).sample and pixelrt generate"
        )

    @property
    def generation(self) -> GenerationManifest:
        """The manifest of a bundle that writes images.

        Raises:
            InputError: If it does something else.
        """
        if isinstance(self.manifest, GenerationManifest):
            return self.manifest
        raise InputError(
            f"{self.path} is a bundle for {self.manifest.task}, expected generation; for frames into masks "
            "see pixelrt.load(...)(frame) and pixelrt run"
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read the manifest of a bundle; artifacts are checked when they are used.

        Raises:
            BundleError: If there is no bundle at `path`.
            InputError: If `path` is no path.
            ManifestError: If its manifest cannot be understood.
        """
        if not isinstance(path, (str, os.PathLike)) or not str(path):
            raise InputError(
                f"the bundle is {path!r}, expected the path of the folder that `pixelrt export` writes"
            )
        folder = Path(path)
        return cls(folder, manifest_of(folder, manifest_bytes(folder)))

    @property
    def smaller(self) -> tuple[Bundle, ...]:
        """The bundles of the same network for smaller inputs, from large to small; none for a generator.

        Each is whole: it can be opened by its path, loaded, inspected, measured and built for by itself.

        Raises:
            BundleError: If one is missing, or is not the one that this manifest means.
            ManifestError: If the manifest of one cannot be understood, or has other heads or colours.
        """
        if not isinstance(self.manifest, SegmentationManifest):
            return ()
        return tuple(self.open_smaller(entry) for entry in self.manifest.smaller)

    def open_smaller(self, entry: Smaller) -> Bundle:
        """One of `smaller`.

        Args:
            entry: Of this bundle's manifest.

        Raises:
            BundleError: If it is missing, or is not the one that this manifest means.
            ManifestError: If its manifest cannot be understood, or has other heads or colours.
        """
        folder = self.path / entry.folder
        if folder.resolve() != self.path.resolve() / entry.folder:
            raise BundleError(f"{folder} leads out of the bundle; do not use it")
        content = manifest_bytes(folder)
        if (found := sha256(content)) not in (entry.sha256, entry.becoming):
            raise BundleError(
                f"{folder / MANIFEST} has SHA-256 {found[:12]}..., the manifest of {self.path} says "
                f"{entry.sha256[:12]}...: it was changed, or engines were added to it since {self.path} was "
                "opened. Open that again; if this stays, do not use it, export or copy the bundle again"
            )
        manifest = manifest_of(folder, content)
        check_alike(folder, manifest, self.segmentation, entry.size)
        return Bundle(folder, manifest)

    @property
    def model(self) -> Artifact:
        """The portable ONNX.

        Raises:
            BundleError: If the manifest lists none.
        """
        for artifact in self.manifest.artifacts:
            if artifact.kind == "onnx":
                return artifact
        raise BundleError(f"{self.path} lists no ONNX file among its artifacts; export it again")

    def read(self, artifact: Artifact) -> bytes:
        """The bytes of an artifact, after its size and SHA-256 were found as the manifest says.

        Raises:
            BundleError: If the file is missing, unreadable, cut short or changed.
        """
        file = self.path / artifact.file
        if file.resolve().parent != self.path.resolve():
            raise BundleError(
                f"{self.path}: artifact {artifact.file!r} lies outside the bundle; do not use it"
            )
        try:
            content = file.read_bytes()
        except OSError as problem:
            raise BundleError(f"{file} cannot be read ({problem.strerror}); {_remedy(artifact)}") from problem
        if len(content) != artifact.size_bytes:
            raise BundleError(
                f"{file} has {len(content)} bytes, the manifest says {artifact.size_bytes}: "
                "it was cut short or changed; export or copy the bundle again"
            )
        if (found := sha256(content)) != artifact.sha256:
            raise BundleError(
                f"{file} has SHA-256 {found[:12]}..., the manifest says {artifact.sha256[:12]}...: "
                "it was changed or damaged; do not use it, export or copy the bundle again"
            )
        return content

    def add_engine(self, content: bytes, artifact: Artifact) -> Bundle:
        """Put an engine into the bundle, in the place of one of the same file name.

        Safe against a crash (file first, manifest last, each replaced whole) and against another process that
        adds an engine at the same time.

        Args:
            content: The engine exactly as the builder returned it.
            artifact: Its entry; `sha256` and `size_bytes` are filled in here.

        Returns:
            The bundle as it now is.
        """
        entry = dataclasses.replace(artifact, sha256=sha256(content), size_bytes=len(content))
        with _locked_with_larger(self.path) as larger:
            manifest = Bundle.open(self.path).manifest
            others = tuple(other for other in manifest.artifacts if other.file != entry.file)
            manifest = dataclasses.replace(manifest, artifacts=(*others, entry))
            text = manifest.to_json().encode()
            write_file(self.path / entry.file, content)
            with _told(larger, self.path, sha256(text)):
                write_file(self.path / MANIFEST, text)
        return Bundle(self.path, manifest)


def _remedy(artifact: Artifact) -> str:
    return "build or copy it again" if artifact.kind == "engine" else "export or copy the bundle again"


@contextlib.contextmanager
def _locked_with_larger(folder: Path) -> Iterator[Bundle | None]:
    """Hold a bundle's folder, and that of the bundle that it is the smaller size of, which comes first.

    Raises:
        BundleError: If the larger one says that this is not the bundle that it should be.
    """
    place = folder.resolve()
    outside = place.parent.parent
    if place.parent.name != SIZES or not (outside / MANIFEST).is_file():
        with locked(folder):
            yield None
        return
    with locked(outside), locked(folder):
        larger = Bundle.open(outside)
        mine = _entries(larger, place)
        if mine:
            larger.open_smaller(mine[0])
        yield larger if mine else None


def _entries(larger: Bundle, place: Path) -> list[Smaller]:
    known = larger.manifest.smaller if isinstance(larger.manifest, SegmentationManifest) else ()
    return [entry for entry in known if larger.path / entry.folder == place]


@contextlib.contextmanager
def _told(larger: Bundle | None, folder: Path, becoming: str) -> Iterator[None]:
    """Tell a larger bundle what the SHA-256 of a smaller one's manifest is about to be, and then that it is.

    A process that ends in between leaves a bundle that takes both.
    """
    if larger is None:
        yield
        return
    manifest = larger.segmentation
    (mine,) = _entries(larger, folder.resolve())
    current = sha256(manifest_bytes(folder))

    def write(changed: Smaller) -> None:
        entries = tuple(changed if entry is mine else entry for entry in manifest.smaller)
        text = dataclasses.replace(manifest, smaller=entries).to_json()
        write_file(larger.path / MANIFEST, text.encode())

    write(dataclasses.replace(mine, sha256=current, becoming=becoming))
    yield
    write(dataclasses.replace(mine, sha256=becoming, becoming=""))
