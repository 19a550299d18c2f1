"""Where frames come from.

| URI | what |
|---|---|
| `drive.mp4` | a video file |
| `photo.png` | an image |
| `photos/` | a folder of images, naturally sorted; `images/` beside `labels/` has ground truth |
| `0`, `/dev/video0`, `v4l2:///dev/video0` | a camera |
| `test://drive?frames=300&size=720x1280&seed=7` | a drawn drive with ground truth (size: height x width) |
"""

from __future__ import annotations

from pixelrt.video.sources.base import DEFAULT_FPS, Frame, Source
from pixelrt.video.sources.masks import Mask, MaskSource, open_masks
from pixelrt.video.sources.opening import open_source

__all__ = ["DEFAULT_FPS", "Frame", "Mask", "MaskSource", "Source", "open_masks", "open_source"]
