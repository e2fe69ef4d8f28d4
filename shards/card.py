"""The dataset card: README.md with the configs that stock `datasets` reads, and what people want to know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from sa_med2d_20m import CONFIGS, DEFAULT_CONFIG, SPLITS, config_name, metadata_types
from shards.atomic import write_atomic
from shards.description import HASHED_RATIOS, SourceDescription, read_sources
from shards.license import refusal, tiers
from shards.paths import CARD
from shards.receipt import Receipt, lost_shares, read_receipts

_SIZES: Final = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)


@dataclass(frozen=True)
class Config:
    """A config of the card.

    Attributes:
        name: Modality or ``all``, with ``-commercial`` or ``-permissive`` for the narrower tiers.
        files: Split -> glob patterns of its shards.
        samples: Split -> number of samples.
        bytes: Split -> bytes of its shards.
    """

    name: str
    files: dict[str, tuple[str, ...]]
    samples: dict[str, int]
    bytes: dict[str, int]


def configs(receipts: Iterable[Receipt]) -> list[Config]:
    """The configs that hold data, by the licences that stand in the receipts.

    A glob names modality, licence and split and leaves the source open, so a new source under a known licence
    changes no config. A split without samples is left out.
    """
    held: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        if receipt.samples:
            for tier in _tiers(receipt):
                held[config_name("all", tier)].append(receipt)
                held[config_name(receipt.id.modality, tier)].append(receipt)
    return [_config(name, held[name]) for name in CONFIGS if name in held]


def _tiers(receipt: Receipt) -> tuple[str, ...]:
    """Globs go by path: where the path names another licence than the metadata, no config may have it."""
    agree = receipt.license.lower() == receipt.id.license
    return tiers(receipt.id.license) if agree else ()


def _config(name: str, receipts: list[Receipt]) -> Config:
    files: dict[str, set[str]] = {split: set() for split in SPLITS}
    samples, size = Counter[str](), Counter[str]()
    for receipt in receipts:
        shard = receipt.id
        files[shard.split].add(shard.glob)
        samples[shard.split] += receipt.samples
        size[shard.split] += receipt.bytes
    patterns = {split: tuple(sorted(globs)) for split, globs in files.items() if globs}
    return Config(name, patterns, dict(samples), dict(size))


def write_card(out: Path) -> list[Config]:
    """Write README.md from the receipts and sources of an output folder.

    Returns:
        The configs it lists.
    """
    receipts = list(read_receipts(out).values())
    write_atomic(out / CARD, card(receipts, read_sources(out)).encode())
    return configs(receipts)


def card(receipts: list[Receipt], sources: Mapping[str, SourceDescription], repository: str | None = None) -> str:
    """The text of the card.

    Args:
        receipts: Of all shards that it is about.
        sources: What is known of their sources.
        repository: Its name on the Hub; None for a folder that is not published.
    """
    listed = configs(receipts)
    head = yaml.safe_dump(_front_matter(receipts, listed), sort_keys=False, allow_unicode=True, width=110)
    sections = [
        _introduction(receipts, listed, repository),
        _modality_table(receipts),
        _license_table(receipts),
        _source_table(receipts, sources),
        _label_table(receipts),
        _limits(),
    ]
    if repository is not None:
        sections.append(_take_down(repository))
    return f"---\n{head}---\n\n" + "\n".join(sections)


def _front_matter(receipts: list[Receipt], listed: list[Config]) -> dict[str, Any]:
    default = listed[0].name if listed else None
    samples = sum(receipt.samples for receipt in receipts)
    return {
        "pretty_name": "SA-Med2D-20M, rebuilt in the open",
        "license": "other",
        "license_name": "per-source",
        "license_link": "#sources",
        "task_categories": ["image-segmentation", "mask-generation"],
        "tags": ["medical", "webdataset", *sorted({receipt.id.modality for receipt in receipts})],
        "size_categories": [next((name for limit, name in _SIZES if samples < limit), "10M<n<100M")],
        "configs": [
            {
                "config_name": config.name,
                **({"default": True} if config.name == default else {}),
                "data_files": [{"split": split, "path": list(globs)} for split, globs in config.files.items()],
            }
            for config in listed
        ],
        "dataset_info": _dataset_info(listed),
    }


def _dataset_info(listed: list[Config]) -> list[dict[str, Any]]:
    """Features and sizes of each config, in the form that `datasets` reads out of a card.

    All configs share one list of features, so YAML writes it once and refers to it after that.
    """
    columns = _features()
    return [
        {
            "config_name": config.name,
            "features": columns,
            "splits": [
                {"name": split, "num_bytes": config.bytes[split], "num_examples": config.samples[split]}
                for split in config.files
            ],
            "download_size": sum(config.bytes.values()),
            "dataset_size": sum(config.bytes.values()),
        }
        for config in listed
    ]


def _features() -> list[dict[str, Any]]:
    """The columns that the WebDataset reader of `datasets` yields: `sa_med2d_20m.features` as a card spells them."""
    pictures = [{"name": f"{member}png", "dtype": "image"} for member in ("", "mask.")]
    texts = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
    return [*pictures, {"name": "json", **_feature(metadata_types())}, *texts]


def _feature(described: Any) -> dict[str, Any]:
    if isinstance(described, dict):
        return {"struct": [{"name": name, **_feature(item)} for name, item in described.items()]}
    if isinstance(described, list):
        inner = _feature(described[0])
        return {"list": next(iter(inner.values()))}
    return {"dtype": described}


def _introduction(receipts: list[Receipt], listed: list[Config], repository: str | None) -> str:
    samples, masks = sum(receipt.samples for receipt in receipts), sum(receipt.masks for receipt in receipts)
    example = listed[0].name if listed else DEFAULT_CONFIG
    split = next(iter(listed[0].files)) if listed else SPLITS[0]
    return f"""# SA-Med2D-20M, rebuilt in the open

