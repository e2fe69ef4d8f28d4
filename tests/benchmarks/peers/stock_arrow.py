"""Stock `datasets` without streaming: this project's shards copied to Arrow, decoded by Pillow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import datasets

from tests.benchmarks.peers.loader_shards import CONFIG
from tests.benchmarks.peers.row import Mapped, Row, by_workers
from tests.benchmarks.peers.stock_stream import by_pillow, touched_by_pillow


def write(built: Path, to: Path) -> None:
    """As `load_dataset` does by itself, into its cache."""
    datasets.disable_progress_bars()
    (to / "shards").symlink_to(built)
    opened(to)


def opened(folder: Path) -> datasets.Dataset:
    return datasets.load_dataset(str(folder / "shards"), CONFIG, split="train", cache_dir=str(folder / "arrow"))


def rows(folder: Path) -> Iterable[Row]:
    return Mapped(opened(folder), by_pillow)


def workers(folder: Path) -> Iterable[int]:
    return by_workers(opened(folder), touched_by_pillow)
