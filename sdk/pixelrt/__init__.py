"""PixelRT: your own trained U-Net or image generator, on robots and vehicles."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
