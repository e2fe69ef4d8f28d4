"""Tables and texts that a source brings along and that its recipe names: splits, other names of patients."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from builder.errors import RecipeError
from builder.sources.recipe import Recipe

DELIMITERS: Final = ",;\t|"


def read_text(recipe: Recipe, root: Path, key: str, path: str) -> str:
    """The text of a file of the source.

    Args:
        recipe: The recipe.
        root: Folder of the source.
        key: The key of the recipe that names the file.
        path: The file, below the root.

    Raises:
        RecipeError: It is not there, cannot be read, or is no UTF-8.
    """
    try:
        return (root / path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"is no UTF-8 text (byte {error.start:,}); save it as UTF-8"
    except FileNotFoundError:
        reason = f"is not below {root}; it is a part of the source that the recipe needs: get it, or build from a copy "
        reason += f"of the recipe without {key}, whose patients a hash then deals"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise RecipeError([f"{recipe.name}: {key}: {path} {reason}"])


def rows_of(recipe: Recipe, key: str, path: str, text: str, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The cells of some columns of a table, row by row, with where the row stands; rows without text are left out.

    The delimiter is the one at which the first line has the columns.

    Args:
        recipe: The recipe.
        key: The key of the recipe that names the file.
        path: The file, as messages call it.
        text: Its text.
        columns: Names of the columns.

    Raises:
        RecipeError: It lacks a column, or is no table.
    """
    first = next(iter(text.splitlines()), "")
    headers = {delimiter: _cells(first, delimiter) for delimiter in DELIMITERS}
    delimiter = next((one for one in DELIMITERS if set(columns) <= set(headers[one])), None)
    if delimiter is None:
        there = max(headers.values(), key=len)
        missing = " and ".join(repr(column) for column in columns if column not in there)
        shown = f"its columns are {', '.join(there)}" if there else "it is empty"
        raise RecipeError([f"{recipe.name}: {key}: {path} has no column {missing}; {shown}"])
    places = [headers[delimiter].index(column) for column in columns]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        next(reader)
        for row in reader:
            if any(cell.strip() for cell in row):
                cells = [row[at].strip() if at < len(row) else "" for at in places]
                yield f"{path}: line {reader.line_num}", cells
    except csv.Error as error:
        where = f"{path}: line {reader.line_num}"
        raise RecipeError([f"{recipe.name}: {key}: {where} is no row of a table: {error}"]) from None


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []
