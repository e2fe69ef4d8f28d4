"""Stock `datasets` without streaming, which gives the PNG as it is, decoded by OpenCV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets

from tests.benchmarks.peers.row import Mapped, Row, by_opencv, by_workers, touched
from tests.benchmarks.peers.stock_arrow import opened, write

__all__ = ["rows", "workers", "write"]


def _row(sample: dict[str, Any]) -> Row:
    image, mask = (by_opencv(sample[name]["bytes"]) for name in ("png", "mask.png"))
    return {"image": image, "mask": mask, **sample["json"]}


def _touched(samples: Sequence[dict[str, Any]]) -> int:
    return touched(map(_row, samples))


def _undecoded(folder: Path) -> datasets.Dataset:
    dataset = opened(folder)
    for name in ("png", "mask.png"):
        dataset = dataset.cast_column(name, datasets.Image(decode=False))
    return dataset


def rows(folder: Path) -> Iterable[Row]:
    return Mapped(_undecoded(folder), _row)


def workers(folder: Path) -> Iterable[int]:
    return by_workers(_undecoded(folder), _touched)
