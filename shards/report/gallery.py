"""A gallery: one HTML page that holds its pictures, and needs nothing else.

It is made of a template with three values that this project writes (style, script, title) and two that hold what others
wrote: the record, in which no ``<`` is left that could end its block, and pictures in base64. The page's policy lets
the one script run whose hash it names, and lets nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from shards.description import SourceDescription
from shards.documents import refused_by
from shards.report.choose import Entry
from shards.report.pictures import Picture

TITLE: Final = "SA-Med2D-20M: samples"
FINDINGS_TITLE: Final = "SA-Med2D-20M: what looks wrong"
_PICTURES: Final = "$pictures"


def write_gallery(
    file: BinaryIO,
    entries: Sequence[Entry],
    pictures: Iterable[Picture],
    sources: Mapping[str, SourceDescription],
    *,
    findings: Mapping[str, Any] | None = None,
    title: str = TITLE,
) -> None:
    """Write the page.

    Args:
        file: Where it goes.
        entries: What it shows, in their order.
        pictures: Of all samples of the entries, one after another.
        sources: What is known of their sources.
        findings: What looks wrong, see `shards.report.findings.look.Looked.record`; None where nobody looked. Examples
            that are among the entries have their pictures beside them.
        title: What the page is called.
    """
    shown = list(pictures)
    style, script = (_part(name) for name in ("gallery.css", "gallery.js"))
    values = {
        "title": escape(title),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "record": _embedded({**_record(entries, shown, sources), "findings": findings}),
    }
    head, tail = _part("gallery.html").split(_PICTURES)
    file.write(Template(head).substitute(values).encode())
    for block in _blocks(shown):
        file.write(block)
    file.write(tail.encode())


def _part(name: str) -> str:
    return files("shards.report").joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embedded(record: Mapping[str, Any]) -> str:
    """JSON that may stand in a block of a page, whatever its texts hold: nothing in it ends the block."""
    text = json.dumps(record, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _record(
    entries: Sequence[Entry], pictures: Sequence[Picture], sources: Mapping[str, SourceDescription]
) -> dict[str, Any]:
    labels: dict[tuple[str, str | None, str], int] = {}
    frames = [_frame(picture, labels) for picture in pictures]
    items, start = [], 0
    for entry in entries:
        items.append(list(range(start, start + len(entry.rows))))
        start += len(entry.rows)
    held = {picture.record["source"] for picture in pictures}
    return {
        "frames": frames,
        "items": items,
        "labels": [list(label) for label in labels],
        "sources": {name: _source(source) for name, source in sorted(sources.items()) if name in held},
        "notice": _notice(pictures, sources),
    }


def _frame(picture: Picture, labels: dict[tuple[str, str | None, str], int]) -> dict[str, Any]:
    """A sample: its metadata, and its masks as layer, id, number of the class, and area."""
    masks = [
        [
            mask["layer"],
            mask["id"],
            labels.setdefault((mask["label"], mask["organ"], mask["group"]), len(labels)),
            mask["area"],
        ]
        for mask in picture.record["masks"]
    ]
    about = {name: value for name, value in picture.record.items() if name != "masks"}
    size = {"width": picture.width, "height": picture.height, "layers": picture.layers}
    return {"about": about, "masks": masks, **size}


def _source(source: SourceDescription) -> dict[str, str]:
    links = {"homepage": source.homepage, "evidence": source.license_evidence or ""}
    sound = {name: address for name, address in links.items() if _is_of_the_web(address)}
    return {"title": source.title, "citation": source.citation, **sound}


def _is_of_the_web(address: str) -> bool:
    """Whether a link to it opens a page, and runs nothing."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _notice(pictures: Iterable[Picture], sources: Mapping[str, SourceDescription]) -> str:
    """What the page says where it shows what may not be passed on."""
    held = {picture.record["source"]: picture.record["license"] for picture in pictures}
    closed = [name for name, license_id in sorted(held.items()) if refused_by(license_id, sources.get(name))]
    if not closed:
        return ""
    return f"Keep this page to yourself: it shows images that must not be passed on, of {', '.join(closed)}."


def _blocks(pictures: Iterable[Picture]) -> Iterator[bytes]:
    for number, picture in enumerate(pictures):
        parts = b" ".join(base64.b64encode(data) for data in (picture.image, picture.label_map))
        yield b'<script type="text/plain" id="p%d">%b</script>\n' % (number, parts)
