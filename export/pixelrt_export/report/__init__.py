"""What an export did and measured: report.json for programs, report.html for people."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pixelrt_export.report.contents import (
    SCHEMA,
    GenerationReport,
    Report,
    SegmentationReport,
)
from pixelrt_export.report.generation import generation_parts
from pixelrt_export.report.page import whole_page
from pixelrt_export.report.records import generation_record, segmentation_record
from pixelrt_export.report.segmentation import segmentation_parts

__all__ = ["SCHEMA", "GenerationReport", "Report", "SegmentationReport", "to_html", "to_json"]


def to_json(report: Report) -> str:
    """The text of report.json."""
    if isinstance(report, GenerationReport):
        record = generation_record(report)
    else:
        record = segmentation_record(report)
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "name": report.manifest.name,
        "created": report.manifest.created,
        "gate": dataclasses.asdict(report.manifest.gate),
        **record,
        "notes": list(report.notes),
        "layers": [dataclasses.asdict(layer) for layer in report.precision.layers],
        "casts": report.precision.num_casts,
        "seconds": {name: round(value, 3) for name, value in report.seconds.items()},
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def to_html(report: Report) -> str:
    """The text of report.html: one file that needs nothing else."""
    if isinstance(report, GenerationReport):
        return whole_page(report, generation_parts(report))
    return whole_page(report, segmentation_parts(report))
