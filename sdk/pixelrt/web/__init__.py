"""The live page: cameras, what was seen in them, and how it goes, in any browser.

    page = Page(PageOptions(port=8080))
    print(page.start())
    page.publish("front", View(image=image, mask=mask, classes=classes, overlay=draw))
    page.stop()

| path | what |
|---|---|
| `/` | the page |
| `/stream/NAME.mjpg` | overlays of a camera for tools without WebSockets (curl, VLC, an `img` element) |
| `/snapshot/NAME.png` | its newest overlay at full size |
| `/api/status` | health and numbers as JSON |
| `/live` | the WebSocket of the page |

It knows nothing of sources and sinks; `pixelrt.video.sinks` has what shows a stream on it.
"""

from __future__ import annotations

from pixelrt.web.numbers import CameraNumbers, Numbers, SinkNumbers, StageNumbers, State
from pixelrt.web.options import PageOptions
from pixelrt.web.page import Page
from pixelrt.web.view import View

__all__ = [
    "CameraNumbers",
    "Numbers",
    "Page",
    "PageOptions",
    "SinkNumbers",
    "StageNumbers",
    "State",
    "View",
]
