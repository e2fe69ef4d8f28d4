"""One unit of an export, in whatever process."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sa_med2d_20m import DatasetError, Selection, ShardPart
from shards.export.layout import Overview, Unit
from shards.export.layouts import layout
from shards.export.sample import Sample
from shards.export.state import Run, Target
from shards.export.unit import MeasuredUnit, WrittenUnit
from shards.key import SampleKey

_PLACES: Final = 8
"""Places all over a selection where samples are measured."""
_PLACES_OF_CASES: Final = 2
"""The same where a whole case must be read at each."""
_THERE: Final = 6
"""Samples that are measured at each."""


@dataclass(frozen=True)
class Measure:
    """What a few samples become.

    Attributes:
        pictures: How many images and masks they are.
        read: Bytes of images and label maps.
        files: How many files they become.
        bytes: Of these files and of entries in documents.
    """

    pictures: int
    read: int
    files: int
    bytes: int


@dataclass(frozen=True)
class UnitWork:
    """Does the work of a unit by its number.

    Attributes:
        selection: What is exported.
        runs: The units.
        layout: Name of the layout.
        overview: For the layout.
        folder: Target folder.
    """

    selection: Selection
    runs: tuple[Run, ...]
    layout: str
    overview: Overview
    folder: Path

    def __call__(self, number: int) -> None:
        """Write a unit and mark it as finished.

        Raises:
            DatasetError: A sample breaks the contract.
            ExportError: A file cannot be written.
        """
        run = self.runs[number]
        kept = Target(self.folder, {}).kept(number)
        unit = WrittenUnit(self.folder, kept, begun=kept.exists())
        try:
            for _ in self._convert(run, run.stop, unit):
                pass
            unit.finish()
        finally:
            unit.close()

    def measure(self) -> Measure:
        """Convert a few samples from all over the selection, and write nothing."""
        pictures = read = 0
        unit = MeasuredUnit()
        whole_cases = layout(self.layout, self.overview).whole_cases
        places = _PLACES_OF_CASES if whole_cases else _PLACES
        for run in self.runs[:: -(-len(self.runs) // places)] if self.runs else ():
            stop = min(run.start + _THERE, run.stop)
            if whole_cases:
                cases = (*self.selection.parts[run.part].cases, run.stop)
                stop = min(cases[bisect_left(cases, stop)], run.stop)
            for sample in self._convert(run, stop, unit):
                pictures += 1 + len(sample.record["masks"])
                read += len(sample.image) + len(sample.label_map)
        return Measure(pictures, read, unit.files, unit.bytes)

    def _convert(self, run: Run, stop: int, unit: Unit) -> Iterator[Sample]:
        made = layout(self.layout, self.overview)
        for sample in self._samples(run, stop):
            for kind in ("images", "masks"):
                by = len(sample.record["masks"]) if kind == "masks" else 1
                unit.count(f"{kind} {sample.record['source']} {sample.record['license']}", by)
            made.add(sample, unit)
            yield sample
        made.end(unit)

    def _samples(self, run: Run, stop: int) -> Iterator[Sample]:
        mask, part = run.first_mask, self.selection.parts[run.part]
        read = self.selection.samples(run.part, run.start, stop)
        for number, (image, label_map, record) in enumerate(read, run.first_image):
            try:
                self._refuse_strange(record, part)
            except DatasetError as error:
                raise DatasetError(
                    f"{self.selection.name}: {part.path}: {record['key']:.200}: {error}; 'sa-med2d verify' finds all "
                    "such samples, and 'sa-med2d index' writes an index anew"
                ) from None
            yield Sample(image, label_map, record, number, mask)
            mask += len(record["masks"])
        if stop == run.stop and mask != run.first_mask + run.masks:
            raise DatasetError(
                f"{self.selection.name}: {part.path}: its index says that samples {run.start} to {run.stop} have "
                f"{run.masks} masks, they have {mask - run.first_mask}; 'sa-med2d index' writes it anew"
            )

    def _refuse_strange(self, record: dict[str, Any], part: ShardPart) -> None:
        """Refuse metadata that do not go with path and index: names of files, licences and numbers follow from them."""
        key = SampleKey.parse(record["key"])
        if (key.source, key.case) != (record["source"], record["case"]):
            raise DatasetError(f"its source and case are {record['source']!r:.80} and {record['case']!r:.80}")
        said_of = {name: record[name] for name in ("split", "modality", "license")}
        for name, said in {**said_of, "license": record["license"].lower()}.items():
            if said != getattr(part, name):
                raise DatasetError(f"its {name} is {said!r:.80}, but that of the shard is {getattr(part, name)!r:.80}")
        if record["submodality"] not in part.submodalities:
            raise DatasetError(f"its submodality is {record['submodality']!r:.80}, which the index does not name")
        for entry in record["masks"]:
            if entry["label"] not in self.overview.labels:
                raise DatasetError(f"it has a mask of {entry['label']!r:.80}, which the index does not name")
