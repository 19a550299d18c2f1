"""Where the page is served, to whom, and how good its pictures are."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from pixelrt.errors import InputError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
SHORTEST_TOKEN = 12
"""Characters; each holds up to six bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """How a page is served.

    Raises:
        InputError: If a value cannot be used.
    """

    host: str = DEFAULT_HOST
    """Address or name to serve on; `0.0.0.0` (all of IPv4) or `::` (all) for other machines."""
    port: int = DEFAULT_PORT
    """0 takes one that is free."""
    token: str | None = None
    """What a viewer must know. None: nothing where only this machine can connect, a new one elsewhere."""
    title: str = "PixelRT"
    """Above the page."""
    quality: int = 80
    """Of JPEG pictures, 1..100."""
    longest_side: int = 1280
    """Pixels; larger camera pictures are made smaller for the page. Masks keep the network's size."""
    max_viewers: int = 50
    """Connections with pictures at once; more are told to come back later."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"port is {self.port}, expected 1 to 65535, or 0 for one that is free")
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality is {self.quality}, expected 1 to 100; 80 is usual")
        if self.longest_side < 16:
            raise InputError(f"longest_side is {self.longest_side}, expected at least 16 pixels")
        if self.max_viewers < 1:
            raise InputError(f"max_viewers is {self.max_viewers}, expected at least 1")
        if self.token is not None:
            check_token(self.token)


def check_token(token: str) -> None:
    """Refuse a token that could be guessed, or could not stand in an address and in a cookie.

    Raises:
        InputError: If it is too short or has other characters.
    """
    if not re.fullmatch(r"[A-Za-z0-9._~-]+", token) or len(token) < SHORTEST_TOKEN:
        raise InputError(
            f"the token has {len(token)} character{'' if len(token) == 1 else 's'}, expected at least "
            f"{SHORTEST_TOKEN} of A-Z a-z 0-9 . _ ~ -; leave it out and one is made"
        )


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(18)
