"""The files that the card refers to: what grows with sources and classes, so that the card does not.

The Hub reads a card in one request, of limited size.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from sa_med2d_20m import LABELS, SPLITS
from shards.console import plural
from shards.description import HASHED_RATIOS, SourceDescription
from shards.license import refusal, spdx_page
from shards.plain_text import link, markdown
from shards.receipt import Receipt, lost_shares
from shards.repacked import repacked_lines

LICENSES: Final = "LICENSE.md"
"""The name that the Hub looks for."""
SOURCES: Final = "SOURCES.md"
CLASSES: Final = "CLASSES.md"
NUMBERS: Final = "id2label.json"
DOCUMENTS: Final = (LICENSES, SOURCES, CLASSES, NUMBERS)


def documents(receipts: Collection[Receipt], sources: Mapping[str, SourceDescription]) -> dict[str, bytes]:
    """The files by name; the same receipts and sources give the same bytes.

    Args:
        receipts: Of all shards that the card is about.
        sources: What is known of their sources.
    """
    by_source: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_source[receipt.id.source].append(receipt)
    held = dict(sorted(by_source.items()))
    texts = {LICENSES: _licenses(held, sources), SOURCES: _sources(held, sources), CLASSES: _classes(receipts, sources)}
    return {**{name: text.encode() for name, text in texts.items()}, NUMBERS: _numbers()}


def _licenses(held: Mapping[str, list[Receipt]], sources: Mapping[str, SourceDescription]) -> str:
    """Which source is under which licence, and where that was read."""
    rows, refusals = [], []
    for name, receipts in held.items():
        source, license_id = sources.get(name), receipts[0].license
        evidence = source.license_evidence if source else None
        rows.append(f"| {name} | {license_link(license_id)} | {markdown(evidence or 'nowhere')} |")
        refused = refused_by(license_id, source)
        refusals += [f"- {name}: {markdown(refused)}"] if refused else []
    lines = [
        "# Licences",
        "",
        "Each image and its masks are under the licence of their source, which their path and their metadata name. Who "
        "passes them on names the authors as [SOURCES.md](SOURCES.md) does, and keeps to these licences.",
        "",
        "| source | licence | where that is stated |",
        "|---|---|---|",
        *rows,
    ]
    return "\n".join([*lines, *(["", "## Not for publication", "", *refusals] if refusals else [])]) + "\n"


def refused_by(license_id: str, source: SourceDescription | None) -> str | None:
    """Why a source may not be published, or None where it may; nothing is known of one without a description."""
    evidence, access = (source.license_evidence, source.access) if source else (None, "open")
    return refusal(license_id, evidence, access)


def license_link(license_id: str) -> str:
    """A licence with a link to its text, where SPDX has it."""
    page = spdx_page(license_id)
    return f"[{license_id}]({page})" if page else markdown(license_id)


def _sources(held: Mapping[str, list[Receipt]], sources: Mapping[str, SourceDescription]) -> str:
    lines = ["# Sources", ""]
    for name, receipts in held.items():
        samples, masks = sum(receipt.samples for receipt in receipts), sum(receipt.masks for receipt in receipts)
        small = _left_out(receipts)
        held_there = f"{plural(samples, 'image')}, {plural(masks, 'mask')}"
        lines.append(f"- **{name}** ({markdown(receipts[0].license)}): {held_there}{small}.")
        source = sources.get(name)
        if source is not None:
            lines.append(f"  {link(source.title, source.homepage)}. {markdown(source.citation)}")
            lines += _annotates(source)
            lines += _own_split(source)
            lines += _known_overlaps(source)
            lines += repacked_lines(source)
    return "\n".join(lines) + "\n"


def _annotates(source: SourceDescription) -> list[str]:
    """Which classes a source annotates; of many the first."""
    labels = [known.label for known in source.classes]
    if not labels:
        return []
    named = ", ".join(markdown(label) for label in labels[:_MOST_LABELS])
    more = f" and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
    return [f"  Annotates {len(labels):,} {'class' if len(labels) == 1 else 'classes'}: {named}{more}."]


_MOST_LABELS: Final = 20


def _left_out(receipts: Collection[Receipt]) -> str:
    """What the area rule, the gate over mask files and copies left out of a source, as the end of a sentence."""
    bad = sum(receipt.dropped.get("bad_mask", 0) for receipt in receipts)
    files = f"; {plural(bad, 'mask file')} could not be used, see `not_annotated`" if bad else ""
    masks = sum(receipt.dropped.get("small_mask", 0) for receipt in receipts)
    share = lost_shares(receipts).get("small_mask", 0)
    small = f"; left out: {plural(masks, 'small mask')}, {100 * share:.1f} % of the mask pixels" if masks else ""
    copies = sum(receipt.dropped.get("copy", 0) for receipt in receipts)
    twice = f"; left out: {plural(copies, 'image')} that other cases hold too" if copies else ""
    return small + files + twice


def _own_split(source: SourceDescription) -> list[str]:
    """How patients are dealt whom the source puts into no split, where that is not as everywhere."""
    moved = f"{source.regrouped:,} {'patient' if source.regrouped == 1 else 'patients'}"
    regrouped = [f"  {moved} who share images with others stand in their split."] if source.regrouped else []
    if (source.split_ratios, source.split_seed) == (HASHED_RATIOS, 0):
        return regrouped
    shares = ", ".join(f"{name} {100 * share:g} %" for name, share in zip(SPLITS, source.split_ratios, strict=True))
    seed = f", seed {source.split_seed}" if source.split_seed else ""
    return [f"  Splits are not the source's own where `official_split` is false: {shares}{seed}.", *regrouped]


def _known_overlaps(source: SourceDescription) -> list[str]:
    """What other sources hold the same scans or people, here or elsewhere."""
    return [
        f"  With {', '.join(map(markdown, one.others))}: {one.meaning}. {markdown(one.what)}"
        f" ({', '.join(link(f'evidence {number}', _page(address)) for number, address in enumerate(one.evidence, 1))})"
        for one in source.overlaps
    ]


_OF_REPOSITORY: Final = re.compile(r"github:([\w.-]+/[\w.-]+)@([0-9a-f]+):(\S+)")


def _page(address: str) -> str:
    """The page of an address as recipes write it.

    >>> _page("github:owner/name@81da0ee:a/b.md"), _page("doi:10.1038/x")
    ('https://github.com/owner/name/blob/81da0ee/a/b.md', 'https://doi.org/10.1038/x')
    """
    found = _OF_REPOSITORY.fullmatch(address)
    if found is not None:
        return f"https://github.com/{found[1]}/blob/{found[2]}/{found[3]}"
    return f"https://doi.org/{address.removeprefix('doi:')}" if address.startswith("doi:") else address


def _classes(receipts: Collection[Receipt], sources: Mapping[str, SourceDescription]) -> str:
    """Masks of each class by split, and how many sources annotate it: also those that hold none here."""
    named = {receipt.id.source for receipt in receipts} & sources.keys()
    annotating = Counter(label for name in named for label in {known.label for known in sources[name].classes})
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for receipt in receipts:
        for label, count in receipt.labels.items():
            labels[label][receipt.id.split] += count
    heads = " | ".join((*SPLITS, "sources that annotate it"))
    lines = ["# Masks by class and split", "", f"| class | {heads} |", f"|---|{'--:|' * (len(SPLITS) + 1)}"]
    for label in sorted(labels.keys() | annotating.keys()):
        counts = (*(labels[label][split] for split in SPLITS), annotating[label])
        lines.append(f"| {markdown(label)} | {' | '.join(f'{count:,}' for count in counts)} |")
    return "\n".join(lines) + "\n"


def _numbers() -> bytes:
    """The values of a semantic map: those of `sa_med2d_20m.load` with ``view="semantic"``."""
    names = {"0": "background", **{str(number): label for number, label in enumerate(LABELS, 1)}}
    return json.dumps(names, indent=1).encode() + b"\n"
