"""Images, films and arrays as files, whole or not at all.

| file | how |
|---|---|
| `.png` and other images | OpenCV, lossless where the format is |
| `.mp4`, `.mov`, `.mkv` | H.264 in 4:2:0 by FFmpeg (MPEG-4 where it has no libx264), BT.709 |
| `.gif` | FFmpeg: a palette of its own for every image, errors diffused (Sierra 2-4A), repeated for ever |
| `.npz` | NumPy's arrays, compressed |

Images are uint8[H, W] or uint8[H, W, 1] grey, or uint8[H, W, 3] RGB. 4:2:0 needs even sides: an odd one is
made even by repeating the last row or column, and no other pixel is touched. A GIF takes every size; grey
images are in it without loss, and those of up to 256 colours but for the rounding of their palette.
"""

from __future__ import annotations

from pixelrt.encoding.arrays import ArraysEncoder, whole_number
from pixelrt.encoding.drafts import Draft, is_being_written, rescue, sweep, write_whole, writing_progress
from pixelrt.encoding.encoders import AUTOMATIC, ENCODERS, SOFTWARE
from pixelrt.encoding.files import explained, real_place, temporary_for
from pixelrt.encoding.film import FASTEST_FPS, FASTEST_GIF_FPS, FORMATS, SLOWEST_FPS, check_film
from pixelrt.encoding.folder import FRAME_SIZE, ImageFolder
from pixelrt.encoding.gif import GifEncoder
from pixelrt.encoding.images import IMAGES, encode_image, encode_png
from pixelrt.encoding.video import VideoEncoder
from pixelrt.encoding.writing import write_gif, write_video

__all__ = [
    "AUTOMATIC",
    "ENCODERS",
    "FASTEST_FPS",
    "FASTEST_GIF_FPS",
    "FORMATS",
    "FRAME_SIZE",
    "IMAGES",
    "SLOWEST_FPS",
    "SOFTWARE",
    "ArraysEncoder",
    "Draft",
    "GifEncoder",
    "ImageFolder",
    "VideoEncoder",
    "check_film",
    "encode_image",
    "encode_png",
    "explained",
    "is_being_written",
    "real_place",
    "rescue",
    "sweep",
    "temporary_for",
    "whole_number",
    "write_gif",
    "write_video",
    "write_whole",
    "writing_progress",
]
