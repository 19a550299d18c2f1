"""Results of the child, as the caller gets them."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from pixelrt.bundle import Bundle
from pixelrt.frames import Latency
from pixelrt.isolation.protocol import Answer, FrameResult, HeadResult
from pixelrt.isolation.shared import SharedMemory
from pixelrt.manifest import ClassInfo
from pixelrt.segmentation import Segmentation


def fetch(answer: Answer, memory: SharedMemory, bundle: Bundle, began_s: float) -> list[Segmentation]:
    """The results of an answer, with arrays of their own.

    Args:
        answer: What the child says.
        memory: Where it has put the arrays.
        bundle: What it runs.
        began_s: When the caller handed over the frames, of `time.monotonic`: the time in total is the
            caller's, the other times are the child's.

    Raises:
        ValueError: If an array lies outside of the memory.
    """
    results = [_frame_result(memory, bundle, result) for result in answer.results]
    total_ms = (time.monotonic() - began_s) * 1e3 / len(results)
    return [_with_total(result, total_ms) for result in results]


def _frame_result(memory: SharedMemory, bundle: Bundle, result: FrameResult) -> Segmentation:
    classes = {head.name: head.classes for head in bundle.segmentation.heads}
    first, *others = (_head_result(memory, head, classes[head.name], result.latency) for head in result.heads)
    return dataclasses.replace(first, others={other.name: other for other in others}) if others else first


def _head_result(
    memory: SharedMemory, head: HeadResult, classes: tuple[ClassInfo, ...], latency: Latency
) -> Segmentation:
    arrays: dict[str, Any] = {kind: memory.view(plane).copy() for kind, plane in head.planes.items()}
    return Segmentation(
        name=head.name,
        classes=classes,
        frame_size=head.frame_size,
        latency=latency,
        color=head.color,
        **arrays,
    )


def _with_total(result: Segmentation, total_ms: float) -> Segmentation:
    latency = dataclasses.replace(result.latency, total_ms=total_ms)
    others = {name: dataclasses.replace(other, latency=latency) for name, other in result.others.items()}
    return dataclasses.replace(result, latency=latency, others=others)
