"""Writes a bundle: the portable ONNX, the reports, and the manifest that describes them."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from onnx import ModelProto

from pixelrt import __version__
from pixelrt.bundle import MANIFEST, MODEL, Bundle, sha256, write_folder
from pixelrt.bundle_report import REPORT
from pixelrt.manifest import Artifact
from pixelrt_export import report as reports

REPORT_JSON = "report.json"

R = TypeVar("R", reports.SegmentationReport, reports.GenerationReport)

_TOOLS = ("numpy", "torch", "onnx", "onnxscript", "onnxslim", "onnxruntime", "openvino")


def tool_versions() -> dict[str, str]:
    """Versions of everything that has a part in an export; what is not installed is left out."""
    versions = {"pixelrt": __version__, "python": platform.python_version()}
    for name in _TOOLS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # noqa: PERF203 - seven names
            continue
    return versions


@dataclass(frozen=True, slots=True)
class Made(Generic[R]):
    """What the files of a bundle are written from."""

    model: bytes
    """The deployed graph."""
    report: R
    """What was measured; its manifest describes the model."""
    place: str = ""
    """Folder inside the bundle, for the bundle of a smaller input."""

    @classmethod
    def of(cls, model: ModelProto, report: R) -> Made[R]:
        """A deployed graph and its report, whose manifest gets the graph as its only artifact."""
        content = model.SerializeToString()
        artifact = Artifact(file=MODEL, kind="onnx", sha256=sha256(content), size_bytes=len(content))
        manifest = dataclasses.replace(report.manifest, artifacts=(artifact,))
        return cls(content, dataclasses.replace(report, manifest=manifest))

    def noted(self, notes: tuple[str, ...]) -> Made[R]:
        """The same, with these notes first in its report."""
        report = dataclasses.replace(self.report, notes=(*notes, *self.report.notes))
        return dataclasses.replace(self, report=report)


def write_bundle(out: Path, made: Sequence[Made[Any]]) -> Bundle:
    """Write a bundle whole or not at all; one that is at `out` already is replaced.

    Args:
        out: The folder.
        made: The bundle, and those of smaller inputs inside it.

    Raises:
        BundleError: If it cannot be written (a full disk, no permission); nothing is left behind.
    """

    def fill(folder: Path) -> None:
        for each in made:
            _fill(folder / each.place, each)

    inside = out.resolve() in (Path.cwd(), *Path.cwd().parents)
    place = out.resolve() if inside else out  # `.` is gone when its folder was replaced
    write_folder(place, fill)
    return Bundle.open(place)


def _fill(folder: Path, made: Made[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(made.model)
    (folder / REPORT_JSON).write_text(reports.to_json(made.report), encoding="utf-8")
    (folder / REPORT).write_text(reports.to_html(made.report), encoding="utf-8")
    (folder / MANIFEST).write_text(made.report.manifest.to_json(), encoding="utf-8")
