"""Texts that somebody else wrote, made safe to show: on a terminal, and in a card, which is Markdown and HTML."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit

CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a cursor, ends a line elsewhere than it seems, turns the direction of writing, or is half a character."""
_MARKUP: Final = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown, its tables and formulas, and HTML give a meaning; underscores within words have none."""


def visible(text: str) -> str:
    r"""A text with control characters spelled out; lines and tabs stay.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def markdown(text: str) -> str:
    """A text that Markdown shows as it is, on one line.

    >>> markdown("A <b>set</b> [of_ours](x)")
    'A &lt;b&gt;set&lt;/b&gt; &#91;of_ours&#93;(x)'
    """
    return _MARKUP.sub(_entity, visible(" ".join(text.split())))


def _entity(found: re.Match[str]) -> str:
    named = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    return named.get(found[0], f"&#{ord(found[0])};")


def link(title: str, address: str) -> str:
    """A link of Markdown; the title alone where the address is none of the web."""
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound or CONTROL.search(address):
        return markdown(title)
    return f"[{markdown(title)}]({quote(address, safe=_OF_ADDRESSES)})"


_OF_ADDRESSES: Final = "!#$%&'*+,-./:;=?@[]_~"
"""Of the characters of an address all but those that end a link of Markdown."""
