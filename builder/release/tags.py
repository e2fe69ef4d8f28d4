"""Which modality and sub-modality an image has, after the repairs ``modality`` and ``synonyms``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from builder.release.names import Tag
from builder.release.repairs import true_modality
from builder.sources.submodality import submodality_of


@dataclass(frozen=True)
class Tags:
    """The tags of the images of a source.

    Attributes:
        canonical: Modality and sub-modality as the release has it -> sub-modality as it goes into keys.
    """

    canonical: Mapping[tuple[str, str], str]

    def submodality(self, modality: str, written: str) -> str:
        """The sub-modality of an image.

        Args:
            modality: Of the image, repaired.
            written: As the release has it.
        """
        return self.canonical.get((modality, written), written)


def tags_of(written: Collection[tuple[str, str]], *, synonyms: bool) -> Tags:
    """Give each sub-modality of a source its canonical name.

    Where two of one source would get the same name (``t1`` and ``t1w``), both keep their own: two images must not share
    a key, and a source that tells them apart means two things.

    Args:
        written: Modality and sub-modality of all images of the source.
        synonyms: Whether synonyms become one name.
    """
    if not synonyms:
        return Tags({})
    named = {(modality, own): submodality_of(modality, own) for modality, own in written}
    counts = Counter((modality, name) for (modality, _), name in named.items())
    return Tags({(modality, own): name for (modality, own), name in named.items() if counts[modality, name] == 1})


def modality_of(tag: Tag, source: str, case: str, *, repaired: bool) -> str:
    """The modality of an image, repaired or as the release has it."""
    return true_modality(tag.modality, source, case) if repaired else tag.modality
