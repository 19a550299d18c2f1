"""Where results go.

| URI | what |
|---|---|
| `out.mp4`, `.mov`, `.mkv` | a video of the overlays (H.264, or MPEG-4 where FFmpeg lacks it) |
| `out.mp4?encoder=libx264&segment=600&keep=yes` | the same, in files of 10 minutes, never thrown away |
| `out.mcap?camera=no&overlay=yes&quality=90` | pictures, masks, shares and ages for Foxglove; also a source |
| `rerun://`, `rerun://192.168.1.7:9876`, `out.rrd` | the same in the Rerun viewer that runs, or for it |
| `jsonl:`, `-`, `out.jsonl` | one JSON object per frame: times, ages, share of every class |
| `results.npz/?compress=no` | a folder with every output of every frame, for NumPy |
| `masks/` | a folder with a PNG of class ids per frame, at the frame's size, named after the frame |
| `out.png`, `.jpg`, ... | the overlay of a single frame |
| `web://:8080`, `web://0.0.0.0:8080?token=...` | the live page, for this machine or for who has the token |
| `systemd:` | nothing, but tells systemd that results come (`Type=notify`, `WatchdogSec=`) |
| `null:` | nothing, for measuring |

With several sources those that hold one source only (videos, folders of masks, images) are one per source:
`{source}` in the URI stands for its name, as in `out-{source}.mp4`.

Files are replaced if they exist, and appear under their names only when they are whole.
"""

from __future__ import annotations

from pixelrt.video.sinks.base import Sink
from pixelrt.video.sinks.opening import open_sink, open_sinks, prints, written_by
from pixelrt.video.sinks.places import check_places
from pixelrt.video.sinks.sheet import ContactSheet

__all__ = ["ContactSheet", "Sink", "check_places", "open_sink", "open_sinks", "prints", "written_by"]
