"""Stock `datasets` streams this project's shards, and decodes by Pillow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from tests.benchmarks.peers.loader_shards import CONFIG, write
from tests.benchmarks.peers.row import Mapped, Row, by_workers, touched

__all__ = ["by_pillow", "rows", "touched_by_pillow", "workers", "write"]


def by_pillow(sample: dict[str, Any]) -> Row:
    return {"image": np.asarray(sample["png"]), "mask": np.asarray(sample["mask.png"]), **sample["json"]}


def touched_by_pillow(samples: Sequence[dict[str, Any]]) -> int:
    return touched(map(by_pillow, samples))


def _stream(folder: Path) -> datasets.IterableDataset:
    return datasets.load_dataset(str(folder), CONFIG, split="train", streaming=True)


def rows(folder: Path) -> Iterable[Row]:
    return Mapped(_stream(folder), by_pillow)


def workers(folder: Path) -> Iterable[int]:
    return by_workers(_stream(folder), touched_by_pillow)
