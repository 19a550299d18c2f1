"""Everything that a report is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from pixelrt.manifest import Artifact, GenerationManifest, SegmentationManifest
from pixelrt_export.gate.generation import GeneratorSample, GeneratorVerification
from pixelrt_export.gate.segmentation import Sample, Verification
from pixelrt_export.precision import PrecisionReport

SCHEMA = 1
"""Number of report.json's format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationReport:
    """Of a network that reads images into masks."""

    manifest: SegmentationManifest
    precision: PrecisionReport
    verification: Verification | None
    """None where the gate was skipped."""
    samples: Sequence[Sample]
    notes: tuple[str, ...]
    """What whoever uses the bundle should know, and what is no error."""
    seconds: dict[str, float]
    """Wall time per step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReport:
    """Of a network that writes images."""

    manifest: GenerationManifest
    precision: PrecisionReport
    verification: GeneratorVerification | None
    """None where the gate was skipped."""
    samples: Sequence[GeneratorSample]
    notes: tuple[str, ...]
    """What whoever uses the bundle should know, and what is no error."""
    seconds: dict[str, float]
    """Wall time per step."""


Report = SegmentationReport | GenerationReport


def with_model(report: Report, model: Artifact) -> Report:
    """The report of a bundle whose only artifact is the deployed graph."""
    if isinstance(report, GenerationReport):
        described = dataclasses.replace(report.manifest, artifacts=(model,))
        return dataclasses.replace(report, manifest=described)
    return dataclasses.replace(report, manifest=dataclasses.replace(report.manifest, artifacts=(model,)))
