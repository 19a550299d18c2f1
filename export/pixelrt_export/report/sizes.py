"""The section of a report that compares the sizes of a bundle's input."""

from __future__ import annotations

from pixelrt.bundle_report import REPORT
from pixelrt.manifest import SegmentationManifest, smaller_folder
from pixelrt.markup import Html, element, table
from pixelrt.terminal import size_text
from pixelrt_export.report.words import NONE, by, percent, points, signed


def sizes_section(largest: SegmentationManifest, smaller: list[SegmentationManifest]) -> Html:
    """Every size with what its gate measured, and what it costs against the largest.

    Args:
        largest: Of the bundle that the report is about.
        smaller: Of those inside it.
    """
    heads = [head.name for head in largest.heads]
    labelled = any(largest.gate.least(head, "miou") is not None for head in heads)
    columns = ["Size"]
    for head in heads:
        named = f"\n{head}" if len(heads) > 1 else ""
        columns.append(f">Agreement{named}")
        columns += [f">mIoU %{named}", f">Against the largest{named}"] if labelled else []
    columns += [">Model", "Report"]
    rows = [_row(manifest, largest, labelled=labelled) for manifest in (largest, *smaller)]
    return element(
        "section",
        element("h2", "Sizes"),
        element(
            "p",
            "A stream can step down to a smaller size under load, and up again. Each size has its own gate: "
            "the original at this size against the deployed graph at this size. Figures are the lowest of "
            "all runs that passed. mIoU is measured at the size of the labels, the same for all.",
        ),
        table(columns, rows),
    )


def _row(
    manifest: SegmentationManifest, largest: SegmentationManifest, *, labelled: bool
) -> list[str | Html]:
    row: list[str | Html] = [by(manifest.preprocess.size)]
    for head in manifest.heads:
        agreement = manifest.gate.least(head.name, "agreement")
        row.append(NONE if agreement is None else percent(agreement))
        if labelled:
            miou, of_largest = (one.gate.least(head.name, "miou") for one in (manifest, largest))
            row += [points(miou), NONE if manifest is largest else _change(miou, of_largest)]
    model = next(artifact for artifact in manifest.artifacts if artifact.kind == "onnx")
    place = f"{smaller_folder(manifest.preprocess.size)}/{REPORT}"
    link = NONE if manifest is largest else element("a", place, href=place)
    return [*row, size_text(model.size_bytes), link]


def _change(miou: float | None, of_largest: float | None) -> str:
    return NONE if miou is None or of_largest is None else signed(100 * (miou - of_largest))
