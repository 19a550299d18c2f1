"""Everything that a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixelrt.manifest import GenerationManifest, SegmentationManifest
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
    smaller: Sequence[SegmentationManifest] = ()
    """The same network for smaller inputs: bundles inside this one, from large to small."""


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
