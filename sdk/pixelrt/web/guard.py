"""Who may see the page: everything goes through here."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address may hold the token
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused."""

    status: int
    text: str


class Guard:
    """Lets through who knows the token; without one, who comes from this machine's own pages.

    Without a token only this machine can connect, but that includes its browser, and so every page that is
    open there: `Host` tells pages that gave themselves this machine's address (DNS rebinding), `Origin` and
    `Sec-Fetch-Site` tell pages of other servers.

    Args:
        application: What is guarded.
        token: What must be known; None for a page that only this machine can reach. It names the cookie, too:
            a browser has one jar for all ports of a name, and behind containers and tunnels several pages
            have the same name and, as they see it, the same port.
    """

    def __init__(self, application: Application, *, token: str | None) -> None:
        self._application, self._token = application, token
        self._cookie = f"pixelrt-{hashlib.sha256((token or '').encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._stranger(headers) or self._foreign(scope, headers) or self._ignorant(scope, headers)
        sending = self._with_headers(scope, send)
        scope["query_string"] = b""  # uvicorn logs the address of WebSockets, and nobody else reads it
        if refusal is not None:
            await _refuse(scope, headers, receive, send, refusal)
        else:
            await self._application(scope, receive, sending)

    def _stranger(self, headers: Mapping[str, str]) -> Refusal | None:
        host = headers.get("host", "")
        if self._token is not None or _is_this_machine(host):
            return None
        return Refusal(
            403,
            f"The page was asked for under the name {host!r}. Without a token it is served only to this "
            "machine, as localhost or 127.0.0.1. Serve it with a token to use other names: "
            "web://127.0.0.1:8080?token=...",
        )

    def _foreign(self, scope: Scope, headers: Mapping[str, str]) -> Refusal | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is not None and (not host or origin.partition("://")[2].lower() != host.lower()):
            return Refusal(
                403,
                f"A page of {origin} asked for data of {host}. Only the live page itself may; a proxy "
                "in between has to pass the Host header on.",
            )
        navigates = scope["type"] == "http" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not navigates:
            return Refusal(
                403, "Another page asked for data of the live page. Only the live page itself may."
            )
        return None

    def _ignorant(self, scope: Scope, headers: Mapping[str, str]) -> Refusal | None:
        if self._token is None or any(self._is_right(given) for given in self._given(scope, headers)):
            return None
        return Refusal(
            401,
            "This page needs a token. Open the address that was printed when it was started; it ends in "
            "?token=...",
        )

    def _given(self, scope: Scope, headers: Mapping[str, str]) -> list[str]:
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        cookies = [value for name, _, value in pairs if name == self._cookie]
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        return [*_asked(scope), *cookies, *([bearer.strip()] if scheme.lower() == "bearer" else [])]

    def _is_right(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
        if self._token is not None and any(map(self._is_right, _asked(scope))):
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            extra.append((b"set-cookie", cookie.encode()))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        return sending


def _asked(scope: Scope) -> list[str]:
    return parse_qs(scope["query_string"].decode("latin-1")).get("token", [])


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that do not close
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:  # a name
        return False


async def _refuse(
    scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send, refusal: Refusal
) -> None:
    wants_html = "text/html" in headers.get("accept", "")
    body = (_page(refusal) if wants_html else f"{refusal.text}\n").encode()
    told = dict(_HEADERS)
    if scope["type"] == "http":  # uvicorn itself writes these for a WebSocket
        kind = "text/html" if wants_html else "text/plain"
        told |= {"content-type": f"{kind}; charset=utf-8", "content-length": str(len(body))}
    if refusal.status == 401:
        told["www-authenticate"] = 'Bearer realm="PixelRT"'
    prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    lines = [(name.encode(), value.encode()) for name, value in told.items()]
    await send({"type": f"{prefix}.start", "status": refusal.status, "headers": lines})
    await send({"type": f"{prefix}.body", "body": body})
    if scope["type"] == "websocket":
        await _ended(receive)


async def _ended(receive: Receive) -> None:
    """Wait for the end of a refused WebSocket; uvicorn calls it an error if there is none."""
    while (await receive())["type"] != "websocket.disconnect":
        pass
    await asyncio.sleep(0)


def _page(refusal: Refusal) -> str:
    title = "Token needed" if refusal.status == 401 else "Not allowed"
    form = (
        '<form action="/"><p><label>Token <input name="token" type="password" required></label> '
        "<button>Open</button></p></form>"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} - PixelRT</title><main><h1>{title}</h1><p>{html.escape(refusal.text)}</p>"
        f"{form if refusal.status == 401 else ''}</main></html>"
    )
