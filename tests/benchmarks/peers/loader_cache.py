"""A cache of this project's shards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from builder.command_line import main
from sa_med2d_20m import Output, load
from tests.benchmarks.peers.loader_shards import CONFIG
from tests.benchmarks.peers.row import Row, by_workers

SIZE = 512


def write(built: Path, to: Path) -> None:
    (to / "shards").symlink_to(built)
    options = ["--size", SIZE, "--grey", "--to", to / "cache", "--workers", 1]
    assert main([str(word) for word in ("cache", built, *options)]) == 0


def rows(folder: Path) -> Iterable[Row]:
    dataset: Iterable[Row] = load(folder / "shards", CONFIG, cache=folder / "cache", decode=Output(SIZE, channels=1))
    return dataset


def workers(folder: Path) -> Iterable[int]:
    return by_workers(rows(folder))
