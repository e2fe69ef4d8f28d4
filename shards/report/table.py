"""The main table of a set: images, masks, classes and patients of each modality, from the index alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from sa_med2d_20m import SPLITS
from shards.report.rows import per_part, rows_of

_KEYS: Final = ("modality", "source", "split")


@dataclass
class Line:
    """A line of the table.

    Attributes:
        images: Split -> number of images.
        masks: Number of masks.
        sources: Names of the sources.
        classes: Names of the classes.
        patients: Source and patient of each.
    """

    images: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    masks: int = 0
    sources: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)
    patients: set[tuple[str, str]] = field(default_factory=set)

    def record(self) -> dict[str, Any]:
        """Its numbers by name."""
        sizes = {name: len(getattr(self, name)) for name in ("classes", "sources", "patients")}
        return {"images": sum(self.images.values()), **self.images, "masks": self.masks, **sizes}


def main_table(out: Path) -> tuple[dict[str, Line], Line]:
    """Read the lines of all modalities, most images first, and the line of all of them together.

    Raises:
        DatasetError: There is no index, or one that cannot be read.
    """
    lines: dict[str, Line] = {}
    for counts in per_part(rows_of(out), [*_KEYS, "patient", "masks.label"], _counted):
        for count in counts:
            line = lines.setdefault(count.modality, Line())
            line.images[count.split] += count.images
            line.masks += count.masks
            line.sources.add(count.source)
            line.classes.update(count.labels)
            line.patients.update((count.source, patient) for patient in count.patients)
    ordered = sorted(lines.items(), key=lambda item: (-sum(item[1].images.values()), item[0]))
    return dict(ordered), _sum(lines.values())


@dataclass(frozen=True)
class _Count:
    """What rows of one modality, source and split hold."""

    modality: str
    source: str
    split: str
    images: int
    masks: int
    labels: list[str]
    patients: list[str]


def _counted(part: pa.Table) -> list[_Count]:
    """Count a part of the rows, nearly always of one modality, source and split."""
    if all(len(part[key].chunk(0).dictionary) == 1 for key in _KEYS):
        return [_count(part)]
    kinds = part.group_by(list(_KEYS)).aggregate([]).to_pylist()
    return [_count(part.filter(reduce(pc.and_, (pc.equal(part[key], kind[key]) for key in _KEYS)))) for kind in kinds]


def _count(part: pa.Table) -> _Count:
    labels = pc.struct_field(pc.list_flatten(part["masks"]), "label")
    modality, source, split = (part[key][0].as_py() for key in _KEYS)
    distinct, patients = (pc.unique(column).to_pylist() for column in (labels, part["patient"]))
    return _Count(modality, source, split, part.num_rows, len(labels), distinct, patients)


def _sum(lines: Iterable[Line]) -> Line:
    total = Line()
    for line in lines:
        for split, count in line.images.items():
            total.images[split] += count
        total.masks += line.masks
        for name in ("sources", "classes", "patients"):
            getattr(total, name).update(getattr(line, name))
    return total
