"""The layouts ``monai`` and ``monai-3d``: lists of images and label maps as in the Medical Segmentation Decathlon.

Rules: https://github.com/Project-MONAI/MONAI, ``monai/data/decathlon_datalist.py`` (``load_decathlon_datalist``,
``load_decathlon_properties``) and ``monai/apps/datasets.py``: a folder holds ``dataset.json``, whose ``training``,
``validation`` and ``test`` are lists of records with the paths ``image`` and ``label`` below that folder; further
fields of a record come along. A source is a folder of its own, as a task of the Decathlon is: in a merged list, what
one source does not annotate would be background.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from shards.export.class_map import class_map, overlap_remark
from shards.export.layout import Gathered, Layout, Overview, Unit, as_json, write_json_list
from shards.export.layouts.numbers import category_numbers
from shards.export.sample import Sample
from shards.export.stacks import Stack, is_slice
from shards.export.volume import WholeVolumes, image_name, left_out, source_values, volume_file
from shards.png import encode_image

_FOLDERS: Final = {"train": "Tr", "validation": "Va", "test": "Ts"}
_LISTS: Final = {"train": "training", "validation": "validation", "test": "test"}
"""Split -> name of its list."""
_OF_SAMPLE: Final = ("modality", "submodality", "license", "patient", "case", "plane")
"""Fields of the metadata that a record has beside its paths."""


class Monai(Layout):
    """Slices and pictures: ``{source}/imagesTr/{key}.png``, ``labelsTr/{key}.png`` and ``dataset.json``.

    The folders end in ``Va`` and ``Ts`` for validation and test.
    """

    dimensions = "2D"
    ending = ".png"

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._places = {source: place for place, source in enumerate(overview.labels_of)}

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        labels = class_map(sample, self._numbers(sample.record["source"]), unit)
        self._put(unit, sample, sample.key, (sample.image, encode_image(labels)))

    def _numbers(self, source: str) -> dict[str, int]:
        """Class name -> number in label maps, from 1 on without gaps."""
        known = category_numbers(self.overview.labels_of[source])
        return {label: number for number, label in enumerate(sorted(known, key=known.__getitem__), 1)}

    def _put(self, unit: Unit, sample: Sample, name: str, pair: tuple[bytes, bytes]) -> None:
        record, source = sample.record, sample.record["source"]
        paths = {}
        for kind, data in zip(("image", "label"), pair, strict=True):
            paths[kind] = f"{kind}s{_FOLDERS[sample.split]}/{name}{self.ending}"
            unit.file(f"{source}/{paths[kind]}", data)
        about = {field: record[field] for field in _OF_SAMPLE}
        item = {**paths, "key": name, **about, "not_annotated": record.get("not_annotated", [])}
        unit.entry(f"{self._places[source]}_{sample.split}", as_json(item))
        unit.count(f"{source} {sample.split}")
        unit.note("sources", [source, record["modality"], record["license"]])

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        held: dict[str, list[tuple[str, str]]] = {}
        for source, modality, license_id in gathered.notes("sources"):
            held.setdefault(source, []).append((modality, license_id))
        for source, kinds in held.items():
            with gathered.open(f"{source}/dataset.json") as file:
                head = json.dumps(self._head(gathered, source, kinds), ensure_ascii=False, indent=1)
                file.write(head.removesuffix("\n}").encode())
                for split, name in _LISTS.items():
                    file.write(f',\n "{name}": ['.encode())
                    write_json_list(file, gathered.lines(f"{self._places[source]}_{split}"))
                    file.write(b"]")
                file.write(b"\n}\n")
        return overlap_remark(gathered.counted("hidden"), gathered.counted("overlapped"))

    def _head(self, gathered: Gathered, source: str, kinds: list[tuple[str, str]]) -> dict[str, Any]:
        about = self.overview.sources.get(source)
        counted = {split: int(gathered.counted(f"{source} {split}")) for split in _LISTS}
        return {
            "name": source,
            "description": about.title if about else source,
            "reference": about.homepage if about else "",
            "licence": ", ".join(sorted({license_id for _, license_id in kinds})),
            "tensorImageSize": self.dimensions,
            "modality": {str(at): name for at, name in enumerate(sorted({modality for modality, _ in kinds}))},
            "labels": {"0": "background"} | {str(at): label for label, at in self._numbers(source).items()},
            "numTraining": counted["train"],
            "numValidation": counted["validation"],
            "numTest": counted["test"],
        }


class MonaiVolumes(Monai):
    """Volumes: ``{source}/imagesTr/{image}.nii.gz``, and so on, with values and geometry of the source.

    An image is taken along the first axis of which all its slices are there; what has no such axis is counted.
    """

    whole_cases = True
    dimensions = "3D"
    ending = ".nii.gz"

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._volumes = WholeVolumes()

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        if is_slice(sample.key):
            self._write(self._volumes.stacking.add(sample), unit)
        else:
            unit.count("pictures")

    def end(self, unit: Unit) -> None:
        """See `Layout`."""
        self._write(self._volumes.stacking.end(), unit)
        unit.count("incomplete", self._volumes.missed)

    def _write(self, stack: Stack | None, unit: Unit) -> None:
        if stack is None or not self._volumes.take(stack):
            return
        numbers = self._numbers(stack.first.record["source"])
        labels = np.stack([class_map(sample, numbers, unit) for sample in stack.samples])
        pair = (volume_file(source_values(stack), stack), volume_file(labels, stack))
        self._put(unit, stack.first, image_name(stack), pair)

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        return [*super().finish(gathered), *left_out(gathered)]
