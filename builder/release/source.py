"""A source and a case of the release, as a build knows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from builder.cases.case import Case
from builder.release.names import Naming
from builder.release.place import Place, Reader
from builder.release.rows import Row, unpack_case
from builder.release.tags import Tags
from builder.sources.source import Source
from shards.description import SourceClass


@dataclass(frozen=True)
class ReleaseCase(Case):
    """All images of one case name and modality, with their masks.

    Attributes:
        modality: Of its images, repaired.
        packed: Its files, see `builder.release.rows`, ordered by path.
        between: What their paths have in common and ``packed`` leaves out.
    """

    modality: str = ""
    packed: bytes = field(default=b"", repr=False)
    between: str = ""

    @property
    def rows(self) -> list[Row]:
        """Its files, ordered by path."""
        return unpack_case(self.packed, self.between)


@dataclass(frozen=True)
class ReleaseSource(Source):
    """A source of the release.

    Attributes:
        place: Where the release lies.
        version: What it calls itself: the name of its top folder, such as ``SAMed2Dv1``.
        naming: How it names its files.
        tags: The sub-modalities of its images.
        repairs: Names of the repairs that are made.
        labels: Labels of the classes that are imported; all where it is empty.
        strict: Whether a file that cannot be used stops the case.
    """

    place: Place
    version: str
    naming: Naming
    tags: Tags
    repairs: frozenset[str]
    labels: frozenset[str]
    strict: bool

    @cached_property
    def by_written(self) -> Mapping[str, SourceClass]:
        """What the name of a mask says of its class -> the class: the id in the release, the name in the older one."""
        if self.naming == "release":
            return {known.class_id: known for known in self.classes.classes}
        return {known.original or known.label: known for known in self.classes.classes}

    def reader(self) -> Reader:
        """What reads its files in this process; it is opened once."""
        return _opened(self.place)

    def content_of(self, rows: list[Row]) -> str:
        """Hash of the content of files whose check sums are known."""
        text = "\n".join(f"{row.path}\0{row.size}\0{row.crc32}" for row in rows)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@lru_cache(maxsize=2)
def _opened(place: Place) -> Reader:
    return place.open()
