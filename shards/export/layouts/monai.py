"""The layouts ``monai`` and ``monai-3d``: pictures or volumes, and lists as the Decathlon's.

A list over all sources, and one for each: where one source annotates the liver and another does not, a network that
learns from both takes the liver of the latter for background.

Rules: ``monai.data.load_decathlon_datalist``: lists ``training``, ``validation`` and ``test`` of ``image`` and
``label``, whose paths begin where the list lies; it stops at an empty list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from shards.export.layout import Gathered, Layout, Overview, Unit, as_json, write_document
from shards.export.layouts.semantic import class_map, overlaps_said
from shards.export.layouts.volume import OfVolumes, Volume, left_out_said, nifti
from shards.export.sample import Sample
from shards.png import encode_label_map

LIST: Final = "dataset.json"
_LISTS: Final = {"train": "training", "validation": "validation", "test": "test"}
_KEPT: Final = ("source", "modality", "submodality", "license", "patient", "case", "plane", "index", "spacing")
"""Fields of the metadata that an item has beside its files."""


class Monai(Layout):
    """``images/{split}/{key}.png`` as stored, ``labels/{split}/{key}.png`` (number of the class), and the lists."""

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._numbers = {label: number for number, label in enumerate(overview.labels, 1)}
        several = len(overview.labels_of) > 1  # else the list over all is that of the one
        self._ends = {source: f"_{place}" for place, source in enumerate(overview.labels_of) if several}

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        image, label = (f"{kind}/{sample.split}/{sample.key}.png" for kind in ("images", "labels"))
        classes, hidden = class_map(sample, self._numbers)
        unit.file(image, sample.image)
        unit.file(label, encode_label_map(classes))
        self._list(unit, sample.record, image, label, hidden)

    def _list(self, unit: Unit, record: dict[str, Any], image: str, label: str, hidden: int) -> None:
        about = {name: record[name] for name in _KEPT}
        missing = record.get("not_annotated", [])
        item = as_json({"image": image, "label": label, **about, "not_annotated": missing})
        for end in {"", self._ends.get(record["source"], "")}:
            unit.entry(f"{record['split']}{end}", item)
            unit.count(f"{record['split']}{end}")
            unit.note(f"modality{end}", record["modality"])
        unit.count("hidden", hidden)

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        self._write_list(gathered, LIST, "", self._numbers)
        for source, end in self._ends.items():
            if gathered.notes(f"modality{end}"):
                own = {label: self._numbers[label] for label in self.overview.labels_of[source]}
                self._write_list(gathered, list_of(source), end, own)
        return overlaps_said(gathered.counted("hidden"))

    def _write_list(self, gathered: Gathered, path: str, end: str, numbers: Mapping[str, int]) -> None:
        """Write a list.

        Args:
            gathered: What the units left.
            path: Where; the paths in it begin there.
            end: Of the names of its documents and notes.
            numbers: Class -> its number.
        """
        head = {
            "name": "sa-med2d",
            "description": "Exported from shards by sa-med2d; licences are in SOURCES.md",
            "tensorImageSize": "3D" if self.whole_cases else "2D",
            "modality": {str(at): name for at, name in enumerate(gathered.notes(f"modality{end}"))},
            "labels": {"0": "background", **{str(number): label for label, number in numbers.items()}},
            "numTraining": int(gathered.counted(f"train{end}")),
            "numTest": int(gathered.counted(f"test{end}")),
        }
        counted = {name: f"{split}{end}" for split, name in _LISTS.items() if gathered.counted(f"{split}{end}")}
        with gathered.open(path) as file:
            write_document(file, head, {name: gathered.lines(document) for name, document in counted.items()})


def list_of(source: str) -> str:
    """Name of the list of one source."""
    return f"dataset_{source}.json"


class MonaiVolumes(OfVolumes, Monai):
    """The same over volumes: ``images/{split}/{volume}.nii.gz`` in the source's own values, and their classes."""

    def volumes(self) -> Iterable[Volume | str]:
        """See `OfVolumes`."""
        return self.slices.volumes(dict.fromkeys(self.overview.labels_of, self._numbers))

    def write(self, volume: Volume, unit: Unit) -> None:
        """See `OfVolumes`."""
        image, label = (f"{kind}/{volume.record['split']}/{volume.name}.nii.gz" for kind in ("images", "labels"))
        unit.file(image, nifti(volume, volume.image))
        unit.file(label, nifti(volume, volume.classes))
        self._list(unit, {**volume.record, "plane": None, "index": None}, image, label, volume.hidden)

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        return [*super().finish(gathered), *left_out_said(gathered)]
