"""The split of a source that stands in a file of it: a table, a JSON file, or lists of names."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.cases.patient_names import shared_names
from builder.cases.source_table import read_text, rows_of
from builder.cases.split import named_split
from builder.errors import RecipeError
from builder.sources.pattern import Pattern
from builder.sources.recipe import Recipe
from sa_med2d_20m import SPLITS
from shards.console import plural

_Row = tuple[str, str, str]
"""Where it stands, a name, and the text that says its split."""


@dataclass(frozen=True)
class Placement:
    """What files of a source say of its patients.

    Attributes:
        splits: Patient -> the splits that files of ``[splits]`` put them into: one, where none contradicts another.
        names: Patient -> name in the name space that sources share, for who has another one there.
    """

    splits: Mapping[str, frozenset[str]]
    names: Mapping[str, str]


def placement_of(recipe: Recipe, root: Path) -> Placement:
    """What files of a source say of its patients; nothing where its recipe names none.

    Raises:
        RecipeError: A file is missing or cannot be read.
    """
    return Placement(placed_patients(recipe, root), shared_names(recipe, root))


def placed_patients(recipe: Recipe, root: Path) -> Mapping[str, frozenset[str]]:
    """The patients whom ``splits.file`` or ``splits.lists`` of a recipe place; empty where it names no file.

    A name is that of a patient, or that of a case in which ``files.patient`` finds the patient.

    Args:
        recipe: The recipe.
        root: Folder of the source.

    Raises:
        RecipeError: A file is missing or cannot be read, or lacks a column, or names a split that nothing explains.
    """
    placed: defaultdict[str, set[str]] = defaultdict(set)
    values = {split: texts for split, texts in recipe.splits.values.listed.items() if texts}
    for where, name, text in _rows(recipe, root):
        split = named_split(text, values)
        if split is None:
            raise RecipeError([_unexplained(recipe, where, text)])
        placed[patient_of(recipe, name)].add(split)
    return {patient: frozenset(splits) for patient, splits in placed.items()}


def patient_of(recipe: Recipe, name: str) -> str:
    """The patient whom a name of a patient or of a case means."""
    found = recipe.files.patient.match(name) if isinstance(recipe.files.patient, Pattern) else None
    return name if found is None else found["patient"]


def check_use(recipe: Recipe, placement: Placement, patients: Iterable[str]) -> None:
    """Refuse a file that places none of the patients of a source: its names are then spelled in another way.

    Raises:
        RecipeError: It says so.
    """
    known, placed = set(patients), placement.splits
    if placed and known and not known & placed.keys():
        key = "file" if recipe.splits.file is not None else "lists"
        shown = f": it has names such as {min(placed)!r}, the source has {min(known)!r}"
        shown = (
            "" if recipe.files.dicom is not None or recipe.files.patient == "PatientID" else shown
        )  # may name people
        names = plural(len(placed), "name")
        raise RecipeError([f"{recipe.name}: splits.{key}: none of {names} in it is a patient of the source{shown}"])


def _rows(recipe: Recipe, root: Path) -> Iterator[_Row]:
    splits = recipe.splits
    for split, path in splits.lists.listed.items():
        if path is not None:
            lines = enumerate(read_text(recipe, root, f"splits.lists.{split}", path).splitlines(), 1)
            yield from ((f"{path}: line {number}", line.strip(), split) for number, line in lines if line.strip())
    if splits.file is not None:
        text = read_text(recipe, root, "splits.file", splits.file)
        yield from (
            _of_json(recipe, text) if splits.file.lower().endswith(".json") else _of_table(recipe, splits.file, text)
        )


def _of_table(recipe: Recipe, path: str, text: str) -> Iterator[_Row]:
    columns = [column for column in (recipe.splits.patient, recipe.splits.split) if column is not None]
    for where, (name, split) in rows_of(recipe, "splits.file", path, text, columns):
        yield from _named(recipe, where, name, split)


def _of_json(recipe: Recipe, text: str) -> Iterator[_Row]:
    """Entries of a list of objects, or names of an object that lists them by split."""
    splits, expected = recipe.splits, "expected a list of objects, or an object whose values are lists of names"
    try:
        record: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError([f"{recipe.name}: splits.file: {splits.file} is no JSON: {error}"]) from None
    if isinstance(record, dict) and splits.patient is None:
        for split, names in record.items():
            for number, name in enumerate(names if isinstance(names, list) else ()):
                where = f"{splits.file}: {split}[{number}]"
                if isinstance(name, dict | list):
                    raise RecipeError([f"{recipe.name}: splits.file: {where} is no name; {expected}"])
                yield from _named(recipe, where, _plain(name), split)
        return
    if not isinstance(record, list) or splits.patient is None or splits.split is None:
        keys = "needs splits.patient and splits.split" if isinstance(record, list) else expected
        raise RecipeError([f"{recipe.name}: splits.file: {splits.file}: {keys}"])
    for number, entry in enumerate(record):
        where = f"{splits.file}: entry {number}"
        missing = [key for key in (splits.patient, splits.split) if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise RecipeError([f"{recipe.name}: splits.file: {where} has no {' and no '.join(map(repr, missing))}"])
        yield from _named(recipe, where, _plain(entry[splits.patient]), _plain(entry[splits.split]))


def _plain(value: object) -> str:
    return "" if value is None else str(value).strip()


def _named(recipe: Recipe, where: str, name: str, split: str) -> Iterator[_Row]:
    """A row that places somebody: one without a split places nobody."""
    if not name:
        raise RecipeError([f"{recipe.name}: splits.file: {where} names nobody ({recipe.splits.patient} is empty)"])
    if split:
        yield where, name, split


def _unexplained(recipe: Recipe, where: str, text: str) -> str:
    return (
        f"{recipe.name}: splits.file: {where}: {text!r} is no split that is known; name it in splits.values, such as "
        f"{{ {SPLITS[0]} = [{json.dumps(text, ensure_ascii=False)}] }}"
    )
