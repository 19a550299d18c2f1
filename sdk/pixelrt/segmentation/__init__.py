"""Frames in, masks out: `Segmenter` and its result."""

from __future__ import annotations

from pixelrt.frames import Latency, check_frame, chunks, nearest
from pixelrt.segmentation.result import Segmentation, check_alpha
from pixelrt.segmentation.segmenter import SegmentationTicket, Segmenter

__all__ = [
    "Latency",
    "Segmentation",
    "SegmentationTicket",
    "Segmenter",
    "check_alpha",
    "check_frame",
    "chunks",
    "nearest",
]
