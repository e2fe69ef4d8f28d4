"""All that a report says of a set in numbers: what was counted, and the statistics and figures made of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from shards.receipt import Receipt
from shards.report.collect import Collector, Counted
from shards.report.figures import Plot, plots
from shards.report.rows import Rows, batches
from shards.report.statistics import statistics


class Taker(Protocol):
    """What sees all rows of a set, once and in their order."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the index that it needs."""

    def add(self, rows: pa.Table) -> None:
        """Take rows in."""


@dataclass(frozen=True)
class Summary:
    """What a set holds.

    Attributes:
        counted: See `Counted`.
        statistics: See `shards.report.statistics`.
    """

    counted: Counted
    statistics: dict[str, Any]

    def plots(self, only: Sequence[str] | None = None) -> Iterator[Plot]:
        """Its figures, or those of some names; they are drawn as they are asked for."""
        return plots(self.statistics, self.counted, only)


def summarize(
    rows: Rows,
    receipts: Collection[Receipt],
    on_part: Callable[[int, int], None] = lambda *_: None,
    also: Sequence[Taker] = (),
) -> Summary:
    """Count a set in one pass over its rows.

    Args:
        rows: Where they are.
        receipts: Of its shards: what rules and gates left out, which no row says.
        on_part: Told how many of how many parts were read.
        also: Others that see the rows on the same pass.

    Raises:
        DatasetError: A file is no index of this version.
    """
    collector = Collector()
    takers = (collector, *also)
    columns = tuple(dict.fromkeys(column for taker in takers for column in taker.columns))
    for part in batches(rows, columns, on_part):
        for taker in takers:
            taker.add(part)
    counted = collector.counted(receipts)
    return Summary(counted, statistics(counted))
