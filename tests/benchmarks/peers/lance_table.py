"""Lance: pictures and metadata as columns of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import lance
import pyarrow as pa
from lance.torch.data import SafeLanceDataset, get_safe_loader

from tests.benchmarks.peers.row import ROWS_OF_A_BATCH, Row, Sample, all_samples, decoded_sample, touched_samples


def write(built: Path, to: Path) -> None:
    columns = zip(*all_samples(built), strict=True)
    table = pa.table(
        {name: pa.array(column, pa.binary()) for name, column in zip(Sample._fields, columns, strict=True)}
    )
    lance.write_dataset(table, str(to / "samples.lance"))


class _Rows(Iterable[Row]):
    def __init__(self, folder: Path) -> None:
        self._table = lance.dataset(str(folder / "samples.lance"))

    def __iter__(self) -> Iterator[Row]:
        for batch in self._table.to_batches(batch_size=ROWS_OF_A_BATCH):
            yield from map(decoded_sample, batch.to_pylist())


def rows(folder: Path) -> Iterable[Row]:
    return _Rows(folder)


def workers(folder: Path) -> Iterable[int]:
    """By its own loader, which starts workers anew, as Lance cannot be forked."""
    dataset = SafeLanceDataset(str(folder / "samples.lance"))
    batches: Iterable[int] = get_safe_loader(
        dataset, batch_size=ROWS_OF_A_BATCH, num_workers=2, collate_fn=touched_samples
    )
    return batches
