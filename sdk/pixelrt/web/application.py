"""The paths of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pixelrt.dependency import require
from pixelrt.strict import suggestion
from pixelrt.web.assets import PAGE
from pixelrt.web.guard import Application
from pixelrt.web.hub import Hub
from pixelrt.web.mjpeg import MjpegResponse
from pixelrt.web.viewer import Viewer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.websockets import WebSocket

_PURPOSE = "the live page"


def application(hub: Hub) -> Application:
    """What answers requests; `guard.Guard` decides whose.

    Args:
        hub: What there is to see.
    """
    routing = require("starlette.routing", "web", _PURPOSE)
    paths = _Paths(hub)
    routes = [
        routing.Route("/", paths.page),
        routing.Route("/assets/{name}", paths.asset),
        routing.Route("/api/status", paths.status),
        routing.Route("/stream/{name:path}.mjpg", paths.stream),
        routing.Route("/snapshot/{name:path}.png", paths.snapshot),
        routing.WebSocketRoute("/live", paths.live),
    ]
    made: Application = require("starlette.applications", "web", _PURPOSE).Starlette(routes=routes)
    return made


class _Paths:
    """One method for each path."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._responses = require("starlette.responses", "web", _PURPOSE)
        self._refused = require("starlette.exceptions", "web", _PURPOSE).HTTPException

    async def page(self, request: Request) -> Any:
        return self._asset(PAGE)

    async def asset(self, request: Request) -> Any:
        name = request.path_params["name"]
        if name not in self._hub.assets.files:
            raise self._refused(404)
        return self._asset(name)

    async def status(self, request: Request) -> Any:
        return self._responses.JSONResponse(await self._hub.status())

    async def stream(self, request: Request) -> Any:
        channel = self._channel(request)
        if self._hub.is_full:
            most = self._hub.options.max_viewers
            raise self._refused(503, f"{most} viewers look already; try again later")
        return MjpegResponse(channel, self._hub)

    async def snapshot(self, request: Request) -> Any:
        channel = self._channel(request)
        if channel.view is None:
            raise self._refused(503, f"camera {channel.name!r} has shown nothing yet; try again later")
        picture = await channel.encoded("snapshot")
        return self._responses.Response(picture.content, media_type="image/png")

    async def live(self, socket: WebSocket) -> None:
        await Viewer(socket, self._hub).serve()

    def _asset(self, name: str) -> Any:
        asset = self._hub.assets.files[name]
        return self._responses.Response(asset.content, headers={"content-type": asset.kind})

    def _channel(self, request: Request) -> Any:
        name, channels = request.path_params["name"], self._hub.channels
        if name not in channels:
            known = ", ".join(channels) or "none yet"
            raise self._refused(
                404, f"no camera {name!r}{suggestion(name, list(channels))}; there is: {known}"
            )
        return channels[name]
