"""The part of a bundle's report.html that changes after the export: the files, among them the engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pixelrt.bundle import Bundle, locked, write_file
from pixelrt.errors import BundleError
from pixelrt.manifest import Artifact, Manifest
from pixelrt.markup import Html, element, join, table
from pixelrt.terminal import size_text

REPORT = "report.html"

_START, _END = Html("<!-- files -->"), Html("<!-- end of files -->")


def files_section(manifest: Manifest) -> Html:
    """The files of a bundle as a section of its report."""
    rows = [
        [
            element("code", one.file),
            "portable ONNX" if one.kind == "onnx" else f"engine, {one.flavour} {one.version}",
            ", ".join(one.targets) or "any",
            one.layers_text or "\u2013",
            size_text(one.size_bytes),
            f"{one.build_seconds:.1f} s" if one.build_seconds else "\u2013",
            element("code", one.sha256[:12]),
        ]
        for one in manifest.artifacts
    ]
    columns = ["File", "What", "Runs on", "Layers", ">Size", ">Built in", "SHA-256"]
    return join(_START, element("section", element("h2", "Files"), table(columns, rows)), _END)


@contextmanager
def report_refreshed(bundle: Bundle) -> Iterator[None]:
    """Bring the report up to date if engines are added in the block, also where it ends in an error.

    Raises:
        BundleError: If the report cannot be written, and no error of the block has to be told.
    """
    before = bundle.manifest.artifacts
    try:
        yield
    except BaseException:
        with suppress(BundleError, OSError):
            _refresh_after(bundle, before)
        raise
    _refresh_after(bundle, before)


def _refresh_after(bundle: Bundle, before: tuple[Artifact, ...]) -> None:
    if Bundle.open(bundle.path).manifest.artifacts != before:
        refresh_report(bundle)


def refresh_report(bundle: Bundle) -> bool:
    """Bring the files of a bundle's report up to date, after engines were added.

    Returns:
        Whether there was a report with such a section.

    Raises:
        BundleError: If the report cannot be read or written.
    """
    path = bundle.path / REPORT
    with locked(bundle.path):
        if not path.is_file():
            return False
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise BundleError(
                f"{path} cannot be read ({problem}); its list of files is out of date"
            ) from problem
        before, start, rest = text.partition(_START)
        _, end, after = rest.partition(_END)
        if not (start and end):
            return False
        manifest = Bundle.open(bundle.path).manifest
        write_file(path, f"{before}{files_section(manifest)}{after}".encode())
    return True
