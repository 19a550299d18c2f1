"""The page as a program uses it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pixelrt.closing import Closing
from pixelrt.dependency import require
from pixelrt.errors import SinkError
from pixelrt.interrupts import uninterrupted
from pixelrt.web.listening import address_of, is_private, listen
from pixelrt.web.numbers import Numbers
from pixelrt.web.options import PageOptions, new_token
from pixelrt.web.server import Server
from pixelrt.web.view import View


class Page(Closing):
    """Serves the live page; may be used from any thread, and is a context manager.

    Publishing costs the caller a few microseconds: pictures are encoded in another thread, once for all
    viewers, and only while somebody looks. A slow or dead browser is behind by itself and holds nobody up.

    Args:
        options: Where and how.
        numbers: Gives the numbers; called about twice a second, in another thread, while somebody looks.
    """

    def __init__(
        self, options: PageOptions | None = None, *, numbers: Callable[[], Numbers] = Numbers
    ) -> None:
        self.options = options or PageOptions()
        self._numbers = numbers
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._url = ""

    def __repr__(self) -> str:
        state = self._url.partition("?")[0] if self._server else "not served"
        return f"Page({state})"

    @property
    def url(self) -> str:
        """Where it is, with the token in it; empty before `start`."""
        return self._url

    def start(self) -> str:
        """Serve it.

        Returns:
            Its address, with the token in it where one is needed.

        Raises:
            SinkError: If the port is taken, the address is not this machine's, or the page is served already.
            MissingDependency: If a library of the extra `web` is not installed.
        """
        for library in ("starlette", "uvicorn", "websockets"):
            require(library, "web", "the live page")
        with self._lock:
            if self._server is not None:
                raise SinkError(f"the live page is served already, at {self._url}")
            listening = listen(self.options.host, self.options.port)
            token = self.options.token or (None if is_private(listening) else new_token())
            self._url = f"http://{address_of(listening)}/" + (f"?token={token}" if token else "")
            with uninterrupted():  # it has a thread already, which `stop` must find
                self._server = Server(listening, self.options, token, self._numbers)
        return self._url

    def announce(self, camera: str) -> None:
        """Show that there is a camera, before its first view.

        Args:
            camera: Its name.

        Raises:
            SinkError: If the page is not served.
        """
        with self._lock:
            self._running().hub.announce(camera)

    def publish(self, camera: str, view: View) -> None:
        """Show the newest view of a camera.

        Args:
            camera: Its name.
            view: Shared with the page until a newer one comes: its arrays must not change.

        Raises:
            SinkError: If the page is not served.
        """
        with self._lock:
            self._running().hub.publish(camera, view)

    def close(self) -> None:
        """As `stop`."""
        self.stop()

    def stop(self) -> None:
        """End every connection, and give back the port. Safe to call twice; `start` serves it again."""
        with self._lock:
            server, self._server, self._url = self._server, None, ""
        if server is not None:
            server.stop()

    def _running(self) -> Server:
        if self._server is None:
            raise SinkError("the live page is not served; start() it first")
        if self._server.problem is not None:
            raise SinkError(
                f"the live page has failed: {self._server.problem}; stop() and start() it again"
            ) from self._server.problem
        return self._server
