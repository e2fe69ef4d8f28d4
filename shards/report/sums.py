"""Sums by group over a stream of tables, in memory that grows with the number of groups and not with the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

_PENDING: Final = 2**17
"""Rows of partial sums that are held before they are added up."""


class Sums:
    """Sums of columns for each combination of keys.

    Args:
        keys: Names of the key columns.
        values: Names of the columns that are summed, whole numbers.
        fractions: Names of the keys that are fractions; others are texts.
    """

    def __init__(self, keys: Sequence[str], values: Sequence[str], fractions: Sequence[str] = ()) -> None:
        self._keys, self._values = list(keys), list(values)
        types = {key: pa.float64() if key in fractions else pa.string() for key in keys}
        self._schema = pa.schema({**types, **dict.fromkeys(values, pa.int64())})
        self._parts: list[pa.Table] = []
        self._pending = 0

    def add(self, rows: pa.Table) -> None:
        """Add rows that have all of these columns."""
        part = _plain(self._summed(rows))
        self._parts.append(part)
        self._pending += part.num_rows
        if self._pending > _PENDING:
            whole = self._summed(pa.concat_tables(self._parts))
            # the groups that there are do not count, or with many of them every part would be added up at once
            self._parts, self._pending = [whole], 0

    def table(self) -> pa.Table:
        """The sums, sorted by key."""
        if not self._parts:
            return self._schema.empty_table()
        whole = self._summed(pa.concat_tables(self._parts))
        return whole.sort_by([(key, "ascending") for key in self._keys]).combine_chunks()

    def _summed(self, rows: pa.Table) -> pa.Table:
        sums = rows.group_by(self._keys, use_threads=False).aggregate([(name, "sum") for name in self._values])
        return sums.rename_columns([*self._keys, *self._values])


def _plain(rows: pa.Table) -> pa.Table:
    """With texts in place of numbers of texts, which differ from part to part."""
    columns = {
        name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    }
    return pa.table(columns)
