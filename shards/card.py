"""The dataset card: README.md with the configs that stock `datasets` reads, and what people want to know."""

from __future__ import annotations

import functools
import string
import types
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from sa_med2d_20m import CONFIGS, DATA, DEFAULT_CONFIG, LOCAL, LOCAL_CONFIGS, PREVIEW, SPLITS, config_name
from shards import citation
from shards.atomic import write_atomic
from shards.console import plural
from shards.description import SourceDescription, read_sources
from shards.documents import documents, refused_by
from shards.front_matter import front_matter
from shards.license import is_shared, tiers
from shards.paths import CARD, PREVIEWS, contact_sheet
from shards.plain_text import markdown
from shards.receipt import Receipt, read_receipts, summed
from shards.repacked import repacked_section
from shards.store import listing


@dataclass(frozen=True)
class Config:
    """A config of the card.

    Attributes:
        name: Modality or ``all``, with ``-commercial`` or ``-permissive`` for the narrower tiers, ``-local`` for all of
            a folder.
        files: Split -> glob patterns of its shards.
        samples: Split -> number of samples.
        bytes: Split -> bytes of its shards.
    """

    name: str
    files: dict[str, tuple[str, ...]]
    samples: dict[str, int]
    bytes: dict[str, int]


def configs(receipts: Iterable[Receipt], private: Collection[str] = ()) -> list[Config]:
    """The configs that hold data, by the licences that stand in the receipts: what a published card lists.

    A glob names modality, licence and split and leaves the source open, so a new source under a known licence
    changes no config; where it would let in a source that no tier holds, globs name the sources. A split without
    samples is left out.

    Args:
        receipts: Of all shards.
        private: Names of the sources that are in none of these configs.
    """
    held: dict[str, list[Receipt]] = defaultdict(list)
    all_of_them = list(receipts)
    mixed = frozenset(receipt.id.glob for receipt in all_of_them if receipt.samples and receipt.id.source in private)
    for receipt in all_of_them:
        if receipt.samples and receipt.id.source not in private:
            for tier in _tiers(receipt):
                held[config_name("all", tier)].append(receipt)
                held[config_name(receipt.id.modality, tier)].append(receipt)
    return [_config(name, held[name], mixed) for name in CONFIGS if name in held]


def folder_configs(receipts: Collection[Receipt], sources: Mapping[str, SourceDescription]) -> list[Config]:
    """The configs of a folder that is not published: those of `configs`, then those that hold everything built.

    Licences gate what is published, not what people do with their own data. A source whose access is private is in
    the latter alone.
    """
    private = {name for name, source in sources.items() if not is_shared(source.access)}
    held: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        if receipt.samples:
            held[config_name("all", LOCAL)].append(receipt)
            held[config_name(receipt.id.modality, LOCAL)].append(receipt)
    return [*configs(receipts, private), *(_config(name, held[name]) for name in LOCAL_CONFIGS if name in held)]


def _tiers(receipt: Receipt) -> tuple[str, ...]:
    """Globs go by path: where the path names another licence than the metadata, no config may have it."""
    agree = receipt.license.lower() == receipt.id.license
    return tiers(receipt.id.license) if agree else ()


def _config(name: str, receipts: list[Receipt], mixed: Collection[str] = ()) -> Config:
    files: dict[str, set[str]] = {split: set() for split in SPLITS}
    samples, size = Counter[str](), Counter[str]()
    for receipt in receipts:
        shard = receipt.id
        files[shard.split].add(shard.source_glob if shard.glob in mixed else shard.glob)
        samples[shard.split] += receipt.samples
        size[shard.split] += receipt.bytes
    patterns = {split: tuple(sorted(globs)) for split, globs in files.items() if globs}
    return Config(name, patterns, dict(samples), dict(size))


def write_card(
    out: Path,
    *,
    without: str | None = None,
    patients: Mapping[str, Mapping[str, int]] | None = None,
    draw: bool = False,
) -> list[Config]:
    """Write README.md, and the files that it refers to, from the receipts and sources of an output folder.

    Args:
        out: Output folder.
        without: A source that it leaves out.
        patients: Source -> split -> number of patients, where they were counted just now.
        draw: Whether the picture that it begins with is drawn where it is not there.

    Returns:
        The configs it lists.

    Raises:
        DatasetError: The shard of the picture does not hold what its index says.
    """
    receipts = [receipt for receipt in read_receipts(out).values() if receipt.id.source != without]
    sources = {name: source for name, source in read_sources(out).items() if name != without}
    for name, text in documents(receipts, sources).items():
        write_atomic(out / name, text)
    drawn = {f"{PREVIEWS}/{name}" for name in listing(out, PREVIEWS)}
    sheets = {source: path for source, path in _contact_sheets(receipts).items() if path in drawn}
    pictures = _folder_picture(out, receipts, drawn, sheets, draw=draw)
    write_atomic(out / CARD, card(receipts, sources, pictures=pictures, patients=patients).encode())
    for path in drawn.difference(pictures.values(), sheets.values()):  # of shards that are no longer there
        (out / path).unlink(missing_ok=True)
    return folder_configs(receipts, sources)


