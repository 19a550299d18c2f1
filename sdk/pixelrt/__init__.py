"""PixelRT: your own trained U-Net or image generator, on robots and vehicles.

import pixelrt
segmenter = pixelrt.load("engines/road-unet/bundle")
result = segmenter(frame)                     # uint8[H, W, 3] in, a Segmentation out
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixelrt.bundle import Bundle
    from pixelrt.chaining import Chain, Chained, ChainTicket, chain
    from pixelrt.cuda.device_array import DeviceArray
    from pixelrt.errors import PixelRTError
    from pixelrt.frames import Latency
    from pixelrt.generation import (
        Conditional,
        Generated,
        GenerationTicket,
        Generator,
        Grid,
        Interpolate,
        Labels,
        Latents,
        Random,
    )
    from pixelrt.isolation import IsolatedSegmenter, IsolatedTicket, IsolationOptions, isolate
    from pixelrt.loading import load
    from pixelrt.pipeline.options import GpuOptions
    from pixelrt.pipeline.times import GpuTimes
    from pixelrt.segmentation import Segmentation, SegmentationTicket, Segmenter
    from pixelrt.session import Choice, Session, SessionInfo, SessionOptions, choices, open_session
    from pixelrt.video.delivery import Delivery
    from pixelrt.video.frame import Frame
    from pixelrt.video.live import Stream, StreamOptions, StreamStatistics
    from pixelrt.video.sources import PushSource

__version__ = "0.1.0.dev0"

_HOMES = {
    "pixelrt.bundle": ("Bundle",),
    "pixelrt.chaining": ("Chain", "ChainTicket", "Chained", "chain"),
    "pixelrt.errors": ("PixelRTError",),
    "pixelrt.cuda.device_array": ("DeviceArray",),
    "pixelrt.frames": ("Latency",),
    "pixelrt.generation": (
        "Conditional",
        "Generated",
        "GenerationTicket",
        "Generator",
        "Grid",
        "Interpolate",
        "Labels",
        "Latents",
        "Random",
    ),
    "pixelrt.isolation": ("IsolatedSegmenter", "IsolatedTicket", "IsolationOptions", "isolate"),
    "pixelrt.loading": ("load",),
    "pixelrt.pipeline.options": ("GpuOptions",),
    "pixelrt.pipeline.times": ("GpuTimes",),
    "pixelrt.segmentation": ("Segmentation", "SegmentationTicket", "Segmenter"),
    "pixelrt.session": ("Choice", "Session", "SessionInfo", "SessionOptions", "choices", "open_session"),
    "pixelrt.video.delivery": ("Delivery",),
    "pixelrt.video.frame": ("Frame",),
    "pixelrt.video.live": ("Stream", "StreamOptions", "StreamStatistics"),
    "pixelrt.video.sources": ("PushSource",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Bundle",
    "Chain",
    "ChainTicket",
    "Chained",
    "Choice",
    "Conditional",
    "Delivery",
    "DeviceArray",
    "Frame",
    "Generated",
    "GenerationTicket",
    "Generator",
    "GpuOptions",
    "GpuTimes",
    "Grid",
    "Interpolate",
    "IsolatedSegmenter",
    "IsolatedTicket",
    "IsolationOptions",
    "Labels",
    "Latency",
    "Latents",
    "PixelRTError",
    "PushSource",
    "Random",
    "Segmentation",
    "SegmentationTicket",
    "Segmenter",
    "Session",
    "SessionInfo",
    "SessionOptions",
    "Stream",
    "StreamOptions",
    "StreamStatistics",
    "chain",
    "choices",
    "isolate",
    "load",
    "open_session",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: `import pixelrt` itself imports nothing (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'pixelrt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
