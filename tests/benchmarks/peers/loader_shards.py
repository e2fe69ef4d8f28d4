"""The shards of this project and their index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from sa_med2d_20m import load
from shards.index import index_row, index_table, write_index
from shards.paths import DATA, INDEX, ShardId, stems
from shards.tar import Sample, sample_blocks
from shards.writer import StoredCase, write_shard
from tests.benchmarks.peers.row import Row, by_workers, samples

CONFIG = "mr"


def write(built: Path, to: Path) -> None:
    """Tars with their index, and the card, which names the configs."""
    for stem in stems(built, DATA, ".tar"):
        shard = ShardId.parse(stem)
        blocks, rows_of_index, end = [], [], 0
        for image, mask, record in samples(built / shard.tar):
            metadata = json.loads(record)
            data, located = sample_blocks(Sample(metadata["key"], image, mask, record), end)
            blocks.append(data)
            rows_of_index.append(index_row(metadata, "", located))
            end += len(data)
        written = write_shard(to, shard, [StoredCase(blocks, index_table(rows_of_index))])
        write_index(to / f"{INDEX}/{stem}.parquet", written.rows)
    shutil.copy(built / "README.md", to)


def rows(folder: Path) -> Iterable[Row]:
    dataset: Iterable[Row] = load(folder, CONFIG)
    return dataset


def workers(folder: Path) -> Iterable[int]:
    return by_workers(load(folder, CONFIG))
