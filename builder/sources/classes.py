"""The classes of a source: its labels and regions resolved in the vocabulary, numbered in the recipe's order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from builder.sources.recipe import Label, Recipe
from builder.sources.vocabulary import Vocabulary, normalise
from shards.description import SourceClass


@dataclass(frozen=True)
class SourceClasses:
    """The classes of a source.

    Attributes:
        classes: In the order of their numbers; number 1 has class id ``0000``.
        numbers: Key of ``[labels]``, captured label, or region -> number of its class; 0 for what is left out.
        unknown: Names that the vocabulary does not know -> near names in it.
    """

    classes: tuple[SourceClass, ...]
    numbers: dict[str, int]
    unknown: dict[str, tuple[str, ...]]

    @property
    def dtype(self) -> type[np.uint8 | np.uint16]:
        """The smallest dtype for class maps. It holds all numbers, 0, and one more for what has no class."""
        return np.uint8 if len(self.classes) < 255 else np.uint16

    def by_number(self, number: int) -> SourceClass:
        """Give the class of a number; numbers begin at 1."""
        return self.classes[number - 1]


def source_classes(recipe: Recipe, captured: Iterable[str], vocabulary: Vocabulary) -> SourceClasses:
    """Resolve the classes of a source in the vocabulary.

    Two labels that mean one class share its number. A name that the vocabulary does not know keeps its spelling,
    with the organ and group that the recipe gives, else null and ``other``.

    Args:
        recipe: The recipe.
        captured: All texts that ``{label}`` captured in the source's file names.
        vocabulary: The vocabulary.
    """
    named = dict(recipe.labels)
    named |= {text: Label(label=text) for text in sorted(set(captured)) if text not in named}
    named |= {region: Label(label=region) for region in recipe.regions}
    classes: dict[str, SourceClass] = {}
    numbers: dict[str, int] = {}
    unknown: dict[str, tuple[str, ...]] = {}
    for key, label in named.items():
        if key not in recipe.regions and recipe.leaves_out(key):
            numbers[key] = 0
            continue
        term = vocabulary.find(label.label)
        name = term.label if term else label.label
        if term is None and label.group is None:
            unknown[label.label] = tuple(vocabulary.near(label.label))
        organ = term.organ if term else label.organ
        group = term.group if term else (label.group or "other")
        phrase = term.phrase if term else None
        own = SourceClass(f"{len(classes):04d}", name, organ, group, phrase=phrase)
        slot = classes.setdefault(normalise(name), own)
        numbers[key] = int(slot.class_id) + 1
    return SourceClasses(tuple(classes.values()), numbers, unknown)