def _contact_sheets(receipts: Iterable[Receipt]) -> dict[str, str]:
    """Source -> path of the contact sheet of what it holds now, whether one was drawn or not."""
    checksums: defaultdict[str, list[str]] = defaultdict(list)
    for receipt in receipts:
        checksums[receipt.id.source].append(receipt.sha256)
    return {source: contact_sheet(source, those) for source, those in sorted(checksums.items())}


def _folder_picture(
    out: Path, receipts: Iterable[Receipt], drawn: Collection[str], sheets: Mapping[str, str], *, draw: bool
) -> dict[str, str]:
    """What the card of a folder begins with: a contact sheet where one was drawn, else a sample of the first shard.

    Both are named by the bytes of the shards, so one that is there needs no look at them.

    Returns:
        Name of its source -> path, of one or none.
    """
    if sheets:
        return dict([*sheets.items()][:1])
    held = [receipt for receipt in receipts if receipt.samples]
    if not held:
        return {}
    first = min(held, key=lambda receipt: receipt.id)
    path = f"{PREVIEWS}/{first.id.source}.{first.sha256[:16]}.jpg"
    if draw and path not in drawn:
        from shards.show.picture import picture_of_shard  # noqa: PLC0415 - a card of text alone needs none of this

        write_atomic(out / path, picture_of_shard(out, first.id))
    return {first.id.source: path} if draw or path in drawn else {}


@dataclass(frozen=True)
class CardFigure:
    """A picture that the card shows.

    Attributes:
        path: Of the file, below the card's folder.
        title: What it shows.
        alt: What is to be seen on it.
    """

    path: str
    title: str
    alt: str


