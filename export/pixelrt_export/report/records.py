"""What report.json says about the gate, per task."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.metrics import psnr
from pixelrt_export.gate.contenders import Contender
from pixelrt_export.gate.generation import GeneratorFigures
from pixelrt_export.gate.segmentation import Figures, Verification
from pixelrt_export.report.contents import GenerationReport, SegmentationReport


def segmentation_record(report: SegmentationReport) -> dict[str, Any]:
    """Images, the original, and the figures of each contender at each head."""
    verification = report.verification
    return {
        "images": [sample.name for sample in report.samples],
        "original": _original(verification) if verification else {},
        "contenders": [_of_masks(one) for one in verification.figures] if verification else [],
        "smaller": [
            {"size": list(one.preprocess.size), "gate": dataclasses.asdict(one.gate)}
            for one in report.smaller
        ],
    }


def generation_record(report: GenerationReport) -> dict[str, Any]:
    """Samples, the original, and the figures of each contender."""
    verification = report.verification
    return {
        "samples": [sample.name for sample in report.samples],
        "original": {"least": verification.reference.least, "most": verification.reference.most}
        if verification
        else {},
        "contenders": [_of_images(one) for one in verification.figures] if verification else [],
    }


def _original(verification: Verification) -> dict[str, Any]:
    reference = verification.reference
    return {
        head: {
            "largest_logit": max((float(np.abs(one).max()) for one in reference.logits[head]), default=None),
            "miou": reference.truth[head].miou() if head in reference.truth else None,
        }
        for head in reference.masks
    }


def _ran(contender: Contender) -> dict[str, Any]:
    return {
        "backend": contender.backend,
        "device": contender.device,
        "precision": contender.precision,
        "required": contender.required,
    }


def _of_masks(figures: Figures) -> dict[str, Any]:
    return {
        **_ran(figures.contender),
        "head": figures.head,
        "agreement": figures.share_equal,
        "agreement_per_image": figures.equal,
        "iou_against_original": _numbers(figures.agreement.iou()),
        "iou_against_labels": None if figures.truth is None else _numbers(figures.truth.iou()),
        "max_logit_difference": figures.check.max_logit_difference if figures.check else None,
        "logit_images": figures.num_logit_images,
    }


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _of_images(figures: GeneratorFigures) -> dict[str, Any]:
    decibels = [psnr(square) for square in figures.squares]
    return {
        **_ran(figures.contender),
        "psnr_per_image": [value if math.isfinite(value) else None for value in decibels],
        "ssim_per_image": figures.ssim,
        "max_difference_per_image": figures.largest,
    }
