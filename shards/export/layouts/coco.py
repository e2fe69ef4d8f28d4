"""The layout ``coco``: pictures, and instances with run lengths, a file for each split.

Format: https://cocodataset.org/#format-data, and ``pycocotools``, which encodes the masks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.export.layout import Gathered, Layout, Overview, Unit, as_json, write_document
from shards.export.layouts.numbers import category_numbers
from shards.export.pictures import eight_bit_png
from shards.export.sample import Sample
from shards.license import spdx_page

_OF_SAMPLE: Final = ("key", "source", "modality", "submodality", "patient", "case", "plane", "index", "spacing")
"""Fields of the metadata that an image of the file has beside those of COCO."""


class Coco(Layout):
    """``annotations/instances_{split}.json`` over ``images/{split}/{source}/{key}.png``.

    ``file_name`` is below ``images/{split}``, as readers join the two. Ids of categories are the numbers of classes in
    semantic maps, so they are the same in every export; each licence has an id, which its images name.
    """

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._numbers = category_numbers(overview.labels)

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        record, split = sample.record, sample.split
        name = f"{record['source']}/{sample.key}.png"
        unit.file(f"images/{split}/{name}", eight_bit_png(sample))
        image = {
            "id": sample.number + 1,
            "file_name": name,
            "height": record["height"],
            "width": record["width"],
            "license": self.overview.licenses.index(record["license"].lower()) + 1,
            **{field: record[field] for field in _OF_SAMPLE},
            "not_annotated": record.get("not_annotated", []),
        }
        unit.note("licenses", record["license"])
        unit.entry(f"images_{split}", as_json(image))
        for at, (entry, mask) in enumerate(sample.masks()):
            unit.note("classes", [entry["label"], entry["organ"], entry["group"]])
            one = annotation(sample, at, mask, self._numbers[entry["label"]])
            unit.entry(f"annotations_{split}", as_json({**one, "instance": entry["instance"]}))

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        head = {
            "info": {"description": "Exported from shards by sa-med2d", "version": "1"},
            "licenses": self._licenses(gathered),
            "categories": self._categories(gathered),
        }
        for split in self.overview.splits:
            with gathered.open(f"annotations/instances_{split}.json") as file:
                write_document(
                    file, head, {name: gathered.lines(f"{name}_{split}") for name in ("images", "annotations")}
                )
        return []

    def _licenses(self, gathered: Gathered) -> list[dict[str, Any]]:
        named = {name.lower(): name for name in gathered.notes("licenses")}
        return [
            {"id": at, "name": named[lower], "url": spdx_page(named[lower]) or ""}
            for at, lower in enumerate(self.overview.licenses, 1)
            if lower in named
        ]

    def _categories(self, gathered: Gathered) -> list[dict[str, Any]]:
        above = {label: organ or group for label, organ, group in reversed(gathered.notes("classes"))}
        return [
            {"id": number, "name": label, "supercategory": above[label]}
            for label, number in sorted(self._numbers.items(), key=lambda item: item[1])
        ]


def annotation(sample: Sample, at: int, mask: npt.NDArray[np.bool_], category: int) -> dict[str, Any]:
    """The mask at a place of a sample, as an annotation of COCO."""
    entry = sample.record["masks"][at]
    return {
        "id": sample.first_mask + at + 1,
        "image_id": sample.number + 1,
        "category_id": category,
        "segmentation": run_lengths(mask),
        "area": entry["area"],
        "bbox": entry["bbox"],
        "iscrowd": 0,
    }


def run_lengths(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as COCO's compressed run lengths: ``size`` (height, width) and ``counts``."""
    from pycocotools.mask import encode  # noqa: PLC0415 - only layouts with run lengths need it

    encoded = encode(np.asfortranarray(mask.view(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}
