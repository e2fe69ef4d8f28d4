"""Where the samples of a key or of a case lie, by the index."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from sa_med2d_20m import INDEX, PLACES, DatasetError
from shards.key import SampleKey
from shards.report.rows import Rows, batches, rows_of

_COLUMNS: Final = ("key", "source", "case", "plane", "index", "submodality", "shard", *PLACES, "masks.label")

Row = Mapping[str, Any]
"""Who a sample is, and where it lies: columns of the index."""


def row_of(out: Path, key: str) -> Row:
    """The row of one sample.

    Args:
        out: Output folder, wherever it lies.
        key: Its key.

    Raises:
        DatasetError: The text is no key, or no sample has it; near ones are named.
    """
    asked = SampleKey.parse(key)
    rows = _of_source(rows_of(out), asked.source)
    near: list[str] = []
    for part in _parts(rows):
        found = part.filter(pc.equal(part["key"], key))
        if found.num_rows:
            return dict(found.to_pylist()[0])
        of_case = part.filter(pc.equal(part["case"].cast(pa.string()), asked.case))
        near += (of_case if of_case.num_rows else part)["key"].to_pylist()[:_MOST_NAMES]
    raise DatasetError(f"{out}: holds no sample {key}; {_advice(key, near)}")


def rows_of_case(out: Path, case: str, source: str | None, plane: str | None, submodality: str | None) -> list[Row]:
    """The rows of the slices of a case, in their order, in one plane and of one sub-modality.

    Args:
        out: Output folder, wherever it lies.
        case: Its name in the source.
        source: Its source; None where only one has a case of this name.
        plane: None for the one with the most slices.
        submodality: None for the one with the most slices.

    Raises:
        DatasetError: Nothing matches; near names, and the choices there are, are named.
    """
    rows = rows_of(out)
    names: set[str] = set()
    found: list[Row] = []
    for part in _parts(_of_source(rows, source) if source else rows):
        of_case = part.filter(pc.equal(part["case"].cast(pa.string()), case))
        found += of_case.to_pylist()
        names.update(pc.unique(part["case"].cast(pa.string())).to_pylist())
    if not found:
        where = f"{out}: source {source}" if source else f"{out}"
        raise DatasetError(f"{where}: holds no case {case!r}; {_advice(case, sorted(names))}")
    for column, value in (("source", source), ("plane", plane), ("submodality", submodality)):
        found = _only(found, column, value, case)
    return sorted(found, key=lambda row: (row["index"] is not None, row["index"], row["key"]))


def _only(rows: Sequence[Row], column: str, value: str | None, case: str) -> list[Row]:
    """The rows of one value of a column: the one asked for, or that of most rows."""
    counts = Counter(row[column] for row in rows)
    if column == "source" and value is None and len(counts) > 1:
        names = ", ".join(sorted(counts))
        raise DatasetError(f"case {case!r} stands in several sources; add --source with one of {names}")
    if value is not None and value not in counts:
        raise DatasetError(f"case {case!r} has no {column} {value!r}; it has {', '.join(map(str, sorted(counts)))}")
    chosen = value if value is not None else min(counts, key=lambda one: (-counts[one], str(one)))
    return [row for row in rows if row[column] == chosen]


def rows_of_source(out: Path, source: str) -> Rows:
    """The index files of a source; where only tables over all sources are there, these.

    Raises:
        DatasetError: There are none; near names are named.
    """
    return _of_source(rows_of(out), source)


def _of_source(rows: Rows, source: str) -> Rows:
    of_index = [name for name in rows.files if name.startswith(f"{INDEX}/")]
    if not of_index:
        return rows
    held = tuple(name for name in of_index if name.split("/")[-2] == source)
    if not held:
        known = sorted({name.split("/")[-2] for name in of_index})
        raise DatasetError(f"{rows.out}: holds no source {source!r}; {_advice(source, known)}")
    return Rows(rows.out, held)


def _parts(rows: Rows) -> Any:
    return batches(rows, _COLUMNS, lambda _done, _of: None)


_MOST_NAMES: Final = 2_000


def _advice(asked: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(asked, known[:_MOST_NAMES], n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"it has, for instance, {', '.join(known[:3])}" if known else "it is empty"
