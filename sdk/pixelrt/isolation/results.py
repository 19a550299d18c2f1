"""Results of the child, as the caller gets them."""

from __future__ import annotations

import dataclasses
from typing import Any

from pixelrt.bundle import Bundle
from pixelrt.isolation.process import Child
from pixelrt.isolation.protocol import FrameResult, HeadResult
from pixelrt.manifest import ClassInfo
from pixelrt.segmentation import Latency, Segmentation


def fetch(child: Child, bundle: Bundle, result: FrameResult) -> Segmentation:
    """The result of a frame, with arrays of its own. The time in total is still that in the child."""
    classes = {head.name: head.classes for head in bundle.manifest.heads}
    first, *others = (_head_result(child, head, classes[head.name], result.latency) for head in result.heads)
    return dataclasses.replace(first, others={other.name: other for other in others}) if others else first


def _head_result(
    child: Child, head: HeadResult, classes: tuple[ClassInfo, ...], latency: Latency
) -> Segmentation:
    arrays: dict[str, Any] = {kind: child.read(plane) for kind, plane in head.planes.items()}
    return Segmentation(
        name=head.name,
        classes=classes,
        frame_size=head.frame_size,
        latency=latency,
        color=head.color,
        **arrays,
    )


def with_total(result: Segmentation, total_ms: float) -> Segmentation:
    """The result with the time as the caller sees it, handing over included."""
    latency = dataclasses.replace(result.latency, total_ms=total_ms)
    others = {name: dataclasses.replace(other, latency=latency) for name, other in result.others.items()}
    return dataclasses.replace(result, latency=latency, others=others)
