"""What is shown of a sample, of several, and of the slices of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from shards.show.find import Row
from shards.show.overlay import Color, colors_of, overlay
from shards.show.sample import Sample, read_sample
from shards.show.sheet import Tile, sheet

_SIDE: Final = 224
_COLUMNS: Final = 6
_LARGE: Final = 768
"""Pixels of the longer side of a sample that is shown alone, at least."""


@dataclass(frozen=True)
class Shown:
    """Pictures with masks drawn over them, not set out yet.

    Attributes:
        title: What they are of.
        tiles: In the order in which they are read.
        legend: Name and colour of each class; a class has one colour in all of them.
        side: Longest side of a picture in pixels.
    """

    title: str
    tiles: tuple[Tile, ...]
    legend: Mapping[str, Color]
    side: int

    def page(self) -> npt.NDArray[np.uint8]:
        """All on one sheet: (H, W, 3) uint8, RGB."""
        return sheet(self.title, self.tiles, self.legend, self.side, _COLUMNS)

    def bare(self) -> npt.NDArray[np.uint8]:
        """As `page`, where the legend is told elsewhere; one picture alone is itself."""
        if len(self.tiles) == 1:
            return self.tiles[0].picture
        return sheet(self.title, self.tiles, {}, self.side, _COLUMNS)


def one(sample: Sample) -> Shown:
    """One sample."""
    record, side = sample.record, max(_LARGE, *sample.pixels.shape[:2])
    size = f"{record['width']} x {record['height']}"
    facts = ", ".join((record["plane"], size, record["split"], record["license"]))
    return several(record["key"], [sample], [facts], side)


def several(title: str, samples: Sequence[Sample], captions: Sequence[str], side: int = _SIDE) -> Shown:
    """Samples in their order, with a caption each."""
    colors = colors_of(label for sample in samples for label in sample.labels)
    tiles = (
        Tile(overlay(sample.pixels, sample.masks, sample.labels, colors, side), caption)
        for sample, caption in zip(samples, captions, strict=True)
    )
    return Shown(title, tuple(tiles), colors, side)


def slices_of(out: Path, rows: Sequence[Row], most: int) -> Shown:
    """The slices of a case, or as many of them, evenly spread.

    Args:
        out: Output folder, wherever it lies.
        rows: Of the index, in their order; at least one.
        most: Slices.
    """
    shown = [rows[at] for at in spread(len(rows), most)]
    first = rows[0]
    plane = first["plane"]
    title = f"{first['source']}: {first['case']}, {plane}, {len(shown)} of {len(rows)}"
    captions = [plane if row["index"] is None else f"{plane} {row['index']}" for row in shown]
    return several(title, [read_sample(out, row) for row in shown], captions)


def spread(count: int, most: int) -> list[int]:
    """Positions that lie evenly in a sequence, its ends among them.

    >>> spread(3, 6), spread(9, 3), spread(9, 1)
    ([0, 1, 2], [0, 4, 8], [4])
    """
    if most == 1:
        return [count // 2] if count else []
    return [round(at) for at in np.linspace(0, count - 1, min(count, most))]
