"""The rows of all indexes of a folder, a store or a repository, a part at a time and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sa_med2d_20m import INDEX, SPLITS, DatasetError, quoted_command
from shards.index_schema import INDEX_SCHEMA
from shards.paths import stems
from shards.store import is_here, listing
from shards.tables import SAMPLES, table_file

_ROWS: Final = 2**16
"""Rows that are in memory at once, for each reader."""
_READERS: Final = 2
_DICTIONARIES: Final = ("modality", "submodality", "source", "license", "split", "plane", "patient")
_OF_MASKS: Final = tuple(f"masks.list.element.{name}" for name in ("label", "organ", "group"))
"""Columns that repeat a few texts: they are read as numbers and a list of these texts, in a fraction of the time."""
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Rows:
    """Where the rows of a set are.

    Attributes:
        out: Output folder, or what `shards.arguments.output_folder` makes of an address.
        files: Paths of Parquet files below it: the index of each shard, sorted, or the tables over all of them.
    """

    out: Path
    files: tuple[str, ...]


def rows_of(out: Path) -> Rows:
    """Find the rows of a set.

    On this machine they are those of the indexes. Elsewhere each file costs a request, so there they are those of the
    tables over all shards where there are any.

    Raises:
        DatasetError: There are none.
    """
    if not is_here(out):
        tables = [table_file(SAMPLES, split) for split in SPLITS]
        there = {f"tables/{name}" for name in listing(out, "tables")}
        if there.issuperset(held := [name for name in tables if name in there]) and held:
            return Rows(out, tuple(held))
    found = tuple(f"{INDEX}/{stem}.parquet" for stem in stems(out, INDEX, ".parquet"))
    if not found:
        raise DatasetError(f"{out}: holds no index; expected a folder that 'sa-med2d build' wrote, or a repository")
    return Rows(out, found)


def batches(rows: Rows, columns: Sequence[str], on_part: Callable[[int, int], None]) -> Iterator[pa.Table]:
    """All rows, in the order of the files.

    Args:
        rows: Where they are.
        columns: Columns of the index; ``masks.label`` is the field of masks.
        on_part: Told how many of how many parts were read.

    Raises:
        DatasetError: A file is no index of this version.
    """
    for number, name in enumerate(rows.files):
        on_part(number, len(rows.files))
        yield from _of_file(rows.out, name, columns)
    on_part(len(rows.files), len(rows.files))


def per_part(rows: Rows, columns: Sequence[str], made: Callable[[pa.Table], _Made]) -> Iterator[_Made]:
    """Something made of each part of the rows, in their order; several parts are read at once.

    Args:
        rows: Where they are.
        columns: As in `batches`.
        made: Makes it; runs in threads.
    """

    def of_file(name: str) -> list[_Made]:
        return [made(part) for part in _of_file(rows.out, name, columns)]

    with ThreadPoolExecutor(_READERS) as readers:
        for found in readers.map(of_file, rows.files):
            yield from found


def _of_file(out: Path, name: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    leaves = [_leaf(column) for column in columns]
    where = f"{out / name}"
    with _opened(out / name) as source:
        try:
            with pq.ParquetFile(source, read_dictionary=[*_DICTIONARIES, *_OF_MASKS], pre_buffer=True) as file:
                if not file.metadata.schema.to_arrow_schema().equals(INDEX_SCHEMA):
                    raise DatasetError(
                        f"{where}: is no index of this version: its columns or their types are others; {mending(out)}"
                    )
                for group in range(file.num_row_groups):  # Arrow cannot join the texts of nested columns over groups
                    for batch in file.iter_batches(_ROWS, row_groups=[group], columns=leaves):
                        yield pa.Table.from_batches([batch])
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise DatasetError(f"{where}: is no Parquet that can be read ({reason}); {mending(out)}") from None


def mending(out: Path) -> str:
    """What mends a damaged index of a set."""
    again = f"{quoted_command('index', out)} writes it again"
    return again if is_here(out) else "publish or build it again, which writes it"


def _leaf(column: str) -> str:
    """The name that Parquet gives to a column.

    >>> _leaf("masks.label"), _leaf("height"), _leaf("spacing")
    ('masks.list.element.label', 'height', 'spacing')
    """
    return column.replace("masks.", "masks.list.element.", 1)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A path that Arrow opens itself, or a file of a store."""
    if is_here(path):
        yield path
        return
    with path.open("rb") as file:
        yield file
