"""Connections that ask for nothing: each holds one of the process's descriptors, without any token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from pixelrt.dependency import require

PATIENCE_S = 8.0
"""For a request to come, over a new connection or after an answer."""
SPARE = 64
"""Connections beside those with pictures."""


def protocol(most: int) -> Any:
    """The class of uvicorn's connections, of which there are so many at most.

    One more takes the place of the one that has asked for nothing for the longest time.

    Args:
        most: Connections at once, WebSockets among them.
    """
    base: Any = require("uvicorn.protocols.http.auto", "web", "the live page").AutoHTTPProtocol

    class Connection(base):  # type: ignore[misc]  # a class of a library that is looked up at run time
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.made_s = self.loop.time()
            there = [one for one in self.connections if not one.transport.is_closing()]
            if len(there) > most:
                longest = min(filter(_is_silent, there), key=lambda one: one.made_s)
                longest.transport.abort()

    return Connection


class Patience:
    """Notes who asks for nothing, and cuts who does so for too long.

    Args:
        loop: The connections'.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._since_s: dict[tuple[Any, Any], float] = {}

    async def watch(self, connections: Iterable[Any]) -> None:
        """For ever.

        Args:
            connections: uvicorn's, which change all the time.
        """
        while True:
            await asyncio.sleep(PATIENCE_S / 4)
            now_s = self._loop.time()
            # with the last request, for who has asked again in between begins anew
            silent = [(one, one.cycle) for one in connections if _is_silent(one)]
            self._since_s = {key: self._since_s.get(key, now_s) for key in silent}
            for (one, _), began_s in self._since_s.items():
                if now_s - began_s > PATIENCE_S:
                    one.transport.abort()


def _is_silent(connection: Any) -> bool:
    """Whether no whole request of it waits for its answer; WebSockets have no `cycle`."""
    cycle = getattr(connection, "cycle", connection)
    return cycle is None or (cycle is not connection and cycle.response_complete)
