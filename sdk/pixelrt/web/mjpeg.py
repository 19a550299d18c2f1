"""A camera's overlays as one response that never ends, for tools without WebSockets."""

from __future__ import annotations

import asyncio

from pixelrt.web.channel import Channel
from pixelrt.web.guard import Receive, Scope, Send
from pixelrt.web.hub import Hub

_BOUNDARY = "frame"


class MjpegResponse:
    """An ASGI application that streams one camera; what the peer does not take in time is left out.

    Args:
        channel: The camera.
        hub: Which it is of.
    """

    def __init__(self, channel: Channel, hub: Hub) -> None:
        self._channel, self._hub = channel, hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the peer has gone, or the page stops."""
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        headers = [(b"content-type", kind.encode()), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] != "HEAD":
            await self._stream(receive, send)
        await send({"type": "http.response.body", "body": b""})

    async def _stream(self, receive: Receive, send: Send) -> None:
        with self._hub.listening() as listener, self._channel.heard_by(listener.event):
            gone = asyncio.create_task(_until_gone(receive, listener.event))
            try:
                sent = 0
                while not self._hub.stopping and not gone.done():
                    listener.event.clear()
                    if self._channel.sequence > sent:
                        picture = await self._channel.encoded("overlay")
                        sent = picture.sequence
                        await send(
                            {"type": "http.response.body", "body": _part(picture.content), "more_body": True}
                        )
                    else:
                        await listener.event.wait()
            finally:
                gone.cancel()


async def _until_gone(receive: Receive, event: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    event.set()


def _part(content: bytes) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n"
