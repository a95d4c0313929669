"""HTML in which nothing but our own markup is markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Self


class Html(str):
    """Text that is HTML already; every other text is escaped on its way into an element."""

    __slots__ = ()

    @classmethod
    def join(cls, parts: Iterable[Html]) -> Self:  # type: ignore[override]
        """Pieces of HTML one after the other."""
        return cls("".join(parts))


_VOID = frozenset({"input", "br", "meta"})
_BASE64 = re.compile(r"[A-Za-z0-9+/=]*")


def element(tag: str, *children: str, **attributes: str | bool) -> Html:
    """An element whose children are text, which is escaped, or :class:`Html`.

    Of the attributes, ``class_`` stands for ``class`` and ``aria_label`` for ``aria-label``; ``True`` gives an
    attribute without a value, ``False`` none.
    """
    shown = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for name, value in attributes.items()
        if value is not False
    )
    body = "".join(child if isinstance(child, Html) else escape(child) for child in children)
    return Html(f"<{tag}{shown}>" if tag in _VOID else f"<{tag}{shown}>{body}</{tag}>")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, numbers_from: int = 1) -> Html:
    """A table that scrolls sideways where the screen is narrow; the first cell of a row is its heading.

    Columns from ``numbers_from`` on are aligned to the right.
    """
    head = element("tr", *(_cell("th", text, at >= numbers_from, scope="col") for at, text in enumerate(headings)))
    body = []
    for first, *rest in rows:
        cells = (_cell("td", text, at >= numbers_from) for at, text in enumerate(rest, start=1))
        body.append(element("tr", _cell("th", first, numbers_from < 1, scope="row"), *cells))
    content = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)


def data_script(identity: str, data: str) -> Html:
    """Data for the page's script, in letters and digits that cannot end the element.

    Raises:
        ValueError: if there is anything else in it than the alphabet of base64.
    """
    if not _BASE64.fullmatch(data):
        raise ValueError("the data are not base64")
    return Html(f'<script type="text/plain" id="{identity}">{data}</script>')


def _cell(tag: str, text: str, is_number: bool, **attributes: str) -> Html:
    return element(tag, text, class_="number", **attributes) if is_number else element(tag, text, **attributes)