def card(
    receipts: list[Receipt],
    sources: Mapping[str, SourceDescription],
    repository: str | None = None,
    figures: Sequence[CardFigure] = (),
    *,
    preview: bool = False,
    pictures: Mapping[str, str] = types.MappingProxyType({}),
    patients: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """The text of the card, which refers to `shards.documents`.

    Args:
        receipts: Of all shards that it is about.
        sources: What is known of their sources.
        repository: Its name on the Hub; None for a folder that is not published.
        figures: Pictures of what they hold, which lie beside it.
        preview: Whether there is a preview for viewers.
        pictures: Name of a source -> path of a picture of it below the card's folder.
        patients: Source -> split -> number of patients; None for what the sources say themselves.
    """
    known = {name: source.patients for name, source in sources.items()} if patients is None else patients
    listed = folder_configs(receipts, sources) if repository is None else configs(receipts)
    example = listed[0] if listed else None
    split = next(iter(example.files)) if example else SPLITS[0]
    shard = min((receipt.id.tar for receipt in receipts if receipt.samples), default=f"{DATA}/ONE/OF/THE/SHARDS.tar")
    text = _template().substitute(
        picture=_pictures(receipts, pictures),
        images=plural(sum(receipt.samples for receipt in receipts), "image"),
        masks=plural(sum(receipt.masks for receipt in receipts), "mask"),
        sources=plural(len({receipt.id.source for receipt in receipts}), "source dataset"),
        place=repository or "PATH OR REPOSITORY",
        config=example.name if example else DEFAULT_CONFIG,
        split=split,
        shard=shard if repository is None else f"https://huggingface.co/datasets/{repository}/resolve/main/{shard}",
        configs=", ".join(f"`{config.name}`" for config in listed) or "none, there is no image",
        notes=(_LOCAL_NOTE if repository is None else "") + (_PREVIEW_NOTE if preview else ""),
        repacked="".join(f"{section}\n" for section in repacked_section(receipts, sources)),
        licenses=_license_table(receipts, f"{LOCAL} only" if repository is None else "none"),
        splits=_split_table(receipts, known),
        kept=_held_back(receipts, sources),
        figures=_figures(figures),
        dropped=_left_out_table(receipts),
        overlaps=_overlaps({receipt.id.source for receipt in receipts if receipt.samples}, sources),
        own_citation="" if repository is None else _own_citation(repository),
        citation=citation.bibtex(),
        take_down="" if repository is None else _take_down(repository),
    )
    return f"---\n{front_matter(receipts, listed, preview=preview)}---\n\n{text}"


@functools.cache
def _template() -> string.Template:
    return string.Template(resources.files("shards").joinpath("card_template.md").read_text(encoding="utf-8"))


_PREVIEW_NOTE: Final = f"""
The config `{PREVIEW}` is for the viewer: a few samples of each source with their masks drawn over them.
"""
_LOCAL_NOTE: Final = """
`-local` holds everything that was built here, whatever its licence. It is for this folder alone: `sa-med2d publish`
writes another card, without it.
"""


def _license_table(receipts: list[Receipt], no_tier: str) -> str:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for receipt in receipts:
        counts[receipt.license].update({"images": receipt.samples, "masks": receipt.masks})
    lines = ["| licence | in the configs | images | masks |", "|---|---|--:|--:|"]
    for name, count in sorted(counts.items()):
        tiers_of = ", ".join(tiers(name)) or no_tier
        lines.append(f"| {markdown(name)} | {tiers_of} | {count['images']:,} | {count['masks']:,} |")
    return "\n".join(lines) + "\n"


_MOST_PICTURES: Final = 6


def _pictures(receipts: Iterable[Receipt], pictures: Mapping[str, str]) -> str:
    """Samples with their masks, of as many modalities as there are, then of further sources."""
    modality = {receipt.id.source: receipt.id.modality for receipt in receipts}
    names = sorted(pictures)
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(modality[name], name)
    shown = [*first.values(), *(name for name in names if name not in first.values())][:_MOST_PICTURES]
    lines = [f"![{modality[name]} of {name}, masks drawn over it]({pictures[name]})" for name in shown]
    return "\n".join(lines) + "\n\n" if lines else ""


def _figures(figures: Sequence[CardFigure]) -> str:
    pictures = [f"### {markdown(one.title)}\n\n![{markdown(one.alt)}]({one.path})\n" for one in figures]
    return "\n".join(["\n## Figures\n", *pictures]) if pictures else ""


def _own_citation(repository: str) -> str:
    return f"\n```bibtex\n{citation.own_bibtex(repository)}\n```\n"


def _take_down(repository: str) -> str:
    return f"""
## Contact and take-down

Whoever holds rights in a source and wants it removed opens a discussion at
https://huggingface.co/datasets/{repository}/discussions. Everything of a source lies in folders of its name and is
removed as a whole, from the history too where that is asked.
"""


def _split_table(receipts: list[Receipt], known: Mapping[str, Mapping[str, int]]) -> str:
    """Images of each modality, and all images, masks and patients, by split."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    total, masks, patients = Counter[str](), Counter[str](), Counter[str]()
    for receipt in receipts:
        rows[f"images: {receipt.id.modality}"][receipt.id.split] += receipt.samples
        total[receipt.id.split] += receipt.samples
        masks[receipt.id.split] += receipt.masks
    held = sorted({receipt.id.source for receipt in receipts if receipt.samples})
    uncounted = [name for name in held if not known.get(name)]
    for name in held:
        patients.update(known.get(name, {}))
    shown = {"images": total, **dict(sorted(rows.items())), "masks": masks, "patients": patients}
    lines = [f"| | {' | '.join(SPLITS)} | all |", f"|---|{'--:|' * (len(SPLITS) + 1)}"]
    for name, counts in shown.items():
        cells = " | ".join(f"{counts[split]:,}" for split in SPLITS)
        lines.append(f"| {name} | {cells} | {sum(counts.values()):,} |")
    lines += ["", "Patients are counted in each source by itself."]
    if uncounted:
        lines[-1] += f" Those of {plural(len(uncounted), 'source')} are not counted."
    return "\n".join(lines) + "\n"


_MOST_OVERLAPS: Final = 12


def _overlaps(held: Set[str], sources: Mapping[str, SourceDescription]) -> str:
    """Which of the sources are known to overlap, each overlap once; of many the first."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in sorted(held & sources.keys()):
        for overlap in sources[name].overlaps:
            here = held & set(overlap.others)
            if here:
                found.setdefault((overlap.meaning, overlap.what), {name}).update(here)
    lines = [
        f"  - {', '.join(sorted(names))}: {meaning}. {markdown(what)}\n"
        for (meaning, what), names in list(found.items())[:_MOST_OVERLAPS]
    ]
    if len(found) > len(lines):
        lines.append(f"  - {len(found) - len(lines):,} more: [SOURCES.md](SOURCES.md) has them all.\n")
    elsewhere = any(source.overlaps for name, source in sources.items() if name in held)
    if elsewhere:
        lines.append("- [SOURCES.md](SOURCES.md) also names sets elsewhere that hold the same scans, with evidence.\n")
    return "".join(lines)


_RULES: Final = {
    "edge": "slices whose shorter edge is less than half the longer one",
    "no_mask": "slices without a mask",
    "emptied": "slices none of whose masks was large enough",
    "constant_slice": "slices of one single value",
    "small_mask": "masks below the area rule of their source",
    "bad_mask": "mask files that could not be used",
}


def _left_out_table(receipts: list[Receipt]) -> str:
    dropped = summed(receipt.dropped for receipt in receipts)
    if not dropped:
        return "Nothing.\n"
    lines = ["| what | how many |", "|---|--:|"]
    lines += [f"| {_RULES.get(rule, f'by the gate {rule}')} | {count:,} |" for rule, count in dropped.items()]
    return "\n".join(lines) + "\n"


def _held_back(receipts: list[Receipt], sources: Mapping[str, SourceDescription]) -> str:
    held = {receipt.id.source: receipt for receipt in receipts}
    names = [name for name, receipt in sorted(held.items()) if refused_by(receipt.license, sources.get(name))]
    return f"\nNot for publication: {', '.join(names)}; [LICENSE.md](LICENSE.md) says why.\n" if names else ""
