"""An event loop in a thread of its own that serves the page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pixelrt.dependency import require
from pixelrt.interrupts import started
from pixelrt.web.application import application
from pixelrt.web.assets import Assets
from pixelrt.web.connections import SPARE, Patience, protocol
from pixelrt.web.guard import Guard
from pixelrt.web.hub import Hub
from pixelrt.web.numbers import Numbers
from pixelrt.web.options import PageOptions
from pixelrt.web.viewer import LONGEST

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
        guarded = Guard(application(self.hub), token=token)
        self._uvicorn = _uvicorn(guarded, options.max_viewers + SPARE)
        self._listening = listening
        self._stop = asyncio.Event()
        self._thread = started(threading.Thread(target=self._run, name="pixelrt-web", daemon=True))

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
            asyncio.create_task(Patience(self._loop).watch(self._uvicorn.server_state.connections)),
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


def _uvicorn(guarded: Guard, most: int) -> Any:
    uvicorn = require("uvicorn", "web", "the live page")
    require("websockets", "web", "the live page")
    config = uvicorn.Config(
        guarded,
        loop="none",
        http=protocol(most),
        ws="websockets-sansio",
        ws_max_size=LONGEST,
        ws_per_message_deflate=False,  # pictures are compressed already
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level=_log_level(),
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    return uvicorn.Server(config)


def _log_level() -> str | None:
    """Of uvicorn; None leaves it as it is."""
    logger = logging.getLogger("uvicorn.error")
    if not logger.hasHandlers():
        return "error"  # Python would print warnings into what the run shows
    # below that whole requests are logged, with the token and the cookie
    return "info" if logger.isEnabledFor(logging.DEBUG) else None
