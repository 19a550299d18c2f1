"""A segmenter in a child process, which may crash, hang or lose its GPU while the program goes on.

segmenter = pixelrt.isolate("engines/road-unet/bundle", device="cuda", restarts=3)
result = segmenter(frame)                     # as with pixelrt.load; a lost child is replaced
ticket = segmenter.submit(frame)              # the next frame is handed over while this one is computed
"""

from __future__ import annotations

from pixelrt.isolation.opening import isolate
from pixelrt.isolation.options import IsolationOptions, LoadOptions
from pixelrt.isolation.segmenter import IsolatedSegmenter
from pixelrt.isolation.ticket import IsolatedTicket

__all__ = ["IsolatedSegmenter", "IsolatedTicket", "IsolationOptions", "LoadOptions", "isolate"]
