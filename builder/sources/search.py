"""Which sources of the catalogue fit what somebody looks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.sources import catalogue
from builder.sources.evidence import CHECKED, Checked
from builder.sources.load import load_metadata
from builder.sources.metadata import SourceMetadata
from builder.sources.recipe import Recipe
from builder.sources.vocabulary import Term, Vocabulary
from shards.license import tiers


@dataclass(frozen=True)
class Wanted:
    """What somebody looks for; None takes everything.

    Attributes:
        modality: How the images were made.
        organ: An organ in which at least one of its classes lies.
        label: A class, in any spelling that the vocabulary knows.
        tier: A licence tier, which its licence must allow.
        access: ``open``, ``registration`` or ``private``.
        checked: How sure layout and labels must be at least.
    """

    modality: str | None = None
    organ: str | None = None
    label: str | None = None
    tier: str | None = None
    access: str | None = None
    checked: Checked | None = None


def whole_catalogue() -> list[SourceMetadata]:
    """All sources of the catalogue, by name."""
    return [load_metadata(name) for name in catalogue.names()]


def matching(sources: list[SourceMetadata], wanted: Wanted, vocabulary: Vocabulary) -> list[SourceMetadata]:
    """The sources that fit all that is wanted, in their order."""
    return [source for source in sources if _fits(source, wanted, vocabulary)]


def _fits(source: SourceMetadata, wanted: Wanted, vocabulary: Vocabulary) -> bool:
    terms = classes_of(source, vocabulary)
    label = None if wanted.label is None else vocabulary.find(wanted.label)
    return (
        wanted.modality in (None, source.modality)
        and wanted.access in (None, source.access)
        and (wanted.tier is None or wanted.tier in tiers(source.license))
        and (wanted.organ is None or any(term.organ == wanted.organ for term in terms))
        and (label is None or label in terms)
        and (wanted.checked is None or _is_sure(source, wanted.checked))
    )


def _is_sure(source: SourceMetadata, least: Checked) -> bool:
    checked = source.evidence.checked
    return all(CHECKED.index(found) <= CHECKED.index(least) for found in (checked.layout, checked.labels))


def classes_of(source: SourceMetadata, vocabulary: Vocabulary) -> list[Term]:
    """The classes that a recipe names and the vocabulary knows, each once; none where only metadata is known.

    File names that ``{label}`` captures count as far as the recipe's examples show them.
    """
    found = (vocabulary.find(name) for name in _names_of(source))
    return list(dict.fromkeys(term for term in found if term is not None))


def _names_of(source: SourceMetadata) -> Iterator[str]:
    if not isinstance(source, Recipe):
        return
    yield from (label.label for label in source.labels.values())
    yield from source.regions
    for pattern in source.files.mask:
        for example in source.examples:
            found = (pattern.match(mask) for mask in example.masks)
            yield from (match["label"] for match in found if match and "label" in match)
