"""Statistics of a set as one JSON document, made of what was counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sa_med2d_20m import SPLITS
from shards.report.collect import Counted, tier_names
from shards.report.quantities import QUANTITIES

FEW: Final = 1_000
"""Masks below which a class is rare; the paper names this bound, and the one below."""
MANY: Final = range(100_000, 1_000_001)
_PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)
_COUNTS: Final = ("images", "masks", "mask_pixels", "pixels", "without_mask", "small_masks", "small_mask_pixels")
NO_ORGAN: Final = "none"
"""What classes without an organ of the 31 are counted under."""


def statistics(counted: Counted) -> dict[str, Any]:
    """All statistics, as plain data; `docs/report.md` has each key."""
    images, classes = counted.images.to_pylist(), counted.classes.to_pylist()
    return {
        "total": _total(images, classes, counted.people.to_pylist()),
        "images_by": {
            **{
                name: summed_by(images, (name,), _COUNTS)
                for name in ("modality", "source", "license", "split", "plane")
            },
            "submodality": summed_by(images, ("modality", "submodality"), _COUNTS),
            "tier": summed_by(_in_tiers(images), ("tier",), _COUNTS),
        },
        "masks_by": {
            "organ": _by_organ(classes, ("organ",)),
            "modality_and_organ": _by_organ(classes, ("modality", "organ")),
            "group": summed_by(classes, ("group",), ("masks", "mask_pixels")),
            "modality_and_group": summed_by(classes, ("modality", "group"), ("masks", "mask_pixels")),
        },
        "classes": class_list(classes),
        "tail": tail(class_list(classes)),
        "quantities": {name: _distribution(name, counted.values) for name in QUANTITIES},
        "people": {
            "split": summed_by(counted.people.to_pylist(), ("split",), ("patients", "cases", "volumes")),
            "modality_and_split": summed_by(
                counted.people.to_pylist(), ("modality", "split"), ("patients", "cases", "volumes")
            ),
            "source_and_split": summed_by(
                counted.people.to_pylist(), ("source", "split"), ("patients", "cases", "volumes")
            ),
        },
        "dropped": _left_out(counted),
        "small_masks": counted.small.to_pylist(),
        "not_annotated": counted.not_annotated.to_pylist(),
    }


def summed_by(rows: Iterable[Mapping[str, Any]], keys: Sequence[str], counts: Sequence[str]) -> list[dict[str, Any]]:
    """Rows added up by some keys, the largest first by the first count; splits in their own order."""
    sums: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        sums[tuple(row[key] for key in keys)].update({name: row[name] for name in counts})
    found = [dict(zip(keys, key, strict=True)) | {name: sums[key][name] for name in counts} for key in sums]
    return sorted(found, key=lambda row: _order(row, keys, counts[0]))


def _order(row: Mapping[str, Any], keys: Sequence[str], count: str) -> tuple[Any, ...]:
    names = [SPLITS.index(row[key]) if key == "split" else str(row[key]) for key in keys]
    return tuple(names) if "split" in keys else (-row[count], *names)


def _total(images: list[dict[str, Any]], classes: list[dict[str, Any]], people: list[dict[str, Any]]) -> dict[str, int]:
    counts = {name: sum(row[name] for row in images) for name in _COUNTS}
    distinct = {
        "sources": len({row["source"] for row in images}),
        "modalities": len({row["modality"] for row in images}),
        "classes": len({row["label"] for row in classes}),
        "organs": len({row["organ"] for row in classes} - {None}),
    }
    return {
        **counts,
        **distinct,
        **{name: sum(row[name] for row in people) for name in ("patients", "cases", "volumes")},
    }


def _in_tiers(images: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each tier that an image's licence is in: they contain each other."""
    return [{**row, "tier": tier} for row in images for tier in tier_names(row["license"])]


