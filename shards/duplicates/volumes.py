"""Volumes that hold the same slices in the same order, or in the opposite one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.duplicates.images import Images
from shards.duplicates.search import Candidates
from shards.duplicates.sign_hash import FLIPS

Array = npt.NDArray[Any]

VOTES: Final = 3
"""Slices that must point at another volume before it is looked at; all of a volume that has fewer. One or two slices of
any two patients look alike."""
_SHARE: Final = 0.1
"""Part of the slices that lie beside each other that must speak for it: of copies half and more do, of other patients
some here and there."""


@dataclass(frozen=True)
class Alignment:
    """How the slices of one volume lie beside those of another.

    Attributes:
        first: Number of the volume in the first set.
        second: Number of the volume in the second.
        reverse: Whether the one counts its slices the other way round.
        offset: Slice ``p`` of the first is slice ``offset + p`` of the second, or ``offset - p`` where reversed.
        flip: How one is mirrored within its slices, a place in `FLIPS`.
        one: (S,) images of the first that have their slice in the second, in the order of slices.
        other: (S,) these slices of the second.
    """

    first: int
    second: int
    reverse: bool
    offset: int
    flip: int
    one: Array
    other: Array


class Slices:
    """The slices of each volume of a set.

    Args:
        images: The set.
    """

    def __init__(self, images: Images) -> None:
        order = np.lexsort((images.position, images.volume))
        order = order[images.volume[order] >= 0]
        self._numbers = order
        self._positions = images.position[order]
        self._ends = np.searchsorted(images.volume[order], np.arange(len(images.volumes) + 1))

    def of(self, volume: int) -> tuple[Array, Array]:
        """Positions of the slices of a volume, rising, and the numbers of the images."""
        own = slice(self._ends[volume], self._ends[volume + 1])
        return self._positions[own], self._numbers[own]

    def count(self, volumes: Array) -> Array:
        """How many slices volumes have."""
        counted: Array = self._ends[volumes + 1] - self._ends[volumes]
        return counted


def alignments(candidates: Candidates, first: Images, second: Images) -> Iterator[Alignment]:
    """The volumes that candidates point at, and how their slices lie beside each other.

    Args:
        candidates: Pairs of images.
        first: The first set.
        second: The second, or the first again.
    """
    slices = Slices(first), Slices(second)
    one, other = first.volume[candidates.one], second.volume[candidates.other]
    both = np.flatnonzero((one >= 0) & (other >= 0))
    key = one[both].astype(np.int64) << 32 | other[both]
    order = both[np.argsort(key, kind="stable")]
    pairs, starts, votes = np.unique(key, return_index=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(votes)]).astype(np.int64)
    firsts, seconds = (pairs >> 32).astype(np.int64), (pairs & 0xFFFFFFFF).astype(np.int64)
    smaller = np.minimum(slices[0].count(firsts), slices[1].count(seconds))
    for number in np.flatnonzero(votes >= np.minimum(VOTES, smaller)):
        own = order[starts[number] : starts[number + 1]]
        ones, others = candidates.one[own], candidates.other[own]
        order_found = _in_order(first.position[ones], second.position[others], candidates.flip[own])
        for distinct, reverse, offset, flip in order_found:
            matched = _beside(slices[0].of(firsts[number]), slices[1].of(seconds[number]), reverse, offset)
            if len(matched[0]) >= min(VOTES, smaller[number]) and distinct >= _SHARE * len(matched[0]):
                yield Alignment(int(firsts[number]), int(seconds[number]), reverse, offset, flip, *matched)
                break


def shifted(alignment: Alignment, by: int, slices: tuple[Slices, Slices]) -> Alignment | None:
    """The same two volumes, a slice or more further on; None where nothing lies beside each other then."""
    offset = alignment.offset + by
    sets = slices[0].of(alignment.first), slices[1].of(alignment.second)
    one, other = _beside(*sets, alignment.reverse, offset)
    if not len(one):
        return None
    return Alignment(alignment.first, alignment.second, alignment.reverse, offset, alignment.flip, one, other)


def _in_order(one: Array, other: Array, flip: Array) -> Iterator[tuple[int, bool, int, int]]:
    """How many slices speak for an order, and which it is; the most probable first."""
    found = []
    for reverse in (False, True):
        offsets = other + one if reverse else other - one
        values, counts = np.unique(offsets, return_counts=True)
        # neighbours look alike, so a true offset also has votes beside it
        around = counts + np.array([counts[np.abs(values - value) == 1].sum() for value in values]) / 4
        best = int(np.argmax(around))
        at = offsets == values[best]
        distinct = len(np.unique(one[at]))
        flips = np.bincount(flip[at], minlength=len(FLIPS))
        found.append((distinct, not reverse, int(values[best]), int(np.argmax(flips))))
    for distinct, forward, offset, kind in sorted(found, reverse=True):
        yield distinct, not forward, offset, kind


def _beside(first: tuple[Array, Array], second: tuple[Array, Array], reverse: bool, offset: int) -> tuple[Array, Array]:
    """The images of two volumes that lie beside each other."""
    wanted = offset - first[0] if reverse else offset + first[0]
    at = np.clip(np.searchsorted(second[0], wanted), 0, max(len(second[0]) - 1, 0))
    there = second[0][at] == wanted
    return first[1][there], second[1][at[there]]
