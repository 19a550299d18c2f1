"""What to say where there is no such source: what is near, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from pixelrt.strict import suggestion
from pixelrt.video.sources.hiding import without_secrets

_NETWORK = re.compile(
    r"\S+:\S*@\S+"  # a user and a password
    r"|(?:\S+@)?(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\])(?::\d{1,5})?(?:/.*)?"
    r"|(?:\S+@)?[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*:\d{1,5}(?:/.*)?",
    re.IGNORECASE,
)
"""A camera's address without its scheme."""


def missing(text: str, schemes: Collection[str], known: str) -> str:
    """Why a path that is not there is no source.

    Args:
        text: The path, as it was given.
        schemes: Those of addresses.
        known: Which sources there are.
    """
    shown = without_secrets(text)
    if meant := _address_meant(text, schemes):
        return f"{shown} does not exist; did you mean the address {without_secrets(meant)}?"
    if _NETWORK.fullmatch(text):
        return (
            f"{shown} does not exist; if it is a camera in the network, write its whole address, such as "
            f"rtsp://{shown} or http://{shown} (its manual says which)"
        )
    if shown != text:
        return f"{shown} does not exist, and it does not begin as an address does; expected {known}"
    return _missing_file(Path(text), known)


def _address_meant(text: str, schemes: Collection[str]) -> str:
    """The address, where only its slashes are wrong, as in `rtsp:/camera/live`; else nothing."""
    match = re.fullmatch(rf"({'|'.join(map(re.escape, schemes))})(?::/?|//)([^/\s:].*)", text, re.IGNORECASE)
    return f"{match[1]}://{match[2]}" if match else ""


def _missing_file(path: Path, known: str) -> str:
    folder = path.parent
    if not folder.is_dir():
        present = next(parent for parent in folder.parents if parent.is_dir())
        return f"{path} does not exist: there is no folder {folder}; {present} exists"
    hint = suggestion(path.name, [item.name for item in folder.iterdir()])
    return f"{path} does not exist{hint}; expected {known}"
