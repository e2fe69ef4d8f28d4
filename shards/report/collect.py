"""One pass over the rows of a set, in which everything that a report counts is counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards.license import tiers
from shards.receipt import Receipt, lost_shares, summed, summed_by_reason
from shards.report.quantities import QUANTITIES
from shards.report.sums import Sums

_KINDS: Final = ("modality", "submodality", "source", "license", "split", "plane")
_PLACE: Final = ("modality", "license", "source", "split")
"""What the path of a shard says: rows of one such place come one after another."""
_CLASS: Final = ("label", "organ", "group")
_OF_IMAGES: Final = ("images", "masks", "mask_pixels", "pixels", "without_mask", "small_masks", "small_mask_pixels")
_OF_CLASSES: Final = ("masks", "images", "mask_pixels")


@dataclass(frozen=True)
class Counted:
    """What a set holds, counted: tables of which all statistics and figures are made.

    Attributes:
        images: A row for each modality, sub-modality, source, licence, split and plane: images, masks, pixels of both,
            images without a mask, and masks that the area rule left out, with their pixels.
        classes: A row for each class of each modality, source, licence and split: masks, images that show it, pixels.
        values: A row for each value of each of `QUANTITIES` in each modality: how often it occurs.
        people: A row for each modality, licence, source and split: patients, cases, volumes.
        not_annotated: A row for each source and class: images that do not annotate it, although the source does.
        small: A row for each source and class: images from which the area rule left out masks of it.
        dropped: A row for each source and rule or gate: what it left out, its mask pixels, and their share of all.
            Without rows where the set has no receipts.
        lost: A row for each source, rule or gate, and class: mask pixels that it left out, and their share of all
            of the class there. Of what receipts count without classes there is no row.
    """

    images: pa.Table
    classes: pa.Table
    values: pa.Table
    people: pa.Table
    not_annotated: pa.Table
    small: pa.Table
    dropped: pa.Table
    lost: pa.Table


class Collector:
    """Takes the rows in, in the order of the shards' paths."""

    columns: Final = tuple(
        dict.fromkeys(
            [
                *_KINDS,
                *("patient", "case", "axis", "height", "width", "not_annotated"),
                *(f"dropped.{name}" for name in ("masks", "pixels", "labels")),
                *(f"masks.{name}" for name in (*_CLASS, "area")),
                *(column for quantity in QUANTITIES.values() for column in quantity.columns),
            ]
        )
    )
    """Columns of the index that it needs."""

    def __init__(self) -> None:
        self._images = Sums(_KINDS, _OF_IMAGES)
        self._classes = Sums((*_PLACE, *_CLASS), _OF_CLASSES)
        self._values = Sums(("quantity", "modality", "value"), ("count",), fractions=("value",))
        self._not_annotated = Sums(("source", "label"), ("images",))
        self._small = Sums(("source", "label"), ("images",))
        self._people = _People()

    def add(self, rows: pa.Table) -> None:
        """Take rows in.

        Args:
            rows: With at least `columns`.
        """
        masks = rows["masks"].combine_chunks()
        parents = pc.list_parent_indices(masks)
        flat = pc.list_flatten(masks)
        self._add_images(rows, masks, parents, flat)
        self._add_classes(rows, parents, flat)
        for name, quantity in QUANTITIES.items():
            values = quantity.rounded(quantity.measure(rows))
            modality = rows["modality"].combine_chunks()
            self._add_values(name, modality if quantity.of == "images" else modality.take(parents), values)
        _add_labels(self._not_annotated, rows, rows["not_annotated"])
        _add_labels(self._small, rows, pc.struct_field(rows["dropped"], "labels"))
        self._people.add(rows)

    def _add_images(self, rows: pa.Table, masks: pa.Array, parents: pa.Array, flat: pa.Array) -> None:
        count = pc.fill_null(pc.list_value_length(masks), 0).to_numpy(zero_copy_only=False)
        area = pc.struct_field(flat, "area").to_numpy(zero_copy_only=False)
        # summed as floats, which hold whole numbers to 2^53
        covered = np.bincount(parents.to_numpy(zero_copy_only=False), area, minlength=len(rows)).astype(np.int64)
        self._images.add(
            pa.table(
                {
                    **{name: rows[name] for name in _KINDS},
                    "images": _ones(len(rows)),
                    "masks": pa.array(count, pa.int64()),
                    "mask_pixels": covered,
                    "pixels": pc.multiply(rows["height"], rows["width"]),
                    "without_mask": pa.array(count == 0).cast(pa.int64()),
                    "small_masks": pc.struct_field(rows["dropped"], "masks"),
                    "small_mask_pixels": pc.struct_field(rows["dropped"], "pixels"),
                }
            )
        )

    def _add_classes(self, rows: pa.Table, parents: pa.Array, flat: pa.Array) -> None:
        fields = {name: pc.struct_field(flat, name) for name in _CLASS}
        area = pc.struct_field(flat, "area")
        shown = pa.table({"image": parents, **fields, "area": area}).group_by(["image", *_CLASS], use_threads=False)
        in_images = shown.aggregate([([], "count_all"), ("area", "sum")])
        # the places of images are taken where they are few: a row for each image and class
        places = rows.select(_PLACE).take(in_images["image"])
        columns = {name: places[name] for name in _PLACE} | {name: in_images[name] for name in _CLASS}
        counts = {
            "masks": in_images["count_all"],
            "images": _ones(len(in_images)),
            "mask_pixels": in_images["area_sum"],
        }
        self._classes.add(pa.table({**columns, **counts}))

    def _add_values(self, name: str, modality: pa.Array, values: Any) -> None:
        there = np.isfinite(values)
        kept = pa.table({"modality": modality.filter(pa.array(there)), "value": values[there]})
        if not len(kept):
            return
        counts = kept.group_by(["modality", "value"], use_threads=False).aggregate([([], "count_all")])
        quantity = pa.array([name]).dictionary_encode().take(pa.array(np.zeros(len(counts), np.int32)))
        counted = {"quantity": quantity, "modality": counts["modality"], "value": counts["value"]}
        self._values.add(pa.table({**counted, "count": counts["count_all"]}))

    def counted(self, receipts: Collection[Receipt]) -> Counted:
        """What was taken in, with what receipts say was left out."""
        classes = self._classes.table()
        return Counted(
            images=self._images.table(),
            classes=classes,
            values=self._values.table(),
            people=self._people.table(),
            not_annotated=self._not_annotated.table(),
            small=self._small.table(),
            dropped=_dropped(receipts),
            lost=_lost(receipts, classes),
        )


