"""A page of copies: each pair of images side by side, in one HTML file that needs nothing else and runs no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from shards.atomic import write_atomic
from shards.console import plural
from shards.plain_text import visible
from shards.report.pictures import webp
from shards.show.overlay import eight_bit

if TYPE_CHECKING:
    from shards.duplicates.images import Images
    from shards.duplicates.pairs import Pair

MOST: Final = 500
"""Pairs of a page: 10 MB at most, and more than anybody looks at."""
_TITLE: Final = "SA-Med2D-20M: copies"
_SIDE: Final = 288
"""Pixels of the longer side of a picture."""
_QUALITY: Final = 75
"""Of WebP."""
_MIRRORED: Final = {
    "horizontal": "mirrored left and right",
    "vertical": "mirrored top and bottom",
    "both": "turned by half a turn",
}


def write_copies(page: Path, first: Images, second: Images, pairs: Sequence[Pair], said: Sequence[str]) -> str:
    """Write the page.

    Args:
        page: The file.
        first: The set that one side of each pair is of.
        second: The set that the other is of, which may be the same.
        pairs: The copies; of many the first, which are the volumes.
        said: Sentences for its top.

    Returns:
        A sentence about it.

    Raises:
        DatasetError: An image cannot be read.
    """
    shown = pairs[:MOST]
    more = [f"{plural(len(pairs) - len(shown), 'more pair')}: --json lists all"] if len(pairs) > len(shown) else []
    style = _part("copies.css")
    text = Template(_part("copies.html")).substitute(
        title=escape(_TITLE),
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        said="".join(f"<li>{_text(sentence)}</li>" for sentence in [*said, *more]),
        pairs="\n".join(_pairs(first, second, shown)),
    )
    data = text.encode()
    write_atomic(page, data)
    return f"{page}: {plural(len(shown), 'pair')} with pictures, {len(data) / 1e6:.1f} MB"


def _part(name: str) -> str:
    return files("shards.report").joinpath("page", name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    return escape(visible(text))


def _pairs(first: Images, second: Images, pairs: Sequence[Pair]) -> Iterator[str]:
    for pair in pairs:
        middle = len(pair.one) // 2
        sides = ((first, pair.one[middle]), (second, pair.other[middle]))
        abouts = [images.about.slice(number, 1).to_pylist()[0] for images, number in sides]
        figures = "".join(_figure(*side, about) for side, about in zip(sides, abouts, strict=True))
        yield f'<article><h2>{_head(pair, abouts)}</h2><div class="sides">{figures}</div></article>'


def _head(pair: Pair, abouts: Sequence[dict[str, Any]]) -> str:
    """What kind of copy it is; and, as what matters most, where it stands in another split."""
    facts = [f"distance {pair.distance:.3f}"]
    if pair.kind == "volume":
        order = ", in the opposite order" if pair.reverse else ""
        facts.append(f"{plural(len(pair.one), 'slice')}{order}, the middle one is shown")
    if pair.flip in _MIRRORED:
        facts.append(_MIRRORED[pair.flip])
    splits = [about["split"] for about in abouts]
    torn = None not in splits and splits[0] != splits[1]
    marked = f"<strong>in {_text(splits[0])} and in {_text(splits[1])}</strong>" if torn else ""
    return f"{pair.kind} <span>{', '.join(facts)}</span>{marked}"


def _figure(images: Images, number: int, about: dict[str, Any]) -> str:
    pixels = eight_bit(images.read(number))
    scale = min(1.0, _SIDE / max(pixels.shape[:2]))
    if scale < 1:
        height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    data = base64.b64encode(webp(pixels, _QUALITY)).decode()
    known = " · ".join(_text(about[name]) for name in ("source", "split") if about[name] is not None)
    patient = "" if about["patient"] is None else f"<span>patient {_text(about['patient'])}</span>"
    caption = f"{_text(about['key'])}<span>{known}</span>{patient}"
    alt = _text(about["key"])
    return f'<figure><img src="data:image/webp;base64,{data}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'
