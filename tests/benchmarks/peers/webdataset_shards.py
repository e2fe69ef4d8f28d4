"""`webdataset` on shards that it wrote itself, with OpenCV."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import webdataset

from tests.benchmarks.peers.row import Row, all_samples, by_workers, decoded

SHARD_BYTES = 20_000_000


def write(built: Path, to: Path) -> None:
    with webdataset.ShardWriter(str(to / "%05d.tar"), maxsize=SHARD_BYTES, verbose=0) as shards:
        for sample in all_samples(built):
            members = {"png": sample.image, "mask.png": sample.mask, "json": sample.record}
            shards.write({"__key__": json.loads(sample.record)["key"], **members})


def _row(sample: dict[str, Any]) -> Row:
    return decoded(sample["png"], sample["mask.png"], sample["json"])


def rows(folder: Path) -> Iterable[Row]:
    warnings.simplefilter("ignore")  # it leaves files open
    shards = sorted(map(str, folder.glob("*.tar")))
    dataset: Iterable[Row] = webdataset.WebDataset(shards, shardshuffle=False).map(_row)
    return dataset


def workers(folder: Path) -> Iterable[int]:
    return by_workers(rows(folder))
