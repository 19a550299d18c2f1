"""Where results go.

| URI | what |
|---|---|
| `out.mp4`, `.mov`, `.mkv` | a video of the overlays (H.264, or MPEG-4 where FFmpeg lacks it) |
| `out-{time}.mp4?encoder=libx264&segment=600&keep=yes` | the same, in files of 10 minutes, always kept |
| `out.mcap?camera=no&overlay=no&quality=90` | pictures, masks, shares and ages for Foxglove; also a source |
| `rerun://`, `rerun://192.168.1.7:9876`, `out.rrd` | the same in the Rerun viewer that runs, or for it |
| `jsonl:`, `-`, `out.jsonl` | one JSON object per frame: times, ages, share of every class |
| `results.npz/?compress=no` | a folder with every output of every frame, for NumPy |
| `masks/` | a folder with a PNG of class ids per frame, at the frame's size, named after the frame |
| `out.png`, `.jpg`, ... | the overlay of a single frame |
| `web://:8080`, `web://0.0.0.0:8080?token=...` | the live page, for this machine or for who has the token |
| `systemd:` | nothing, but tells systemd that results come (`Type=notify`, `WatchdogSec=`) |
| `null:` | nothing, for measuring |

With several sources those that hold one source only (videos, folders of masks, images) are one per source:
`{source}` in the URI stands for its name, as in `out-{source}.mp4`. `{time}` stands for the time of the start
in UTC, `20261128T175646Z`.

Files appear under their names only when they are whole. One that is there is replaced, and where it is a link
what it points to; anything but a file, such as a pipe, is refused. In folders of masks and arrays frames
replace what earlier runs wrote of their names, and the others stay, which is told at the start; an image that
somebody else wrote is never replaced. Recordings of cameras, and those with
`segment` or `keep=yes`, replace nothing: they go on behind the highest number that is there, `out-8.mp4`, and
a camera's masks and arrays go into a new folder, `masks-2`. No part goes where another sink writes. What a
recording could not finish is kept as `out-unfinished.mp4`; after `kill -9` the next run gives it that name.
"""

from __future__ import annotations

from pixelrt.video.sinks.base import Sink
from pixelrt.video.sinks.opening import open_sink, open_sinks, prints, written_by
from pixelrt.video.sinks.places import check_places
from pixelrt.video.sinks.sheet import ContactSheet

__all__ = ["ContactSheet", "Sink", "check_places", "open_sink", "open_sinks", "prints", "written_by"]
