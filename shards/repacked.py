"""What a card says of sources that are the original release, re-packed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from shards import citation
from shards.description import Repacked, SourceDescription
from shards.plain_text import markdown
from shards.receipt import Receipt

_CITATIONS: Final = (
    citation.line(),
    "Cheng J, Ye J, Deng Z, et al. SAM-Med2D. arXiv:2308.16184 (2023). https://doi.org/10.48550/arXiv.2308.16184",
)
_SHOWN: Final = 12
"""Names of sources that the card gives; SOURCES.md has all."""


def repacked_section(receipts: Collection[Receipt], sources: Mapping[str, SourceDescription]) -> list[str]:
    """The section of the card, or nothing where no source was imported.

    Args:
        receipts: Of all shards that the card is about.
        sources: What is known of their sources.
    """
    held = sorted({receipt.id.source for receipt in receipts if receipt.samples})
    by_release: dict[Repacked, list[str]] = defaultdict(list)
    for name in held:
        source = sources.get(name)
        if source is not None and source.repacked is not None:
            by_release[source.repacked].append(name)
    if not by_release:
        return []
    lines = ["## The original release, re-packed", ""]
    for release, names in sorted(by_release.items(), key=lambda item: (item[0].version, item[1])):
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        lines += [
            f"- {len(names)} of the {len(held)} sources ({shown}) are {_called(release)} as it was released, re-packed "
            f"by `sa-med2d import`: its pixels, masks, class ids and names (`image_file`). {_repairs(release)}"
        ]
    lines += [
        "",
        "Spacing and orientation are not in the release, so they are null here. Licences are those of the sources and "
        "splits are by patient; neither is the release's. Cite the release beside its sources:",
        "",
        *(f"- {paper}" for paper in _CITATIONS),
    ]
    return ["\n".join(lines) + "\n"]


def repacked_lines(source: SourceDescription) -> list[str]:
    """What SOURCES.md says of a source that was imported."""
    if source.repacked is None:
        return []
    return [f"  Imported from {_called(source.repacked)}. {_repairs(source.repacked)}"]


def _called(release: Repacked) -> str:
    about = "SAM-Med2D's demo data" if release.naming == "sam-med2d" else "SA-Med2D-20M"
    return f"{about}, version {markdown(release.version)},"


def _repairs(release: Repacked) -> str:
    return f"Repairs: {', '.join(map(markdown, release.repairs))}." if release.repairs else "Nothing was repaired."
