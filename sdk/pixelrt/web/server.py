"""An event loop in a thread of its own that serves the page."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pixelrt.dependency import require
from pixelrt.web.application import application
from pixelrt.web.assets import Assets
from pixelrt.web.guard import Guard
from pixelrt.web.hub import Hub
from pixelrt.web.numbers import Numbers
from pixelrt.web.options import PageOptions
from pixelrt.web.viewer import LONGEST

PATIENCE_S = 8.0
"""For a request to come over a new connection."""
_GRACE_S = 0.5
"""For connections to end by themselves; then they are cut."""


class Server:
    """Runs from its making to `stop`.

    Args:
        listening: Where browsers connect; closed in the end.
        options: How.
        token: What viewers must know; None for none.
        numbers: See `Hub`.
    """

    def __init__(
        self,
        listening: socket.socket,
        options: PageOptions,
        token: str | None,
        numbers: Callable[[], Numbers],
    ) -> None:
        self.problem: BaseException | None = None
        """Why it stopped by itself."""
        self._loop = asyncio.new_event_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="pixelrt-web-encoder")
        self.hub = Hub(options, numbers, Assets.load(), self._loop, self._executor)
        guarded = Guard(application(self.hub), token=token, port=listening.getsockname()[1])
        self._uvicorn = _uvicorn(guarded)
        self._listening = listening
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="pixelrt-web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End every connection and the thread; safe to call twice."""
        with contextlib.suppress(RuntimeError):  # the loop ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._listening.close()
            self._executor.shutdown()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        work = [
            asyncio.create_task(self._uvicorn.serve(sockets=[self._listening])),
            asyncio.create_task(self.hub.tick()),
            asyncio.create_task(self._cut_silent()),
            asyncio.create_task(self._stop.wait()),
        ]
        serving = work[0]
        ended, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        self.problem = next(filter(None, (task.exception() for task in ended)), None)
        self.hub.stop()
        self._uvicorn.should_exit = True
        await asyncio.wait([serving], timeout=_GRACE_S)
        for connection in list(self._uvicorn.server_state.connections):
            connection.transport.abort()  # frozen: it would never take the rest
        for task in work[1:]:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    async def _cut_silent(self) -> None:
        """Cut connections that ask for nothing, for ever: each holds one of the process's descriptors."""
        since_s: dict[Any, float] = {}
        while True:
            await asyncio.sleep(PATIENCE_S / 4)
            now_s = self._loop.time()
            silent = [one for one in self._uvicorn.server_state.connections if _is_silent(one)]
            since_s = {one: since_s.get(one, now_s) for one in silent}
            for one, began_s in since_s.items():
                if now_s - began_s > PATIENCE_S:
                    one.transport.abort()


def _is_silent(connection: Any) -> bool:
    """Whether it never sent a whole request; WebSockets did."""
    return getattr(connection, "cycle", connection) is None


def _uvicorn(guarded: Guard) -> Any:
    uvicorn = require("uvicorn", "web", "the live page")
    require("websockets", "web", "the live page")
    config = uvicorn.Config(
        guarded,
        loop="none",
        ws="websockets-sansio",
        ws_max_size=LONGEST,
        ws_per_message_deflate=False,  # pictures are compressed already
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    return uvicorn.Server(config)
