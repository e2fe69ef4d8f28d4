"""The copies within a set of images or between two, found by fingerprints and verified on pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.duplicates.fingerprint import framings
from shards.duplicates.images import Images
from shards.duplicates.ranks import one_channel
from shards.duplicates.search import Candidates, exact_pairs, near_pairs
from shards.duplicates.sign_hash import FLIP_MASKS, FLIPS, distances
from shards.duplicates.verification import alike, distance, flipped, thumbnail
from shards.duplicates.volumes import Alignment, Slices, alignments, shifted

Array = npt.NDArray[Any]
OnStep = Callable[[str, int, int], None]
"""Told what is done, and how many of how many."""

LIMIT: Final = 0.4
"""Distance up to which two images are copies, see docs/duplicates.md."""
_LOOKED_AT: Final = 5
"""Slices of two volumes that are compared on their pixels."""
_TRIED: Final = 3
"""Slices of a volume that a picture is compared with."""
_HELD: Final = 512
"""Images that are in memory as they are compared, of 200 kB each."""


@dataclass(frozen=True)
class Pair:
    """Two images, or two volumes, of which one is a copy of the other.

    Attributes:
        kind: ``exact``, ``near`` or ``volume``.
        distance: On their pixels, see `shards.duplicates.verification`; of volumes the median of slices.
        flip: How one is mirrored, of `FLIPS`.
        one: Images of the first set: one, or the slices of a volume.
        other: The images of the second that they are copies of.
        reverse: Whether the slices of one volume are in the opposite order.
    """

    kind: str
    distance: float
    flip: str
    one: tuple[int, ...]
    other: tuple[int, ...]
    reverse: bool = False


@dataclass(frozen=True)
class Found:
    """The copies that were found.

    Attributes:
        pairs: Volumes first, then pictures, each in the order of their images.
        crowded: Images that look like so many others that not all of these were compared.
    """

    pairs: tuple[Pair, ...]
    crowded: int


def find_pairs(first: Images, second: Images | None = None, *, workers: int, on_step: OnStep) -> Found:
    """Find the copies within a set, or those that two sets have of each other.

    Args:
        first: A set.
        second: Another, or None.
        workers: Threads that compare pixels.
        on_step: Told how far it is.

    Raises:
        DatasetError: An image cannot be read.
    """
    other = first if second is None else second
    exact = exact_pairs(first, second)
    near = near_pairs(first, second, on_table=partial(on_step, "searching, table"))
    every = Candidates(
        one=np.concatenate([exact.one, near.one]),
        other=np.concatenate([exact.other, near.other]),
        flip=np.concatenate([exact.flip, near.flip]),
        bits=np.concatenate([exact.bits, near.bits]),
    )
    look = _Look(first, other)
    with ThreadPoolExecutor(workers) as pool:
        volumes = list(_volumes(every, look, pool, on_step))
        pictures = list(_pictures(exact, near, look, pool, on_step))
    covered = {(a, b) for pair in volumes for a, b in zip(pair.one, pair.other, strict=True)}
    alone = [pair for pair in pictures if (pair.one[0], pair.other[0]) not in covered]
    return Found((*volumes, *alone), near.crowded)


class _Look:
    """Compares images of two sets on their pixels."""

    def __init__(self, first: Images, second: Images) -> None:
        self.first, self.second = first, second
        self._held = lru_cache(_HELD)(self._views)

    def _views(self, is_second: bool, number: int) -> list[npt.NDArray[np.float32]]:
        images = self.second if is_second else self.first
        return [thumbnail(part) for part in framings(one_channel(images.read(number)))]

    def apart(self, one: int, other: int, flip: int) -> float:
        """How far two images are apart, in the framings in which their hashes are nearest."""
        if flip == 0 and (self.first.exact[one] == self.second.exact[other]).all():
            return 0.0
        bits = distances(self.first.hashes[one][:, None], self.second.hashes[other][None] ^ FLIP_MASKS[flip])
        a, b = divmod(int(bits.argmin()), bits.shape[1])
        here = self._held(False, one)[a]
        there = np.ascontiguousarray(flipped(self._held(self.first is not self.second, other)[b], flip))
        apart = distance(here, there)
        if apart <= LIMIT or not alike(here, there):
            return apart
        return min(apart, distance(here, there, aligned=True))


def _volumes(candidates: Candidates, look: _Look, pool: ThreadPoolExecutor, on_step: OnStep) -> Iterator[Pair]:
    slices = Slices(look.first), Slices(look.second)
    found = [
        one
        for one in alignments(candidates, look.first, look.second)
        if look.first is not look.second or one.first != one.second
    ]

    def verified(alignment: Alignment) -> Pair | None:
        for by in (0, 1, -1):  # the slices beside look nearly the same
            tried = alignment if by == 0 else shifted(alignment, by, slices)
            if tried is None:
                continue
            chosen = np.unique(np.linspace(0, len(tried.one) - 1, _LOOKED_AT).round().astype(int))
            apart: list[float] = []
            for at in chosen:  # until most are found to be no copies
                apart.append(look.apart(int(tried.one[at]), int(tried.other[at]), tried.flip))
                if 2 * sum(one > LIMIT for one in apart) > len(chosen):
                    break
            else:
                return _pair_of(tried, float(np.median(apart)))
        return None

    for done, pair in enumerate(pool.map(verified, found), 1):
        on_step("comparing volumes", done, len(found))
        if pair is not None:
            yield pair


def _pair_of(alignment: Alignment, apart: float) -> Pair:
    one, other = (tuple(numbers.tolist()) for numbers in (alignment.one, alignment.other))
    return Pair("volume", apart, FLIPS[alignment.flip], one, other, alignment.reverse)


def _pictures(
    exact: Candidates, near: Candidates, look: _Look, pool: ThreadPoolExecutor, on_step: OnStep
) -> Iterator[Pair]:
    """The pairs of which one at least is no slice of a volume, and slices that are the same to the pixel."""
    same = set(zip(exact.one.tolist(), exact.other.tolist(), strict=True))
    for one, other in sorted(same):
        yield Pair("exact", 0.0, FLIPS[0], (one,), (other,))
    twins = (look.first.exact[near.one] == look.second.exact[near.other]).all(axis=1)  # also those of larger groups
    keep = [at for at in _to_compare(near, look) if not twins[at]]

    def verified(at: int) -> tuple[float, int]:
        return look.apart(int(near.one[at]), int(near.other[at]), int(near.flip[at])), at

    best: dict[tuple[int, int, bool], tuple[float, int]] = {}
    for done, (apart, at) in enumerate(pool.map(verified, keep), 1):
        on_step("comparing images", done, len(keep))
        if apart <= LIMIT:
            of = _of_picture(near, look, at)
            best[of] = min(best.get(of, (2.0, 0)), (apart, at))
    for apart, at in sorted(best.values(), key=lambda one: one[1]):
        flip = FLIPS[int(near.flip[at])]
        yield Pair("near", apart, flip, (int(near.one[at]),), (int(near.other[at]),))


def _of_picture(near: Candidates, look: _Look, at: int) -> tuple[int, int, bool]:
    """What a pair is the best of: a picture and a volume count once, with the slice that is nearest."""
    one, other = int(near.one[at]), int(near.other[at])
    volumes = int(look.first.volume[one]), int(look.second.volume[other])
    if volumes[0] >= 0:
        return -1 - volumes[0], other, True
    if volumes[1] >= 0:
        return one, -1 - volumes[1], True
    return one, other, False


def _to_compare(near: Candidates, look: _Look) -> list[int]:
    """Pairs with a picture; of each picture with a volume those few whose hashes are nearest."""
    one, other = look.first.volume[near.one], look.second.volume[near.other]
    pictures = np.flatnonzero((one < 0) & (other < 0)).tolist()
    mixed = np.flatnonzero((one < 0) != (other < 0))
    a = np.where(one[mixed] < 0, near.one[mixed].astype(np.int64), -1 - one[mixed].astype(np.int64))
    b = np.where(other[mixed] < 0, near.other[mixed].astype(np.int64), -1 - other[mixed].astype(np.int64))
    order = np.lexsort((near.bits[mixed], b, a))
    mixed, a, b = mixed[order], a[order], b[order]
    starts = np.flatnonzero(np.concatenate([[True], (a[1:] != a[:-1]) | (b[1:] != b[:-1])])) if len(a) else a
    place = np.arange(len(a)) - np.repeat(starts, np.diff(np.append(starts, len(a)))) if len(a) else a
    return sorted(pictures + mixed[place < _TRIED].tolist())
