"""The layout ``sam3``: noun phrases and their instances, for the training and evaluation code of SAM 3.

Rules: https://github.com/facebookresearch/sam3, ``sam3/train/data/coco_json_loaders.py``. Training
(``COCO_FROM_JSON``) asks every image of a file for the name of every category of that file, and takes for absent what
has no annotation. So each source has a file of its own, whose categories are classes that it annotates; where an image
may show a class without a mask of it (nobody looked for it, its objects were too small to keep, or a filter took them
away), a crowd that covers the image says so: ``FilterCrowds``, with which SAM 3's configurations for training begin,
drops that question. Evaluation (``SAM3_EVAL_API_FROM_JSON_NP``, SA-Co) reads pairs of an image and a phrase, and there
such pairs are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from shards.export.layout import Gathered, Layout, Overview, Unit, as_json, write_document
from shards.export.layouts.coco import annotation, run_lengths
from shards.export.layouts.numbers import category_numbers
from shards.export.pictures import eight_bit_png
from shards.export.sample import Sample

_QUERIES: Final = 81
"""Categories of a file that training takes at once (``max_train_queries``)."""


class Sam3(Layout):
    """``annotations/{split}/{source}.json`` and ``pairs/{split}.json`` over ``images/{split}/{source}/{key}.png``.

    Where nothing says which classes a source annotates, what it does not show may be there all the same: its file lies
    in ``positives/{split}`` and is to be read with ``include_negatives: false``.
    """

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._numbers = category_numbers(overview.labels)
        self._places = {source: place for place, source in enumerate(overview.labels_of)}
        self._most = max(map(len, overview.labels_of.values()), default=0)

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        record, split = sample.record, sample.split
        name = f"{split}/{record['source']}/{sample.key}.png"
        unit.file(f"images/{name}", eight_bit_png(sample))
        size = {"height": record["height"], "width": record["width"]}
        about = {"id": sample.number + 1, "file_name": name, **size, "key": sample.key, "license": record["license"]}
        kind = "positives" if record["absent"] is None else "annotations"
        document = f"{split}_{kind}_{self._places[record['source']]}"
        unit.note("files", [split, kind, record["source"]])
        unit.entry(f"images_{document}", as_json(about))
        annotations = [
            annotation(sample, at, mask, self._numbers[entry["label"]])
            for at, (entry, mask) in enumerate(sample.masks())
        ]
        for one in (*annotations, *self._crowds(sample, unit)):
            unit.entry(f"annotations_{document}", as_json(one))
        if split != "train":
            self._pairs(sample, about, annotations, unit)

    def _crowds(self, sample: Sample, unit: Unit) -> Iterator[dict[str, Any]]:
        """The whole image for each class of its source that it may show or not."""
        record = sample.record
        if record["absent"] is None:
            return
        told = {entry["label"] for entry in record["masks"]}.union(record["absent"])
        whole = run_lengths(np.ones((record["height"], record["width"]), np.bool_))
        for label in self.overview.labels_of[record["source"]]:
            if label not in told:
                unit.count("crowds")
                yield {
                    "id": self.overview.masks + self._pair(sample, label),
                    "image_id": sample.number + 1,
                    "category_id": self._numbers[label],
                    "segmentation": whole,
                    "area": record["height"] * record["width"],
                    "bbox": [0, 0, record["width"], record["height"]],
                    "iscrowd": 1,
                }

    def _pair(self, sample: Sample, label: str) -> int:
        """Another number, from 1 on, for each image and class of its source."""
        return sample.number * self._most + self.overview.labels_of[sample.record["source"]].index(label) + 1

    def _pairs(self, sample: Sample, about: dict[str, Any], annotations: list[dict[str, Any]], unit: Unit) -> None:
        record = sample.record
        shown = {entry["label"] for entry in record["masks"]}
        incomplete = set(record.get("dropped", {}).get("labels", ()))
        scale = np.array([record["width"], record["height"]] * 2)
        for label in self.overview.labels_of[record["source"]]:
            if label not in shown and label not in (record["absent"] or ()):
                continue
            whole = int(label not in incomplete)
            pair = {
                **about,
                "id": self._pair(sample, label),
                "text_input": self._phrase(record["source"], label),
                "queried_category": str(self._numbers[label]),
                "is_instance_exhaustive": whole,
                "is_pixel_exhaustive": whole,
            }
            unit.entry(f"pairs_{sample.split}", as_json(pair))
            for one in annotations:
                if one["category_id"] == self._numbers[label]:
                    part = {
                        **one,
                        "image_id": pair["id"],
                        "category_id": 1,
                        "area": one["area"] / (record["width"] * record["height"]),
                        "bbox": (np.array(one["bbox"]) / scale).tolist(),
                    }
                    unit.entry(f"parts_{sample.split}", as_json(part))

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        remarks = []
        for split, kind, source in gathered.notes("files"):
            document = f"{split}_{kind}_{self._places[source]}"
            self._write(gathered, f"{kind}/{split}/{source}.json", document, self._categories(source))
            if kind == "positives":
                remarks.append(
                    f"{kind}/{split}/{source}.json: nothing says which classes {source} annotates, or it was "
                    "built by an earlier version; read it with "
                    "include_negatives: false"
                )
        for split in (split for split in self.overview.splits if split != "train"):
            with gathered.open(f"pairs/{split}.json") as file:
                lists = {"images": gathered.lines(f"pairs_{split}"), "annotations": gathered.lines(f"parts_{split}")}
                write_document(file, {"categories": [{"id": 1, "name": "object"}]}, lists)
        crowds = int(gathered.counted("crowds"))
        if crowds:
            remarks.append(
                f"{crowds:,} times an image may show a class without a mask of it: annotations have a crowd there, "
                "which FilterCrowds drops in SAM 3's configurations for training; keep it"
            )
        remarks += [
            f"{source} has {len(labels)} classes, more than the {_QUERIES} that SAM 3 asks for at once: set "
            f"category_chunk_size to {_QUERIES} or less"
            for source, labels in self.overview.labels_of.items()
            if len(labels) > _QUERIES
        ]
        return remarks

    def _write(self, gathered: Gathered, path: str, document: str, categories: list[dict[str, Any]]) -> None:
        with gathered.open(path) as file:
            lists = {name: gathered.lines(f"{name}_{document}") for name in ("images", "annotations")}
            write_document(file, {"categories": categories}, lists)

    def _categories(self, source: str) -> list[dict[str, Any]]:
        return [
            {"id": self._numbers[label], "name": self._phrase(source, label), "label": label}
            for label in sorted(self.overview.labels_of[source], key=lambda label: self._numbers[label])
        ]

    def _phrase(self, source: str, label: str) -> str:
        """What a class is in plain English."""
        about = self.overview.sources.get(source)
        known = {one.label: one.phrase for one in about.classes} if about else {}
        return known.get(label) or label.replace("_", " ")
