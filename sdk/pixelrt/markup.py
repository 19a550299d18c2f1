"""HTML in which text is escaped unless it is known to be HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


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


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Html]],
    *,
    caption: str | Html = "",
    total: bool = False,
) -> Html:
    """A table; a column whose heading begins with `>` holds numbers.

    Args:
        columns: The headings; a second line is set smaller.
        rows: The cells; the first of a row names it.
        caption: A line below.
        total: Whether the last row sums the others up.
    """
    kinds = ["num" if column.startswith(">") else None for column in columns]
    names = [column.removeprefix(">") for column in columns]
    head = element(
        "tr",
        *(
            element("th", _heading(name), class_=kind, scope="col")
            for name, kind in zip(names, kinds, strict=True)
        ),
    )
    cells = list(rows)
    lines = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)),
            class_="total" if total and index == len(cells) - 1 else None,
        )
        for index, row in enumerate(cells)
    ]
    whole = element("table", element("thead", head), element("tbody", *lines))
    return join(
        element("div", whole, class_="scroll"), element("p", caption, class_="soft") if caption else None
    )


def _heading(text: str) -> Html:
    name, _, more = text.partition("\n")
    return join(name, element("small", more) if more else None)
