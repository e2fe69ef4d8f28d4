"""The layout ``files``: pictures as they are stored, a PNG for each mask, and one table."""

from __future__ import annotations

from typing import Final

from shards.export.layout import Gathered, Layout, Unit
from shards.export.pictures import mask_png
from shards.export.sample import Sample
from shards.export.table import row

_TABLE: Final = "masks.csv"
_OF_IMAGE: Final = (
    "key", "source", "modality", "submodality", "license", "patient", "case", "split", "plane", "index", "height",
    "width",
)  # fmt: skip
_OF_MASK: Final = ("label", "class_id", "organ", "group", "instance", "area")
_BOX: Final = ("x", "y", "box_width", "box_height")
COLUMNS: Final = ("image", "mask", *_OF_IMAGE, *_OF_MASK, *_BOX)
"""Of the table: a row for each mask; an image without a mask has one row without one."""


class Files(Layout):
    """``images/{source}/{key}.png``, ``masks/{source}/{key}--{label}_{instance}.png`` (0 and 255) and ``masks.csv``."""

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        record = sample.record
        image = f"images/{record['source']}/{sample.key}.png"
        unit.file(image, sample.image)
        about = [record[name] for name in _OF_IMAGE]
        for entry, mask in sample.masks():
            path = f"masks/{record['source']}/{sample.key}--{entry['label']}_{entry['instance']:03d}.png"
            unit.file(path, mask_png(mask))
            unit.entry("table", row([image, path, *about, *(entry[name] for name in _OF_MASK), *entry["bbox"]]))
        if not record["masks"]:
            unit.entry("table", row([image, "", *about, *[""] * (len(_OF_MASK) + len(_BOX))]))

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        with gathered.open(_TABLE) as file:
            file.write(row(COLUMNS).encode() + b"\n")
            for line in gathered.lines("table"):
                file.write(line + b"\n")
        return []
