"""Volumes as stacks of slices, and how the slices of one lie beside those of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.duplicates.images import Images

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Alignments:
    """How the slices of volumes lie beside those of others. All arrays have one entry for each two volumes.

    Attributes:
        first: (A,) number of the volume in the first set.
        second: (A,) number of the volume in the second.
        reverse: (A,) whether the one counts its slices the other way round.
        offset: (A,) slice ``p`` of the first is slice ``offset + p`` of the second, or ``offset - p`` where reversed.
        flip: (A,) how one is mirrored within its slices, a place in `shards.duplicates.sign_hash.FLIPS`.
    """

    first: Array
    second: Array
    reverse: Array
    offset: Array
    flip: Array

    def __len__(self) -> int:
        return len(self.first)

    def part(self, which: Any) -> Alignments:
        """Some of them, as numpy takes them."""
        return Alignments(*(getattr(self, field.name)[which] for field in fields(self)))

    @staticmethod
    def joined(parts: Sequence[Alignments]) -> Alignments:
        """All of some parts, of which there is at least one."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(Alignments))
        return Alignments(*map(np.concatenate, columns))


class Slices:
    """The slices of each volume of a set, in their order.

    Args:
        images: The set.

    Attributes:
        numbers: (S,) the images, by volume and position.
        keys: (S,) ``volume << 32 | position``, rising.
    """

    def __init__(self, images: Images) -> None:
        keys = images.volume.astype(np.int64) << 32 | images.position
        order = np.argsort(keys, kind="stable").astype(np.int32)
        order = order[images.volume[order] >= 0]
        self.numbers: Array = order
        self.keys: Array = keys[order]
        self._ends = np.searchsorted(self.keys, np.arange(len(images.volumes) + 1, dtype=np.int64) << 32)

    def start(self, volumes: Array) -> Array:
        """Where the slices of volumes begin."""
        started: Array = self._ends[volumes]
        return started

    def count(self, volumes: Array) -> Array:
        """How many slices volumes have."""
        counted: Array = self._ends[volumes + 1] - self._ends[volumes]
        return counted

    def position(self, rows: Array) -> Array:
        """Positions of slices within their volumes."""
        placed: Array = self.keys[rows] & 0xFFFFFFFF
        return placed


Sides = tuple[Slices, Slices]
"""The slices of the first set and of the second."""


@dataclass(frozen=True)
class Beside:
    """Slices that lie beside each other, of one alignment after another.

    Attributes:
        which: (P,) number of the alignment.
        position: (P,) position in the first volume, rising.
        one: (P,) image of the first set.
        other: (P,) image of the second.
    """

    which: Array
    position: Array
    one: Array
    other: Array


def beside(alignments: Alignments, slices: Sides) -> Beside:
    """The slices that lie beside each other.

    Args:
        alignments: How volumes lie.
        slices: Of both sets.
    """
    counts = slices[0].count(alignments.first)
    which = np.repeat(np.arange(len(alignments)), counts)
    rows = np.arange(len(which)) + np.repeat(slices[0].start(alignments.first) - np.cumsum(counts) + counts, counts)
    position = slices[0].position(rows)
    offset = alignments.offset[which]
    wanted = np.where(alignments.reverse[which], offset - position, offset + position)
    keys = alignments.second[which] << 32 | np.maximum(wanted, 0)
    at = np.minimum(np.searchsorted(slices[1].keys, keys), len(slices[1].keys) - 1)
    there = (slices[1].keys[at] == keys) & (wanted >= 0)
    return Beside(which[there], position[there], slices[0].numbers[rows[there]], slices[1].numbers[at[there]])


def widest(alignments: Alignments, slices: Sides) -> Array:
    """How many slices can lie beside each other at most, by the first and the last of both volumes; all have slices."""
    low, least = (side.position(side.start(own)) for side, own in zip(slices, _volumes(alignments), strict=True))
    high, most = (
        side.position(side.start(own) + side.count(own) - 1)
        for side, own in zip(slices, _volumes(alignments), strict=True)
    )
    begin = np.where(alignments.reverse, alignments.offset - high, alignments.offset + low)
    end = np.where(alignments.reverse, alignments.offset - low, alignments.offset + high)
    found: Array = np.minimum(end, most) - np.maximum(begin, least) + 1
    return found


def smaller(alignments: Alignments, slices: Sides) -> Array:
    """How many slices the smaller of two volumes has."""
    found: Array = np.minimum(slices[0].count(alignments.first), slices[1].count(alignments.second))
    return found


def _volumes(alignments: Alignments) -> tuple[Array, Array]:
    return alignments.first, alignments.second
