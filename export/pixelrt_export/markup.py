"""HTML in which text is escaped unless it is known to be HTML."""

from __future__ import annotations

import html


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: str | None, **attributes: str | None) -> Html:
    """One element. Plain strings are escaped, `Html` is not, None is left out.

    Args:
        name: `td`, `figure`, ...
        children: What it holds.
        attributes: Their values, escaped; a trailing underscore in a name is dropped (`class_`), the others
            become hyphens (`aria_label`).
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value, quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "meta", "br", "col"):
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """Several pieces one after the other, escaped where they are plain text."""
    return Html(
        "".join(child if isinstance(child, Html) else html.escape(child) for child in children if child)
    )