{samples:,} images with {masks:,} masks from {len({receipt.id.source for receipt in receipts})} source datasets,
as WebDataset shards. A sample is `png` (the image), `mask.png` (a label map: pixel = mask id, further layers
stacked below) and `json` (class, organ, box and area of each mask, patient, licence, spacing, origin).

```python
from datasets import load_dataset

dataset = load_dataset("{repository or "PATH OR REPOSITORY"}", "{example}", split="{split}", streaming=True)
```

Configs: {", ".join(f"`{config.name}`" for config in listed) or "none, no source may be redistributed"}.
`-commercial` holds what may be used commercially, `-permissive` what is not share-alike either. Splits are by
patient. Each image is under the licence of its source, which its metadata and its path name.
"""


def _license_table(receipts: list[Receipt]) -> str:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for receipt in receipts:
        counts[receipt.license].update({"images": receipt.samples, "masks": receipt.masks})
    lines = ["## Licences", "", "| licence | in the configs | images | masks |", "|---|---|--:|--:|"]
    for name, count in sorted(counts.items()):
        tiers_of = ", ".join(tiers(name)) or "none"
        lines.append(f"| {name} | {tiers_of} | {count['images']:,} | {count['masks']:,} |")
    return "\n".join(lines) + "\n"


def _label_table(receipts: list[Receipt]) -> str:
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for receipt in receipts:
        for label, count in receipt.labels.items():
            labels[label][receipt.id.split] += count
    lines = ["## Masks by class and split", "", f"| class | {' | '.join(SPLITS)} |", f"|---|{'--:|' * len(SPLITS)}"]
    for label, by_split in sorted(labels.items()):
        lines.append(f"| {label} | {' | '.join(f'{by_split[split]:,}' for split in SPLITS)} |")
    return "\n".join(lines) + "\n"


def _limits() -> str:
    return """## Known limits

- Images are 2D slices scaled to 8 bit each by its own range, unless `intensity` in their metadata says otherwise; its
  `slope` and `intercept` give source values back. Slices of an axis whose shorter edge is less than half the longer are
  left out, and so are objects below 0.15 % of the image's area where their source sets no other bound; `dropped` in
  the metadata counts those of the image, and [Sources](#sources) all of them. `not_annotated` names the classes that
  nobody looked for in a case.
- Masks are the sources' own: drawn by experts in some, by models in others. A class that a source does not annotate is
  not marked where it is visible.
- Modalities and classes are far from balanced; most images are CT and MR.
"""


def _take_down(repository: str) -> str:
    return f"""## Take-down

Whoever holds rights in a source and wants it removed opens a discussion at
https://huggingface.co/datasets/{repository}/discussions. Everything of a source lies in folders of its name and is
removed as a whole, from the history too where that is asked.
"""


def _modality_table(receipts: list[Receipt]) -> str:
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for receipt in receipts:
        rows[receipt.id.modality].update({receipt.id.split: receipt.samples, "masks": receipt.masks})
    lines = [
        "## Images by modality and split",
        "",
        f"| modality | {' | '.join(SPLITS)} | masks |",
        f"|---|{'--:|' * len(SPLITS)}--:|",
    ]
    for modality, counts in sorted(rows.items()):
        cells = " | ".join(f"{counts[column]:,}" for column in (*SPLITS, "masks"))
        lines.append(f"| {modality} | {cells} |")
    return "\n".join(lines) + "\n"


def _left_out(receipts: list[Receipt]) -> str:
    """What the area rule and the gate over mask files left out of a source, as the end of a sentence."""
    bad = sum(receipt.dropped.get("bad_mask", 0) for receipt in receipts)
    files = f"; {bad:,} mask {'file' if bad == 1 else 'files'} could not be used, see `not_annotated`" if bad else ""
    masks = sum(receipt.dropped.get("small_mask", 0) for receipt in receipts)
    share = lost_shares(receipts).get("small_mask", 0)
    small = f"; {masks:,} small masks, {100 * share:.1f} % of the mask pixels, are left out" if masks else ""
    return small + files


def _own_split(source: SourceDescription) -> list[str]:
    """How patients are dealt whom the source puts into no split, where that is not as everywhere."""
    if (source.split_ratios, source.split_seed) == (HASHED_RATIOS, 0):
        return []
    shares = ", ".join(f"{name} {100 * share:g} %" for name, share in zip(SPLITS, source.split_ratios, strict=True))
    seed = f", seed {source.split_seed}" if source.split_seed else ""
    return [f"  Splits are not the source's own where `official_split` is false: {shares}{seed}."]


def _source_table(receipts: list[Receipt], sources: Mapping[str, SourceDescription]) -> str:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    licenses = {}
    for receipt in receipts:
        counts[receipt.id.source].update({"images": receipt.samples, "masks": receipt.masks})
        licenses[receipt.id.source] = receipt.license
    lines = ["## Sources", ""]
    for name, count in sorted(counts.items()):
        source = sources.get(name)
        small = _left_out([receipt for receipt in receipts if receipt.id.source == name])
        lines.append(f"- **{name}** ({licenses[name]}): {count['images']:,} images, {count['masks']:,} masks{small}.")
        if source is not None:
            lines.append(f"  [{source.title}]({source.homepage}). {source.citation}")
            lines += _own_split(source)
        evidence, access = (source.license_evidence, source.access) if source else (None, "open")
        refused = refusal(licenses[name], evidence, access)
        if refused:
            lines.append(f"  Not for publication: {refused}.")
    return "\n".join(lines) + "\n"
