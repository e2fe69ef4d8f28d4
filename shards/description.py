"""What an output folder keeps about a source beside its shards: licence, evidence, citation, classes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sa_med2d_20m import DatasetError
from shards.atomic import write_atomic
from shards.contract import first_faults, type_faults
from shards.foreign_json import LARGEST, json_in, too_large
from shards.paths import SOURCES, source_file
from shards.store import contents

HASHED_RATIOS: Final = (0.8, 0.1, 0.1)
"""Shares of train, validation and test that patients are dealt in where nothing else is said."""


@dataclass(frozen=True)
class SourceClass:
    """A class of a source.

    Attributes:
        class_id: Four digits, as in the metadata.
        label: Class name in the vocabulary.
        organ: Organ, or null.
        group: Group.
        original: Its name in the original release, where it was imported from there.
        parts: Labels of the classes that it is a union of, where it was imported and is one.
        phrase: What it is in plain English, for text prompts, such as "left kidney"; null where the vocabulary does not
            have the class, and in what earlier versions wrote.
    """

    class_id: str
    label: str
    organ: str | None
    group: str
    # not shown, as what is shown decides whether cases are built anew
    original: str | None = field(default=None, repr=False)
    parts: tuple[str, ...] = field(default=(), repr=False)
    phrase: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Repacked:
    """Which release a source was imported from.

    Attributes:
        version: What the release calls itself: its top folder, such as ``SAMed2Dv1``.
        naming: How it names its files: ``release``, or ``sam-med2d`` for the older names.
        repairs: Names of the repairs that were made, sorted.
    """

    version: str
    naming: str
    repairs: tuple[str, ...]


@dataclass(frozen=True)
class KnownOverlap:
    """What is known of a source and others that hold the same scans or people.

    Attributes:
        others: Names of the others.
        meaning: How they overlap, such as ``are the same pictures``.
        what: What they have in common, in a sentence.
        evidence: Addresses of where that stands.
    """

    others: tuple[str, ...]
    meaning: str
    what: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class SourceDescription:
    """A source dataset as its recipe describes it; the fields are those of design section 2.

    ``split_ratios`` (of train, validation, test) and ``split_seed`` say how patients are dealt whom the source itself
    puts into no split. ``repacked`` says of which release it is, where it was imported.
    ``regrouped`` counts patients who share images with others and were put into their split. ``patients`` says for each
    split how many patients have images; it is empty where nobody counted. ``overlaps`` are those known beforehand, from
    publications and file lists, whether the other sources are here or not.
    """

    name: str
    title: str
    homepage: str
    license: str
    license_evidence: str | None
    access: str
    citation: str
    modality: str
    classes: tuple[SourceClass, ...]
    split_ratios: tuple[float, float, float] = HASHED_RATIOS
    split_seed: int = 0
    repacked: Repacked | None = None
    regrouped: int = 0
    patients: dict[str, int] = field(default_factory=dict)
    overlaps: tuple[KnownOverlap, ...] = ()


def write_source(out: Path, source: SourceDescription) -> None:
    """Keep a source in the output folder."""
    text = json.dumps(dataclasses.asdict(source), indent=1, ensure_ascii=False)
    write_atomic(out / source_file(source.name), text.encode() + b"\n")


def source_from(record: Any, where: str) -> SourceDescription:
    """A source from its record.

    Raises:
        DatasetError: It is none of this version; the message begins with ``where``.
    """
    faults = first_faults(type_faults(record, SourceDescription, "the record"))
    if faults:
        raise DatasetError(f"{where}: no description of a source that this version reads ({faults})")
    classes = tuple(SourceClass(**{**entry, "parts": tuple(entry.get("parts", ()))}) for entry in record["classes"])
    told = record.get("repacked")
    repacked = None if told is None else Repacked(told["version"], told["naming"], tuple(told["repairs"]))
    ratios = tuple(record["split_ratios"])
    overlaps = tuple(
        KnownOverlap(tuple(one["others"]), one["meaning"], one["what"], tuple(one["evidence"]))
        for one in record.get("overlaps", ())
    )
    parts = {"classes": classes, "split_ratios": ratios, "repacked": repacked, "overlaps": overlaps}
    return SourceDescription(**{**record, **parts})


def read_sources(out: Path) -> dict[str, SourceDescription]:
    """The sources that an output folder describes, by name; without those that `source_faults` names."""
    return {one.name: one for one in _descriptions(out) if isinstance(one, SourceDescription)}


def source_faults(out: Path) -> list[str]:
    """A sentence for each description that cannot be read, or is of another source than its path says."""
    return [str(one) for one in _descriptions(out) if isinstance(one, DatasetError)]


def _descriptions(out: Path) -> Iterator[SourceDescription | DatasetError]:
    for name, data in contents(out, SOURCES, ".json", LARGEST):
        where = f"{out / SOURCES / name}"
        if isinstance(data, int):
            yield too_large(f"{where}:", data)
            continue
        try:
            source = source_from(json_in(data, f"{where}:"), where)
        except DatasetError as error:
            yield DatasetError(f"{error}; build the source again")
        else:
            misnamed = DatasetError(f"{where}: is about {source.name!r:.80}; delete it, and build that source again")
            yield source if name == f"{source.name}.json" else misnamed
