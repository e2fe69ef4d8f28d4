"""``SOURCES.md`` of an export: where its images are from, and what their licences ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sa_med2d_20m import DatasetError, Selection
from shards.description import SourceDescription, source_from
from shards.documents import license_link
from shards.foreign_json import json_in
from shards.license import UNPUBLISHED, terms
from shards.paths import manifest_file, source_file
from shards.plain_text import link, markdown

DOCUMENT: Final = "SOURCES.md"

Counts = Mapping[tuple[str, str], tuple[int, int]]
"""Source and licence -> images and masks."""


def provenance(counts: Counts, sources: Mapping[str, SourceDescription]) -> bytes:
    """The document.

    Args:
        counts: What was exported.
        sources: What is known of their sources.
    """
    lines = [
        "# Sources and licences",
        "",
        "Each image and its masks are under the licence of their source, to which who passes them on keeps.",
        "",
        "| source | licence | asks for | images | masks |",
        "|---|---|---|--:|--:|",
    ]
    described: list[str] = []
    for (source, license_id), (images, masks) in sorted(counts.items()):
        row = (markdown(source), license_link(license_id), _asks(license_id), f"{images:,}", f"{masks:,}")
        lines.append(f"| {' | '.join(row)} |")
    for source in sorted({source for source, _ in counts}):
        about = sources.get(source)
        said = [] if about is None else _said(about)
        described.append(f"- **{markdown(source)}**: {' '.join(said) or 'the exported dataset does not describe it.'}")
    return "\n".join([*lines, "", "## How to cite them", "", *described, ""]).encode()


def _said(about: SourceDescription) -> list[str]:
    evidence = about.license_evidence
    said = [f"{link(about.title, about.homepage)}.", markdown(about.citation)]
    return [*filter(None, said), *([f"Its licence is stated at {markdown(evidence)}."] if evidence else [])]


def _asks(license_id: str) -> str:
    """What a licence asks of who uses the data, in words."""
    row = terms(license_id)
    if license_id in UNPUBLISHED or row is None:
        return "not known: do not pass on"
    if not row.redistribute:
        return "not to be passed on"
    asked = {
        "naming the authors": row.attribution,
        "no commercial use": not row.commercial,
        "no changed copies": not row.derivatives,
        "the same licence for what is made of it": row.share_alike,
    }
    return "; ".join(name for name, holds in asked.items() if holds) or "nothing"


def descriptions(selection: Selection, names: Iterable[str]) -> dict[str, SourceDescription]:
    """What a dataset says of its sources: a folder keeps descriptions, a repository manifests."""
    found = {name: _description(selection, name) for name in names}
    return {name: about for name, about in found.items() if about is not None}


def _description(selection: Selection, name: str) -> SourceDescription | None:
    for path in (source_file(name), manifest_file(name)):
        try:
            record = json_in(selection.read(path), path)
            return source_from(record["source"] if path == manifest_file(name) else record, path)
        except (FileNotFoundError, DatasetError, KeyError, TypeError):
            continue  # what each sample says of its source is all that is known then, and SOURCES.md says so
    return None
