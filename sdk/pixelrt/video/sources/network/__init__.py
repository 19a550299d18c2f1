"""Network cameras and streams: RTSP, HTTP, UDP, TCP, RTMP and SRT, read by FFmpeg (PyAV).

| URI | what |
|---|---|
| `rtsp://user:password@camera/live`, `rtsps://` | an IP camera |
| `http://camera/mjpeg`, `https://` | MJPEG or MPEG-TS without end, or a video file |
| `udp://:5000`, `udp://@239.0.0.1:5000` | MPEG-TS that is sent to this machine, also by multicast |
| `tcp://host:5000` | MPEG-TS or bare H.264 from a server |
| `rtmp://host/app/stream`, `rtmps://` | FLV |
| `srt://host:5000` | MPEG-TS, where FFmpeg was built with SRT (PyAV's wheels are not) |

Options stand behind `#`, because the query is the camera's own: `rtsp://camera/live?channel=1#transport=udp`.

| option | default | what |
|---|---|---|
| `transport` | tcp | of RTSP: `tcp`, `udp`, or `auto` (UDP, then TCP if the camera refuses it) |
| `connect` | 5 | seconds in which each step of connecting must be done |
| `stall` | 5 | seconds without data of a frame after which the connection is dropped (below) |
| `reconnect` | yes | whether a live stream that broke is connected again, however long it takes |
| `wait` | no | whether a camera that is not there yet is waited for |
| `backoff`, `backoff_most` | 0.5, 10 | bounds in seconds of the first and the longest wait between tries |
| `live` | auto | HTTP: `no` is a file, of which every frame counts; `auto`: what has a length is one |
| `verify` | yes | whether the certificate of `rtsps`, `https` and `rtmps` is checked |

A camera that sends data, and nothing that can be decoded, is given 30 s, or `stall` where that is longer: its
next keyframe may be so far away. Sound and the like are no data of a frame.

A `#`, `@`, `/` or `%` in a password is written `%23`, `%40`, `%2F`, `%25`. Users, passwords and tokens, also
those in paths and queries, are in no message, event, log and name.

How old are frames? FFmpeg knows that a picture of H.264 or H.265 is complete when the next one begins: one
frame (RTSP, bare H.264) or two (MPEG-TS) after it was sent, 33 or 67 ms at 30 fps; MJPEG with lengths has no
such delay. `captured_s` is the time when the first data of the picture came, so the age of a result holds
that delay. Where it matters more than anything, `gst://` reads RTSP without it.

`time_s` is by the camera's count, as long as that is less than a second away from the time of arrival; MJPEG
over HTTP and bare H.264 have none, and times of arrival. A film has its own times, however it is read.

Over UDP (`udp://`, `transport=udp`) packets get lost. A picture with holes is left out with all that build on
it, and so are those after one that is missing whole, as far as the times of a camera with an even pace show
it; with an uneven pace some may show traces of it until the next keyframe. So may some of RTSP, where FFmpeg
does not say which packets are missing: of H.265 more than of H.264. Over TCP nothing is missing.
"""

from __future__ import annotations

from pixelrt.video.sources.network.opening import SCHEMES, open_network

__all__ = ["SCHEMES", "open_network"]
