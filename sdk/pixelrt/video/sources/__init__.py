"""Where frames come from.

| URI | what |
|---|---|
| `drive.mp4` | a video file |
| `photo.png` | an image |
| `photos/` | a folder of images, naturally sorted; `images/` beside `labels/` has ground truth |
| `drive.mcap?topic=/camera/image_raw`, `.bag`, `.db3`, a folder of ROS 2 | a recording |
| `bag://PATH?topic=...` | a recording of any name |
| `0`, `/dev/video0?size=720x1280&fps=30&format=mjpeg&stall=5`, `v4l2:///dev/v4l/by-id/...` | a camera |
| `csi://0?size=1080x1920&fps=30&flip=rotate-180&mode=2&stall=10` | a camera of a Jetson |
| `gst://v4l2src ! jpegdec` | a pipeline of GStreamer; an appsink is added |
| `rtsp://user:password@camera/live`, `rtsps://`, `http://camera/mjpeg`, `https://`, `rtmp://` | IP cameras |
| `udp://:5000`, `tcp://host:5000`; `srt://host:5000` where FFmpeg has it | MPEG-TS on the network |
| `test://drive?frames=300&size=720x1280&seed=7` | a drawn drive with ground truth (size: height x width) |

| object | what |
|---|---|
| a list, a generator, a function, a batch uint8[N, H, W, 3] | frames of the program (`IteratorSource`) |
| `PushSource()` | frames that a camera's callback hands over with `push` |

`as_source` takes all of these. Options of network addresses stand behind `#` (`#transport=udp&wait=yes`; see
`pixelrt.video.sources.network`).
"""

from __future__ import annotations

from pixelrt.video.sources.base import DEFAULT_FPS, Frame, Source
from pixelrt.video.sources.iterator import IteratorSource
from pixelrt.video.sources.masks import Mask, MaskSource, open_masks
from pixelrt.video.sources.objects import as_source
from pixelrt.video.sources.opening import open_source
from pixelrt.video.sources.push import PushSource

__all__ = [
    "DEFAULT_FPS",
    "Frame",
    "IteratorSource",
    "Mask",
    "MaskSource",
    "PushSource",
    "Source",
    "as_source",
    "open_masks",
    "open_source",
]
