"""The WebSocket of one open page: pictures and numbers to it, what it wants to see from it.

| from | message | meaning |
|---|---|---|
| server | JSON text `{"type": "hello", ...}` | the cameras and their classes; again when they change |
| server | JSON text `{"type": "numbers", ...}` | health and numbers, twice a second |
| server | bytes | a picture with its classes, see `view.packed` |
| page | JSON text `{"watch": [0, 2]}` | the numbers of the cameras that it shows |
| page | JSON text `{"seen": 2}` or `{"seen": "numbers"}` | that was drawn, and the next may come |

Nothing is sent before the one before was seen, and then the newest: whatever happens to a browser, one
picture of each camera that it shows waits for it, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from pixelrt.dependency import require
from pixelrt.web.hub import Hub, Listener

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

LONGEST = 16_384
_GOING, _MISUSED, _BUSY = 1001, 1008, 1013
_NUMBERS = "numbers"


class _MisuseError(Exception):
    """The other side does not speak as a page does."""


class Viewer:
    """One connection.

    Args:
        socket: Not accepted yet.
        hub: What there is to see.
    """

    def __init__(self, socket: WebSocket, hub: Hub) -> None:
        self._socket, self._hub = socket, hub
        self._watched: tuple[int, ...] = ()
        self._sent: dict[int, int] = {}
        self._unseen: set[int | str] = set()
        self._generation = -1

    async def serve(self) -> None:
        """Until one of the two sides ends it."""
        gone = require("starlette.websockets", "web", "the live page").WebSocketDisconnect
        await self._socket.accept()
        if self._hub.is_full:
            most = self._hub.options.max_viewers
            await self._socket.close(_BUSY, f"{most} viewers look already; try again later")
            return
        with self._hub.listening() as listener:
            tasks = [asyncio.create_task(work(listener)) for work in (self._receive, self._send)]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(gone):
            await self._end(ends)

    async def _end(self, ends: list[BaseException | None]) -> None:
        problem = next((end for end in ends if isinstance(end, Exception)), None)
        if isinstance(problem, _MisuseError):
            await self._socket.close(_MISUSED, str(problem))
        elif problem is not None:
            raise problem
        elif self._hub.stopping:
            await self._socket.close(_GOING, "the page was stopped")

    async def _receive(self, listener: Listener) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._obey(message.get("text"))
            listener.event.set()

    def _obey(self, text: str | None) -> None:
        try:
            order = json.loads(text or "")
        except (ValueError, RecursionError):
            raise _MisuseError("expected JSON text") from None
        match order:
            case {"watch": [*numbers]} if all(type(number) is int for number in numbers):
                self._watched = tuple(dict.fromkeys(numbers))
            case {"seen": int() | "numbers" as what}:
                self._unseen.discard(what)
            case _:
                raise _MisuseError('expected {"watch": [...]} or {"seen": ...}')

    async def _send(self, listener: Listener) -> None:
        with contextlib.ExitStack() as heard:
            heard_of: set[str] = set()
            while not self._hub.stopping:
                for name, channel in self._hub.channels.items():
                    if name not in heard_of:
                        heard.enter_context(channel.heard_by(listener.event))
                        heard_of.add(name)
                listener.event.clear()
                await self._send_texts(listener)
                await self._send_pictures()
                await listener.event.wait()

    async def _send_texts(self, listener: Listener) -> None:
        if self._generation != self._hub.generation:
            self._generation = self._hub.generation
            await self._socket.send_text(self._hub.hello())
        if listener.numbers is not None and _NUMBERS not in self._unseen:
            text, listener.numbers = listener.numbers, None
            self._unseen.add(_NUMBERS)
            await self._socket.send_text(text)

    async def _send_pictures(self) -> None:
        channels = dict(enumerate(self._hub.channels.values()))
        for number in filter(channels.__contains__, self._watched):
            channel = channels[number]
            if number not in self._unseen and channel.sequence > self._sent.get(number, 0):
                self._unseen.add(number)
                picture = await channel.encoded("live")
                self._sent[number] = picture.sequence
                await self._socket.send_bytes(picture.content)