def _add_labels(sums: Sums, rows: pa.Table, lists: pa.ChunkedArray) -> None:
    """Count the images of each source that list a label."""
    lists = lists.combine_chunks()
    labels = pc.list_flatten(lists)
    if len(labels):
        source = rows["source"].combine_chunks().take(pc.list_parent_indices(lists))
        sums.add(pa.table({"source": source, "label": labels, "images": _ones(len(labels))}))


def _ones(count: int) -> Any:
    return np.ones(count, np.int64)


class _People:
    """Distinct patients, cases and volumes of each place. Only the place that rows come from now is in memory."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._place: tuple[str, ...] | None = None
        self._seen: dict[str, set[Any]] = defaultdict(set)

    def add(self, rows: pa.Table) -> None:
        shown = rows.select([*_PLACE, "patient", "case", "submodality"])
        volume = pc.not_equal(rows["axis"].combine_chunks(), "2d")
        distinct = shown.append_column("volume", volume).group_by(
            [*_PLACE, "patient", "case", "submodality", "volume"], use_threads=False
        )
        # in the order in which the rows come, as groups do
        for row in distinct.aggregate([]).to_pylist():
            place = tuple(row[name] for name in _PLACE)
            if place != self._place:
                self._close()
                self._place = place
            self._seen["patients"].add(row["patient"])
            self._seen["cases"].add(row["case"])
            if row["volume"]:
                self._seen["volumes"].add((row["case"], row["submodality"]))

    def _close(self) -> None:
        if self._place is not None:
            counts = {name: len(self._seen[name]) for name in ("patients", "cases", "volumes")}
            self._rows.append(dict(zip(_PLACE, self._place, strict=True)) | counts)
        self._seen.clear()

    def table(self) -> pa.Table:
        self._close()
        self._place = None
        columns = [*((name, pa.string()) for name in _PLACE)]
        counts = [(name, pa.int64()) for name in ("patients", "cases", "volumes")]
        return pa.Table.from_pylist(self._rows, schema=pa.schema([*columns, *counts]))


_DROPPED: Final = pa.schema(
    [
        ("source", pa.string()),
        ("reason", pa.string()),
        ("count", pa.int64()),
        ("mask_pixels", pa.int64()),
        ("share", pa.float64()),
    ]
)


def _dropped(receipts: Iterable[Receipt]) -> pa.Table:
    """What rules and gates left out of each source."""
    by_source: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_source[receipt.id.source].append(receipt)
    rows = []
    for source, own in sorted(by_source.items()):
        counts = Counter(summed(receipt.dropped for receipt in own))
        lost = Counter(summed(receipt.lost_pixels for receipt in own))
        shares = lost_shares(own)
        rows += [
            {
                "source": source,
                "reason": reason,
                "count": counts[reason],
                "mask_pixels": lost[reason],
                "share": shares.get(reason, 0.0),
            }
            for reason in sorted(counts.keys() | lost.keys())
        ]
    return pa.Table.from_pylist(rows, schema=_DROPPED)


_LOST: Final = pa.schema(
    [
        ("source", pa.string()),
        ("reason", pa.string()),
        ("label", pa.string()),
        ("mask_pixels", pa.int64()),
        ("share", pa.float64()),
    ]
)


def _lost(receipts: Iterable[Receipt], classes: pa.Table) -> pa.Table:
    """Mask pixels of each class that rules and gates left out of each source.

    Args:
        receipts: Of the shards.
        classes: Of `Counted`: what is left.
    """
    kept = Counter[tuple[str, str]]()
    for row in classes.select(["source", "label", "mask_pixels"]).to_pylist():
        kept[row["source"], row["label"]] += row["mask_pixels"]
    by_source: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_source[receipt.id.source].append(receipt)
    rows = []
    for source, own in sorted(by_source.items()):
        found = summed_by_reason(receipt.lost_by_class for receipt in own)
        # axes that the edge rule leaves out show the same objects once more, see `lost_shares`
        annotated = Counter({label: kept[source, label] for label in set().union(*found.values())})
        for reason, by_class in found.items():
            annotated.update({} if reason == "edge" else by_class)
        for reason, by_class in found.items():
            for label, pixels in by_class.items():
                whole = annotated[label]
                share = 1.0 if not whole else 0.0 if reason == "edge" else pixels / whole
                said = {"source": source, "reason": reason, "label": label, "mask_pixels": pixels, "share": share}
                rows.append(said)
    return pa.Table.from_pylist(rows, schema=_LOST)


def tier_names(license_id: str) -> tuple[str, ...]:
    """The tiers that a licence belongs to; ``none`` for one that is in no tier."""
    return tiers(license_id) or ("none",)