def _by_organ(classes: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    return summed_by([{**row, "organ": row["organ"] or NO_ORGAN} for row in classes], keys, ("masks", "mask_pixels"))


def class_list(classes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The classes with their masks, images that show them, pixels and sources, most masks first."""
    rows = list(classes)
    sources: dict[str, set[str]] = defaultdict(set)
    about: dict[str, dict[str, Any]] = {}
    for row in rows:
        sources[row["label"]].add(row["source"])
        about.setdefault(row["label"], {"organ": row["organ"], "group": row["group"]})
    found = summed_by(rows, ("label",), ("masks", "images", "mask_pixels"))
    return [{**row, **about[row["label"]], "sources": sorted(sources[row["label"]])} for row in found]


def tail(classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How uneven classes are: names of the rare ones, and of those in the paper's band of many masks."""
    return {
        "below_1000": [row["label"] for row in classes if row["masks"] < FEW],
        "from_100k_to_1m": [row["label"] for row in classes if row["masks"] in MANY],
        "above_1m": [row["label"] for row in classes if row["masks"] > MANY[-1]],
    }


def _distribution(name: str, values: pa.Table) -> dict[str, Any]:
    """How a quantity is spread, over all modalities and in each."""
    quantity = QUANTITIES[name]
    by_modality = counts_of(name, values)
    everything = _together(by_modality.values())
    return {
        "title": quantity.title,
        "unit": quantity.unit,
        "of": quantity.of,
        "all": _spread(everything, integral=quantity.integral),
        "modalities": {
            modality: _spread(counts, integral=quantity.integral) for modality, counts in sorted(by_modality.items())
        },
    }


Counts = tuple[Any, Any]
"""Values in rising order, and how often each occurs."""


def counts_of(name: str, values: pa.Table) -> dict[str, Counts]:
    """The values of a quantity in each modality.

    Args:
        name: One of `QUANTITIES`.
        values: Of `Counted`.
    """
    found: dict[str, Counts] = {}
    rows = [row for row in values.to_pylist() if row["quantity"] == name]
    for modality in sorted({row["modality"] for row in rows}):
        own = [(row["value"], row["count"]) for row in rows if row["modality"] == modality]
        found[modality] = np.array([value for value, _ in own]), np.array([count for _, count in own], np.int64)
    return found


def _together(parts: Iterable[Counts]) -> Counts:
    sums = Counter[float]()
    for values, counts in parts:
        sums.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    ordered = sorted(sums.items())
    return np.array([value for value, _ in ordered]), np.array([count for _, count in ordered], np.int64)


def _spread(found: Counts, *, integral: bool) -> dict[str, Any] | None:
    """Count, ends, mean and percentiles, to the step in which values are counted; None where there is no value."""
    values, counts = found
    if not len(values):
        return None
    last = np.cumsum(counts)
    plain = int if integral else _short
    # the smallest value that at least this share of all does not exceed
    percentiles = {
        f"p{share:02d}": plain(values[np.searchsorted(last, share / 100 * last[-1])]) for share in _PERCENTILES
    }
    mean = _short(np.average(values, weights=counts))
    return {"count": int(last[-1]), "min": plain(values[0]), **percentiles, "max": plain(values[-1]), "mean": mean}


def _short(value: float) -> float:
    """A number without the last digits, in which machines may differ."""
    return float(f"{value:.6g}")


def _left_out(counted: Counted) -> dict[str, Any] | None:
    """What rules and gates left out; None where no receipt says it."""
    if not counted.dropped.num_rows:
        return None
    rows = counted.dropped.to_pylist()
    return {
        "source_and_reason": rows,
        "source_and_class": counted.lost.to_pylist(),
        "class": _lost_classes(counted),
        "reason": summed_by(rows, ("reason",), ("count", "mask_pixels")),
    }


def _lost_classes(counted: Counted) -> list[dict[str, Any]]:
    """Each class with the mask pixels that rules and gates left out of it in all sources, most of all first.

    The edge rule does not count where other axes show the same objects, as in `shards.receipt.lost_shares`.
    """
    kept, lost = Counter[str](), Counter[str]()
    for row in counted.classes.to_pylist():
        kept[row["label"]] += row["mask_pixels"]
    for row in counted.lost.to_pylist():
        if row["share"]:
            lost[row["label"]] += row["mask_pixels"]
    found = [
        {"label": label, "mask_pixels": pixels, "share": pixels / (pixels + kept[label])}
        for label, pixels in lost.items()
    ]
    return sorted(found, key=lambda row: (-row["share"], row["label"]))
