"""Safe HTML: every text and every attribute is escaped, because elements are made by functions.

There is no template into which a name could be pasted, no attribute that runs code, no inline
style, and no address but an anchor of the page or a ``data:`` of a kind that runs nothing.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any

from imgwas.errors import UsageError, explain

#: What may stand inside an element.
Child = Any
_VOID = {"img", "input", "meta", "br", "hr", "link"}
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_ATTRIBUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]*")
_ADDRESSES = (
    "#",
    "data:image/png;base64,",
    "data:image/webp;base64,",
    "data:text/tab-separated-values;base64,",
)


class Html(str):
    """Text that is markup already, made by :func:`tag` or :func:`join`."""

    __slots__ = ()


def escaped(child: Child) -> str:
    """Turn a child into markup: what is not :class:`Html` is text and is escaped."""
    if child is None:
        return ""
    if isinstance(child, Html):
        return str.__str__(child)
    if isinstance(child, list | tuple):
        return "".join(map(escaped, child))
    return html.escape(_printable(str(child)), quote=True)


def _printable(text: str) -> str:
    """Replace what no UTF-8 file holds (bytes of a damaged name) and control characters."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "�", clean)


def join(children: Iterable[Child]) -> Html:
    """Put elements and texts one after another."""
    return Html("".join(map(escaped, children)))


def tag(element: str, *children: Child, **attributes: Any) -> Html:
    """Make an element.

    Parameters
    ----------
    element : str
        Its name.
    *children
        Elements, texts, numbers, or lists of these; None is nothing.
    **attributes
        ``class_`` is written class, ``data_x`` data-x; True is an attribute without a value, None
        and False are none.

    Raises
    ------
    UsageError
        If an attribute could run code, or an address leads out of the page.
    """
    if not _NAME.fullmatch(element):
        raise UsageError(f"{element!r} is no name of an element.")
    opening = "".join([element, *(_attribute(name, value) for name, value in attributes.items())])
    if element in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{escaped(list(children))}</{element}>")


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if not _ATTRIBUTE.fullmatch(name) or name.lower().startswith("on") or name == "style":
        raise UsageError(f"The attribute {name!r} is not allowed in a report.")
    if value is True:
        return f" {name}"
    if name in {"href", "src"} and not str(value).startswith(_ADDRESSES):
        raise UsageError(
            explain(
                f"the address {str(value)[:60]!r} leads out of the report",
                expected="An anchor of the page, or data that runs nothing",
            )
        )
    return f' {name}="{escaped(str(value))}"'


def data_block(name: str, content: Any) -> Html:
    """Embed JSON for the page's script; nothing in it can end the element or begin another.

    Parameters
    ----------
    name : str
        Id of the element.
    content
        What ``json`` can write.
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Html(f'<script type="application/json" id="{escaped(name)}">{text}</script>')
