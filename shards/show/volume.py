"""A contact sheet of the slices of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.show.find import Row
from shards.show.overlay import colors_of, overlay
from shards.show.sample import Sample, read_sample
from shards.show.sheet import Tile, sheet

_SIDE: Final = 224
_COLUMNS: Final = 6
_LARGE: Final = 768
"""Pixels of the longer side of a sample that is shown alone, at least."""


def picture_of(sample: Sample) -> npt.NDArray[np.uint8]:
    """One sample with its masks, title and legend.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    record, colors = sample.record, colors_of(sample.labels)
    side = max(_LARGE, *sample.pixels.shape[:2])
    tile = Tile(overlay(sample.pixels, sample.masks, sample.labels, colors, side), _facts(record))
    return sheet(record["key"], [tile], colors, side, 1)


def sheet_of(title: str, samples: Sequence[Sample], captions: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Several samples on one sheet; a class has one colour on all of it.

    Args:
        title: Above the pictures.
        samples: In their order.
        captions: One for each.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    colors = colors_of(label for sample in samples for label in sample.labels)
    tiles = [
        Tile(overlay(sample.pixels, sample.masks, sample.labels, colors, _SIDE), caption)
        for sample, caption in zip(samples, captions, strict=True)
    ]
    return sheet(title, tiles, colors, _SIDE, _COLUMNS)


def contact_sheet(out: Path, rows: Sequence[Row], slices: int) -> npt.NDArray[np.uint8]:
    """The slices of a case, or as many of them, evenly spread.

    Args:
        out: Output folder, wherever it lies.
        rows: Of the index, in their order; at least one.
        slices: Pictures, at most.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    shown = [rows[at] for at in spread(len(rows), slices)]
    first = rows[0]
    plane = first["plane"]
    title = f"{first['source']}: {first['case']}, {plane}, {len(shown)} of {len(rows)}"
    captions = [plane if row["index"] is None else f"{plane} {row['index']}" for row in shown]
    return sheet_of(title, [read_sample(out, row) for row in shown], captions)


def spread(count: int, most: int) -> list[int]:
    """Positions that lie evenly in a sequence, its ends among them.

    >>> spread(3, 6), spread(9, 3), spread(9, 1)
    ([0, 1, 2], [0, 4, 8], [4])
    """
    if most == 1:
        return [count // 2] if count else []
    return [round(at) for at in np.linspace(0, count - 1, min(count, most))]


def _facts(record: Mapping[str, Any]) -> str:
    size = f"{record['width']} x {record['height']}"
    return ", ".join((record["plane"], size, record["split"], record["license"]))
