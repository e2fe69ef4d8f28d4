"""Sources that hold the same scans or people, as data in one place: ``builder/overlaps.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal

from pydantic import Field

from builder.sources.evidence import Addresses
from builder.sources.metadata import SourceMetadata
from builder.sources.table import Table

Kind = Literal["same", "contains", "relabels", "shares"]
MEANINGS: Final[dict[Kind, str]] = {
    "same": "are the same pictures",
    "contains": "an edition holds the other",
    "relabels": "one labels scans of the other anew",
    "shares": "have some scans or people in common",
}
"""What each kind of overlap says of its sources."""


class Overlap(Table):
    """An entry of ``overlaps.toml``.

    Attributes:
        sources: The sources, by name; with ``contains`` and ``relabels`` the older one first.
        kind: A key of `MEANINGS`.
        what: What they have in common, in a sentence.
        evidence: Where that stands.
    """

    sources: Annotated[list[str], Field(min_length=2)]
    kind: Kind
    what: Annotated[str, Field(min_length=1)]
    evidence: Addresses

    def others(self, name: str) -> list[str]:
        """The other sources of the overlap."""
        return [source for source in self.sources if source != name]


class _File(Table):
    overlaps: list[Overlap]


@cache
def known_overlaps() -> tuple[Overlap, ...]:
    """All known overlaps, read once a process."""
    text = files("builder").joinpath("overlaps.toml").read_text(encoding="utf-8")
    return tuple(_File.model_validate(tomllib.loads(text)).overlaps)


def overlaps_of(name: str) -> list[Overlap]:
    """The known overlaps of a source."""
    return [overlap for overlap in known_overlaps() if name in overlap.sources]


def overlaps_among(names: Iterable[str]) -> list[tuple[Overlap, list[str]]]:
    """The known overlaps of which at least two sources are among some names, with these sources in the file's order."""
    wanted = set(names)
    found = ((overlap, [name for name in overlap.sources if name in wanted]) for overlap in known_overlaps())
    return [(overlap, present) for overlap, present in found if len(present) > 1]


def patients_are_mapped(sources: Iterable[SourceMetadata]) -> bool:
    """Whether sources share one name space of patients, so that the same person gets the same split in each."""
    return len({source.patient_space for source in sources}) == 1
