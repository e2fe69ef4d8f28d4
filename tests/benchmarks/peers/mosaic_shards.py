"""MosaicML streaming: MDS shards of 20 MB."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from streaming import MDSWriter, StreamingDataset

from tests.benchmarks.peers.row import (
    ROWS_OF_A_BATCH,
    Mapped,
    Row,
    Sample,
    all_samples,
    by_workers,
    decoded_sample,
    touched_samples,
)


def write(built: Path, to: Path) -> None:
    with MDSWriter(
        out=str(to), columns=dict.fromkeys(Sample._fields, "bytes"), size_limit="20mb", progress_bar=False
    ) as shards:
        for sample in all_samples(built):
            shards.write(sample._asdict())


def rows(folder: Path) -> Iterable[Row]:
    return Mapped(StreamingDataset(local=str(folder), batch_size=1), decoded_sample)


def workers(folder: Path) -> Iterable[int]:
    return by_workers(StreamingDataset(local=str(folder), batch_size=ROWS_OF_A_BATCH), touched_samples)
