"""Words and numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pixelrt.manifest import Check, Manifest, Preprocess
from pixelrt_export.gate.contenders import Contender

TIMES, NONE = "\u00d7", "\u2013"
_BACKENDS = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}


def percent(share: float) -> str:
    """A share for people; it never says 100 % of what is not all."""
    for digits in (2, 4, 6):
        text = f"{100 * share:.{digits}f}"
        if share >= 1 or float(text) < 100:
            return f"{text}\u202f%"
    return "> 99.999999\u202f%"


def points(share: float | None) -> str:
    """An IoU in percent."""
    return NONE if share is None or not math.isfinite(share) else f"{100 * share:.2f}"


def signed(number: float) -> str:
    """With its sign, and a minus that is one."""
    rounded = round(number, 2)
    return f"{rounded:+.2f}".replace("-", "\u2212") if rounded else "0.00"


def decibels(psnr: float | None) -> str:
    """A PSNR, or that of equal images, which is infinite."""
    return "\u221e" if psnr is None or math.isinf(psnr) else f"{psnr:.2f}"


def similarity(ssim: float) -> str:
    """An SSIM; it never says 1 of what is not the same."""
    for digits in (5, 7):
        text = f"{ssim:.{digits}f}"
        if ssim >= 1 or float(text) < 1:
            return text
    return "> 0.9999999"


def runs_as(ran: Check | Contender) -> str:
    """`OpenVINO, float32`."""
    name = _BACKENDS.get(ran.backend, ran.backend)
    return f"{name}, {ran.precision}{' on the GPU' if ran.device == 'cuda' else ''}"


def original_of(manifest: Manifest) -> str:
    """What the contenders were compared with."""
    return "original ONNX" if manifest.source.model.endswith(".onnx") else "PyTorch"


def counted(number: int, word: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def magnitude(value: float) -> str:
    """Three digits, or whole thousands."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def by(size: Sequence[int]) -> str:
    """`352 x 480`, height first."""
    return f" {TIMES} ".join(map(str, size))


def listed(values: Sequence[float]) -> str:
    """`0.485, 0.456, 0.406`."""
    return ", ".join(f"{value:g}" for value in values)


def frames_text(prepared: Preprocess) -> str:
    """`3 channels, RGB, resized to 352 x 480`."""
    colors = f", {prepared.color.upper()}" if prepared.channels >= 3 else ""
    return f"{counted(prepared.channels, 'channel')}{colors}, resized to {by(prepared.size)}"
