"""A source as a page for people: what it is, whether it may be published, how to get it, what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.sources.download import Download, DownloadFile
from builder.sources.evidence import Checked
from builder.sources.metadata import SourceMetadata
from builder.sources.overlaps import MEANINGS, overlaps_of
from builder.sources.recipe import Recipe
from builder.sources.search import classes_of
from builder.sources.vocabulary import Vocabulary
from shards.console import in_bytes
from shards.license import refusal, tiers

SURENESS: Final[dict[Checked, str]] = {
    "real": "seen in real files",
    "two": "read in two independent places",
    "one": "read in one place",
    "none": "known from nowhere",
}
"""How sure a fact is, in words."""


def page(source: SourceMetadata, vocabulary: Vocabulary) -> str:
    """A source as Markdown."""
    sections = (
        ("", _head(source)),
        ("Licence", _licence(source)),
        ("How to get it", _way(source)),
        ("What is in it", _content(source, vocabulary)),
        ("Splits and patients", _splits(source)),
        ("Overlaps", _overlaps(source)),
        ("Known problems and advice", (f"- {note}" for note in source.notes)),
        ("Evidence", _evidence(source)),
    )
    parts = []
    for title, lines in sections:
        text = "\n".join(lines).strip()
        if text:
            parts.append(f"## {title}\n\n{text}" if title else text)
    return "\n\n".join(parts) + "\n"


def _head(source: SourceMetadata) -> Iterator[str]:
    yield f"# {source.name}"
    yield ""
    yield f"{source.title}."
    yield ""
    submodality = "" if source.submodality == "00" else f", {source.submodality}"
    yield f"- Modality: {source.modality}{submodality}"
    if source.homepage:
        yield f"- Home: {source.homepage}"
    if source.citation:
        yield f"- Cite: {source.citation}"
    if not isinstance(source, Recipe):
        yield "- It cannot be built yet: the layout of its files is not known."


def _licence(source: SourceMetadata) -> Iterator[str]:
    refused = refusal(source.license, source.license_evidence, source.access)
    yield f"- {source.license}; tiers: {', '.join(tiers(source.license)) or 'none'}"
    yield f"- May be published: {f'no, {refused}' if refused else 'yes'}"
    for address in dict.fromkeys([*filter(None, [source.license_evidence]), *(source.evidence.license or ())]):
        yield f"- Read at {address}"


def _way(source: SourceMetadata) -> Iterator[str]:
    yield f"- Access: {source.access}"
    download = source.download
    if download is not None:
        yield from _places(source.name, download)
        yield from (f"{number}. {step}" for number, step in enumerate(download.steps, 1))
    sizes = (
        ("To download", source.size.download),
        ("Unpacked", source.size.unpacked),
        ("As shards", source.size.built),
    )
    yield from (f"- {what}: {in_bytes(size)}" for what, size in sizes if size is not None)


def _places(name: str, download: Download) -> Iterator[str]:
    if download.automatic:
        yield f"- `sa-med2d fetch {name} --raw DIR` fetches it."
    if download.zenodo:
        yield f"- Zenodo record {download.zenodo}: https://zenodo.org/records/{download.zenodo}"
    if download.hub:
        yield f"- Hugging Face Hub: https://huggingface.co/datasets/{download.hub}"
    if download.tcia:
        yield f"- The Cancer Imaging Archive, collection {download.tcia}"
    yield from (f"- {_file(file)}" for file in download.files)


def _file(file: DownloadFile) -> str:
    facts = [in_bytes(file.size)] if file.size is not None else []
    facts += ["checksum known"] if file.sha256 or file.md5 else ["no checksum known"]
    return f"{file.url} ({', '.join(facts)})"


def _content(source: SourceMetadata, vocabulary: Vocabulary) -> Iterator[str]:
    if source.size.cases is not None:
        yield f"- Cases with masks: {source.size.cases:,}"
    if not isinstance(source, Recipe):
        return
    if source.files.channels:
        yield f"- Channels: {', '.join(source.files.channels)}"
    if source.labels_by_file and not source.labels:
        yield "- A mask file for each class; its name is the class."
    terms = classes_of(source, vocabulary)
    if not terms:
        return
    yield ""
    yield "| class | organ | group |"
    yield "|---|---|---|"
    yield from (f"| {term.label} | {term.organ or ''} | {term.group} |" for term in terms)


def _splits(source: SourceMetadata) -> Iterator[str]:
    if isinstance(source, Recipe):
        captured = "split" in source.files.image.captures
        named = ", ".join(split for split, values in source.splits.official.items() if values)
        official = named or ("from its folders" if captured else "")
        yield f"- Split: {f'its own ({official})' if official else 'ours, by patient'}"
    if source.patients:
        yield f"- Patients: name space {source.patients}, shared with other sources"


def _overlaps(source: SourceMetadata) -> Iterator[str]:
    for overlap in overlaps_of(source.name):
        yield f"- {', '.join(overlap.others(source.name))}: {MEANINGS[overlap.kind]}. {overlap.what}"


def _evidence(source: SourceMetadata) -> Iterator[str]:
    evidence = source.evidence
    yield f"- Layout: {SURENESS[evidence.checked.layout]}"
    yield from (f"  - {address}" for address in evidence.layout or ())
    yield f"- Labels: {SURENESS[evidence.checked.labels]}"
    yield from (f"  - {address}" for address in evidence.labels or ())
    for what, addresses in (("Split", evidence.split), ("Download", evidence.download)):
        if addresses:
            yield f"- {what}"
            yield from (f"  - {address}" for address in addresses)
