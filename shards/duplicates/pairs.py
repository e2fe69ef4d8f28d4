"""The copies within a set of images or between two, found by fingerprints and verified on pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from shards.duplicates.fingerprint import framings
from shards.duplicates.images import Images
from shards.duplicates.ranks import one_channel
from shards.duplicates.search import Candidates, exact_pairs, near_pairs
from shards.duplicates.sign_hash import FLIP_MASKS, FLIPS, distances
from shards.duplicates.verification import alike, distance, flipped, thumbnail
from shards.duplicates.volumes import Slices, beside
from shards.duplicates.votes import alignments

Array = npt.NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")
OnStep = Callable[[str, int, int], None]
"""Told what is done, and how many of how many."""

LIMIT: Final = 0.4
"""Distance up to which two images are copies, see docs/duplicates.md."""
_LOOKED_AT: Final = 5
"""Slices of two volumes that are compared on their pixels."""
_TRIED: Final = 3
"""Slices of a volume that a picture is compared with."""
_HELD: Final = 1024
"""Images that are in memory as they are compared, of 200 kB each."""
_BLOCK: Final = 64
"""Volumes, or pictures, that are compared with as many others before the next: so many alike are read few times."""
_WAITING: Final = 1 << 12
"""Comparisons that are handed to threads at once."""


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
    look = _Look(first, other)
    with ThreadPoolExecutor(workers) as pool:
        volumes = sorted(_volumes(exact.and_also(near), look, pool, on_step), key=lambda pair: (pair.one, pair.other))
        pictures = list(_pictures(exact, near, look, pool, on_step, within=_within(volumes)))
    return Found((*volumes, *pictures), near.crowded)


def _within(volumes: Iterable[Pair]) -> Array:
    """The pairs of slices of volumes that are copies, each as one number, rising."""
    numbers = [_joined(np.array(pair.one), np.array(pair.other)) for pair in volumes]
    return np.sort(np.concatenate(numbers)) if numbers else np.zeros(0, np.int64)


def _joined(one: Array, other: Array) -> Array:
    joined: Array = one.astype(np.int64) << 32 | other
    return joined


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
    found = alignments(candidates, look.first, look.second, slices)
    found = found.part(np.lexsort((found.second // _BLOCK, found.first // _BLOCK)))

    def verified(at: int) -> Pair | None:
        one = found.part(slice(at, at + 1))
        pairs, flip = beside(one, slices), int(one.flip[0])
        chosen = _looked_at(pairs.position)
        apart: list[float] = []
        for slice_ in chosen:  # until most are found to be no copies
            apart.append(look.apart(int(pairs.one[slice_]), int(pairs.other[slice_]), flip))
            if 2 * sum(far > LIMIT for far in apart) > len(chosen):
                return None
        sides = tuple(pairs.one.tolist()), tuple(pairs.other.tolist())
        return Pair("volume", float(np.median(apart)), FLIPS[flip], *sides, bool(one.reverse[0]))

    for done, pair in enumerate(_mapped(pool, verified, range(len(found))), 1):
        on_step("comparing volumes", done, len(found))
        if pair is not None:
            yield pair


def _looked_at(positions: Array) -> list[int]:
    """Which of some slices are compared: evenly, and the same ones of a volume whatever it is compared with."""
    for power in range(20, -1, -1):
        even = np.flatnonzero(positions % (1 << power) == 0)
        if len(even) >= _LOOKED_AT or not power:
            among = even if len(even) >= _LOOKED_AT else np.arange(len(positions))
            break
    chosen: list[int] = among[np.unique(np.linspace(0, len(among) - 1, _LOOKED_AT).round().astype(int))].tolist()
    return chosen


def _mapped(pool: ThreadPoolExecutor, function: Callable[[T], R], values: Sequence[T]) -> Iterator[R]:
    """What a function gives for values, in their order, of which never more than some wait for a thread."""
    for start in range(0, len(values), _WAITING):
        yield from pool.map(function, values[start : start + _WAITING])


def _pictures(
    exact: Candidates, near: Candidates, look: _Look, pool: ThreadPoolExecutor, on_step: OnStep, *, within: Array
) -> Iterator[Pair]:
    """The pairs of which one at least is no slice of a volume, and slices that are the same to the pixel.

    Those that are slices of volumes that are copies are left out (``within``).
    """
    same = np.setdiff1d(_joined(exact.one, exact.other), within)
    for both in same.tolist():
        yield Pair("exact", 0.0, FLIPS[0], (both >> 32,), (both & 0xFFFFFFFF,))
    keep = np.array(_to_compare(near, look), np.int64)
    twins = (look.first.exact[near.one[keep]] == look.second.exact[near.other[keep]]).all(axis=1)
    keep = keep[~twins]  # also those of larger groups
    block = (near.one[keep] // _BLOCK).astype(np.int64) << 32 | near.other[keep] // _BLOCK
    keep = keep[np.argsort(block, kind="stable")]

    def verified(at: int) -> tuple[float, int]:
        return look.apart(int(near.one[at]), int(near.other[at]), int(near.flip[at])), at

    best: dict[tuple[int, int, bool], tuple[float, int]] = {}
    for done, (apart, at) in enumerate(_mapped(pool, verified, keep.tolist()), 1):
        on_step("comparing images", done, len(keep))
        if apart <= LIMIT:
            of = _of_picture(near, look, at)
            best[of] = min(best.get(of, (2.0, 0)), (apart, at))
    for apart, at in sorted(best.values(), key=lambda one: one[1]):
        flip = FLIPS[int(near.flip[at])]
        pair = int(near.one[at]), int(near.other[at])
        yield Pair("near", apart, flip, pair[:1], pair[1:])


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
