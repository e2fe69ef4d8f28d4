"""What the patients of a source are called in the name space that several sources share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from builder.cases.source_table import read_text, rows_of
from builder.errors import RecipeError
from builder.sources.recipe import Recipe

UNNAMED: Final = frozenset({"", "NA"})
"""What stands in a table where a patient has no other name."""


def shared_names(recipe: Recipe, root: Path) -> Mapping[str, str]:
    """Name of the source -> name in the shared space, for the patients who have another there.

    Args:
        recipe: The recipe, with ``[patient_names]``.
        root: Folder of the source.

    Raises:
        RecipeError: The table cannot be read, or gives one patient two names.
    """
    told = recipe.patient_names
    names = dict(told.names)
    if told.file is None or told.own is None or told.shared is None:
        return names
    key, columns = "patient_names.file", (told.own, told.shared)
    for where, (own, text) in rows_of(recipe, key, told.file, read_text(recipe, root, key, told.file), columns):
        if own in UNNAMED or text in UNNAMED:
            continue
        found = {"patient": text} if told.patient is None else told.patient.match(text)
        if found is None:
            pattern = "" if told.patient is None else told.patient.text
            raise RecipeError([f"{recipe.name}: {key}: {where} has a name that is no {pattern!r} in {told.shared!r}"])
        if names.setdefault(own, found["patient"]) != found["patient"]:
            raise RecipeError([f"{recipe.name}: {key}: {where} gives a patient another name than was said before"])
    return names
