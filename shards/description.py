"""What an output folder keeps about a source beside its shards: licence, evidence, citation, classes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa_med2d_20m import DatasetError
from shards.atomic import write_atomic
from shards.paths import SOURCES, source_file
from shards.store import contents


@dataclass(frozen=True)
class SourceClass:
    """A class of a source.

    Attributes:
        class_id: Four digits, as in the metadata.
        label: Class name in the vocabulary.
        organ: Organ, or null.
        group: Group.
    """

    class_id: str
    label: str
    organ: str | None
    group: str


@dataclass(frozen=True)
class SourceDescription:
    """A source dataset as its recipe describes it; the fields are those of design section 2."""

    name: str
    title: str
    homepage: str
    license: str
    license_evidence: str | None
    access: str
    citation: str
    modality: str
    classes: tuple[SourceClass, ...]


def write_source(out: Path, source: SourceDescription) -> None:
    """Keep a source in the output folder."""
    text = json.dumps(dataclasses.asdict(source), indent=1, ensure_ascii=False)
    write_atomic(out / source_file(source.name), text.encode() + b"\n")


def source_from(record: Any, where: str) -> SourceDescription:
    """A source from its record.

    Raises:
        DatasetError: It is none of this version; the message begins with ``where``.
    """
    try:
        return SourceDescription(**{**record, "classes": tuple(SourceClass(**entry) for entry in record["classes"])})
    except (TypeError, KeyError) as error:
        raise DatasetError(f"{where}: no description of a source that this version reads ({error})") from None


def read_sources(out: Path) -> dict[str, SourceDescription]:
    """All sources that an output folder knows, by name.

    Raises:
        DatasetError: One cannot be read; the message names its file.
    """
    found = {}
    for name, data in contents(out, SOURCES, ".json").items():
        where = f"{out / SOURCES / name}"
        try:
            record = json.loads(data)
        except ValueError as error:
            raise DatasetError(f"{where}: is no JSON ({error}); build the source again") from None
        source = source_from(record, where)
        found[source.name] = source
    return found
