"""The catalogue as a table: for programs, and as the document ``docs/catalogue.md``.

``python -m builder.sources.catalogue_table`` writes the document.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from builder.sources.metadata import SourceMetadata
from builder.sources.overlaps import overlaps_of
from builder.sources.recipe import Recipe
from builder.sources.search import classes_of, whole_catalogue
from builder.sources.vocabulary import Vocabulary, vocabulary
from shards.license import refusal, tiers

_MOST_CLASSES: Final = 6
"""Classes that a row of the Markdown table names; of more it gives the number."""


def row(source: SourceMetadata, words: Vocabulary) -> dict[str, Any]:
    """What the catalogue says of a source, for programs."""
    return {
        "name": source.name,
        "title": source.title,
        "modality": source.modality,
        "license": source.license,
        "tiers": list(tiers(source.license)),
        "not_publishable": refusal(source.license, source.license_evidence, source.access),
        "access": source.access,
        "builds": isinstance(source, Recipe),
        "layout": source.evidence.checked.layout,
        "labels": source.evidence.checked.labels,
        "fetch": source.download is not None and source.download.automatic,
        "classes": [term.label for term in classes_of(source, words)],
        "overlaps": sorted({other for overlap in overlaps_of(source.name) for other in overlap.others(source.name)}),
    }


def table_in_markdown(sources: Sequence[SourceMetadata], words: Vocabulary) -> str:
    """Sources as a Markdown table."""
    head = ("source", "modality", "licence", "published as", "access", "layout", "labels", "fetch", "classes", "title")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for source in sources:
        record = row(source, words)
        cells = (
            record["name"], record["modality"], record["license"],
            "never" if record["not_publishable"] else record["tiers"][-1],
            record["access"], record["layout"], record["labels"], "yes" if record["fetch"] else "by hand",
            _classes(record["classes"]), record["title"],
        )  # fmt: skip
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _classes(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_CLASSES else f"{len(names)} classes"


def document() -> str:
    """The text of ``docs/catalogue.md``."""
    sources = whole_catalogue()
    builds = [source for source in sources if isinstance(source, Recipe)]
    by_modality = Counter(source.modality for source in sources)
    return _HEAD.format(
        sources=len(sources),
        builds=len(builds),
        modalities=", ".join(f"{modality} {count}" for modality, count in by_modality.most_common()),
    ) + table_in_markdown(sources, vocabulary())


_HEAD: Final = """\
# The catalogue

Written by `python -m builder.sources.catalogue_table` from the recipes in `builder/catalog`; do not edit it by hand.
`sa-med2d sources list` prints the same and filters it, `sa-med2d sources show NAME` says all that is known of a source.

{sources} sources ({modalities}), {builds} of them with a recipe that builds; of the others only metadata is known.

- *published as*: the narrowest licence tier that its licence allows, or never.
- *layout*, *labels*: how sure the recipe is of its files and of its classes: seen in real files (real), read in two
  independent places (two), in one, in none.
- *fetch*: whether `sa-med2d fetch` gets it; else `sources show` gives the steps.

"""


def main() -> None:
    """Write the document to standard output."""
    sys.stdout.write(document())


if __name__ == "__main__":
    main()
