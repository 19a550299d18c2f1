"""Writes a bundle: the portable ONNX, the reports, and the manifest that describes them."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from onnx import ModelProto

from pixelrt import __version__
from pixelrt.bundle import MANIFEST, MODEL, Bundle, sha256, write_folder
from pixelrt.bundle_report import REPORT
from pixelrt.manifest import Artifact
from pixelrt_export import report as reports

REPORT_JSON = "report.json"


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


def write_bundle(out: Path, model: ModelProto, report: reports.Report) -> Bundle:
    """Write a bundle whole or not at all; one that is at `out` already is replaced.

    Args:
        out: The folder.
        model: The deployed graph.
        report: What was measured; its manifest is written with the model as its only artifact.

    Raises:
        BundleError: If it cannot be written (a full disk, no permission); nothing is left behind.
    """
    content = model.SerializeToString()
    artifact = Artifact(file=MODEL, kind="onnx", sha256=sha256(content), size_bytes=len(content))
    report = reports.with_model(report, artifact)

    def fill(folder: Path) -> None:
        (folder / MODEL).write_bytes(content)
        (folder / REPORT_JSON).write_text(reports.to_json(report), encoding="utf-8")
        (folder / REPORT).write_text(reports.to_html(report), encoding="utf-8")
        (folder / MANIFEST).write_text(report.manifest.to_json(), encoding="utf-8")

    inside = out.resolve() in (Path.cwd(), *Path.cwd().parents)
    place = out.resolve() if inside else out  # `.` is gone when its folder was replaced
    write_folder(place, fill)
    return Bundle.open(place)
