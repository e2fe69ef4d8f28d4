"""litData: chunks of 20 MB."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import litdata

from tests.benchmarks.peers.row import (
    ROWS_OF_A_BATCH,
    Mapped,
    Row,
    Sample,
    all_samples,
    decoded_sample,
    touched_samples,
)


def _chunked(sample: Sample) -> dict[str, bytes]:
    return sample._asdict()


def write(built: Path, to: Path) -> None:
    litdata.optimize(
        _chunked,
        all_samples(built),
        output_dir=str(to / "chunks"),
        chunk_bytes="20MB",
        num_workers=1,
        reorder_files=False,
        verbose=False,
    )


def rows(folder: Path) -> Iterable[Row]:
    return Mapped(litdata.StreamingDataset(str(folder / "chunks")), decoded_sample)


def workers(folder: Path) -> Iterable[int]:
    batches: Iterable[int] = litdata.StreamingDataLoader(
        litdata.StreamingDataset(str(folder / "chunks")),
        batch_size=ROWS_OF_A_BATCH,
        num_workers=2,
        collate_fn=touched_samples,
        persistent_workers=True,
    )
    return batches
