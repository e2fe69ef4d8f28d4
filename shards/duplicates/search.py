"""Which images may be copies, by their fingerprints alone, in time that grows with the number of images.

Exact copies share a hash, so they lie side by side when hashes are sorted. Near ones share most bits of theirs. Each of
`_TABLES` tables is of `_KEY_BITS` of the lower 64 bits, chosen once and for all (locality sensitive hashing by bit
sampling, Indyk and Motwani, 1998): images that agree in these are compared in full. In sets of up to some ten thousand
images, and for a folder of some hundred beside one of a million, every two hashes are compared instead. Tables are
made one after another, sorted and searched by numpy, so there is never more than one in memory.

Sets of medical images are crowded: thousands of slices agree in any 24 bits. There an image is compared with the
`_CROWD` that lie next to it in the order of further bits, so no bucket costs more than its images; how many images
this concerned is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.duplicates.images import Images
from shards.duplicates.sign_hash import FLIP_MASKS, distances

Array = npt.NDArray[Any]
Sets = tuple[Images, Images | None]

FARTHEST: Final = 28
"""Bits of 128 in which copies may differ. Of windows that clip 60 % of all pixels 95 % differ in 25 or fewer; of slices
of different patients one in a thousand pairs is as near (see docs/duplicates.md)."""
_TABLES: Final = 12
_KEY_BITS: Final = 24
_SEED: Final = 20
_CROWD: Final = 32
_EVERY: Final = 4_000_000_000
"""Comparisons of hashes up to which every two are compared: half a minute."""
_CHUNK: Final = 1 << 20
"""Queries that are compared at once."""
_PARTNERS: Final = 24
"""Nearest images that are kept of each, where there are more than `_MOST` pairs."""
_MOST: Final = 1 << 24
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiplying by it spreads bits (Knuth, volume 3, section 6.4)."""

_IMAGE_BITS, _BITS_BITS, _FLIP_BITS = 28, 5, 2
"""A pair in 64 bits, so that sorting is what it costs: two images, the bits in which they differ, and the flip."""


@dataclass(frozen=True)
class Candidates:
    """Pairs of images that may be copies.

    Attributes:
        one: (P,) numbers of images of the first set.
        other: (P,) numbers of images of the second; of the same set, where there is one, and then larger.
        flip: (P,) how one of them is mirrored, a place in `shards.duplicates.sign_hash.FLIPS`.
        bits: (P,) in how many bits their hashes differ.
        crowded: How many images had more neighbours than were looked at.
    """

    one: Array
    other: Array
    flip: Array
    bits: Array
    crowded: int = 0


def exact_pairs(first: Images, second: Images | None = None) -> Candidates:
    """Images of the same pixels.

    Of many copies each is paired with the first of its group, so that a group of n gives n - 1 pairs within a set, and
    at most n + m - 1 between two.
    """
    every = first.exact if second is None else np.concatenate([first.exact, second.exact])
    order = np.lexsort((every[:, 1], every[:, 0]))  # stable: within a group by number
    same = (every[order[1:]] == every[order[:-1]]).all(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], ~same])) if len(every) else np.zeros(0, np.int64)
    group = np.cumsum(np.concatenate([[True], ~same])) - 1 if len(every) else starts
    head = order[starts][group]
    if second is None:
        one, other = head[head != order], order[head != order]
    else:
        count = len(first)
        foreign = np.where(order >= count, order, np.iinfo(np.int64).max)
        first_foreign = np.minimum.reduceat(foreign, starts)[group] if len(every) else foreign
        mixed = (head < count) & (first_foreign < np.iinfo(np.int64).max)
        of_second = mixed & (order >= count)
        of_first = mixed & (order < count) & (order != head)
        one = np.concatenate([head[of_second], order[of_first]])
        other = np.concatenate([order[of_second], first_foreign[of_first]]) - count
    keep = _comparable(first, second, one, other)
    one, other = one[keep], other[keep]
    nothing = np.zeros(len(one), np.uint8)
    return Candidates(one.astype(np.int32), other.astype(np.int32), nothing, nothing)


def near_pairs(
    first: Images, second: Images | None = None, *, on_table: Callable[[int, int], None] = lambda *_: None
) -> Candidates:
    """Images whose hashes are near, within a set or between two.

    Args:
        first: A set.
        second: Another, or None.
        on_table: Told how many tables, of how many, are done.
    """
    sets = first, second
    pool = _entries(first, framings=3)
    asked = _entries(first, framings=2) if second is None else _entries(second, framings=3)
    if len(pool.owner) * len(asked.owner) * len(FLIP_MASKS) <= _EVERY:
        return Candidates(*_unpacked(_merged(_all_compared(pool, asked, sets, on_table))))
    found = np.zeros(0, np.uint64)
    crowded = np.zeros(len(first if second is None else second), bool)
    every = _keyings()
    for number, keying in enumerate(every):
        on_table(number, len(every))
        keys = keying.keys(pool.hashes)
        order = np.argsort(keys)
        table = _Table(keying, keys[order], order, pool)
        parts = [found]
        for flip in range(len(FLIP_MASKS)):
            fresh, many = _matches(table, asked.mirrored(flip), sets)
            parts += fresh
            crowded[many] = True
        found = _merged(parts)
    on_table(len(every), len(every))
    return Candidates(*_unpacked(found), int(crowded.sum()))


@dataclass(frozen=True)
class _Entries:
    """Hashes of images, up to three of each.

    Attributes:
        hashes: (E, 2)
        owner: (E,) the image of each.
        flip: How all of them are mirrored.
    """

    hashes: Array
    owner: Array
    flip: int = 0

    def mirrored(self, flip: int) -> _Entries:
        return _Entries(self.hashes ^ FLIP_MASKS[flip], self.owner, flip)

    def part(self, which: Any) -> _Entries:
        return _Entries(self.hashes[which], self.owner[which], self.flip)


@dataclass(frozen=True)
class _Keying:
    """How keys of a table are made.

    Attributes:
        mask: The bits that images of one bucket agree in.
        turn: How far the hash is turned for the order within a bucket.
    """

    mask: np.uint64
    turn: int

    def keys(self, hashes: Array) -> Array:
        """(E,) uint64: 32 bits that are the same for hashes that agree under the mask, then 32 further bits."""
        low = hashes[:, 0]
        bucket = ((low & self.mask) * _GOLDEN) >> np.uint64(32)
        turned = low if not self.turn else (low << np.uint64(self.turn)) | (low >> np.uint64(64 - self.turn))
        keys: Array = (bucket << np.uint64(32)) | (turned >> np.uint64(32))
        return keys


@dataclass(frozen=True)
class _Table:
    """The entries of a set, sorted by their keys.

    Attributes:
        keying: How keys are made.
        keys: (E,) uint64, sorted.
        order: (E,) which entry each is.
        pool: The entries, in their own order.
    """

    keying: _Keying
    keys: Array
    order: Array
    pool: _Entries


def _entries(images: Images, *, framings: int) -> _Entries:
    """The hashes of images, each once: most contents are the whole frame."""
    numbers = np.arange(len(images), dtype=np.int32)
    other = (images.hashes[:, 1] != images.hashes[:, 0]).any(axis=1)
    hashes, owners = [images.hashes[:, 0], images.hashes[other, 1]], [numbers, numbers[other]]
    if framings > 2:
        hashes.append(images.hashes[:, 2])
        owners.append(numbers)
    return _Entries(np.concatenate(hashes), np.concatenate(owners))


def _keyings() -> list[_Keying]:
    generator = np.random.default_rng(_SEED)
    chosen = [generator.choice(64, _KEY_BITS, replace=False) for _ in range(_TABLES)]
    return [_Keying(np.uint64(sum(1 << int(bit) for bit in bits)), 5 * at % 64) for at, bits in enumerate(chosen)]


def _all_compared(pool: _Entries, asked: _Entries, sets: Sets, on_flip: Callable[[int, int], None]) -> list[Array]:
    """The pairs of all queries with all entries."""
    parts = []
    step = max(1, 4 * _CHUNK // max(len(pool.owner), 1))
    for flip in range(len(FLIP_MASKS)):
        on_flip(flip, len(FLIP_MASKS))
        mirrored = asked.mirrored(flip)
        for start in range(0, len(asked.owner), step):
            queries = mirrored.part(slice(start, start + step))
            query, entry = np.nonzero(distances(queries.hashes[:, None], pool.hashes[None]) <= FARTHEST)
            parts.append(_near(pool.part(entry), queries.part(query), sets))
    return parts


def _matches(table: _Table, asked: _Entries, sets: Sets) -> tuple[list[Array], Array]:
    """The pairs that a table finds for some queries, a chunk at a time; and images that have too many neighbours."""
    keys = table.keying.keys(asked.hashes)
    sorting = np.argsort(keys)
    found, many = [], [np.zeros(0, np.int32)]
    for start in range(0, len(sorting), _CHUNK):
        chosen = sorting[start : start + _CHUNK]
        wanted = keys[chosen]
        bucket = wanted >> np.uint64(32) << np.uint64(32)
        left = np.searchsorted(table.keys, bucket)
        right = np.searchsorted(table.keys, bucket | np.uint64(0xFFFFFFFF), side="right")
        full = right - left > _CROWD
        if full.any():
            many.append(asked.owner[chosen[full]])
            at = np.searchsorted(table.keys, wanted[full])
            left[full] = np.clip(at - _CROWD // 2, left[full], right[full] - _CROWD)
            right[full] = left[full] + _CROWD
        found.append(_compared(table, asked.part(chosen), (left, right - left), sets))
    return found, np.concatenate(many)


def _compared(table: _Table, asked: _Entries, runs: tuple[Array, Array], sets: Sets) -> Array:
    """The pairs of some queries, each with the entries of a run of the table: its begin and its length."""
    left, count = runs
    parts = []
    ends = np.cumsum(count)
    begin = 0
    while begin < len(count):  # as many queries as make a chunk of comparisons
        done = int(ends[begin - 1]) if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + 4 * _CHUNK, side="right")))
        own = count[begin:stop]
        total = int(own.sum())
        if total:
            query = np.repeat(np.arange(begin, stop), own)
            within = np.arange(total) - np.repeat(np.cumsum(own) - own, own)
            entry = table.order[np.repeat(left[begin:stop], own) + within]
            parts.append(_near(table.pool.part(entry), asked.part(query), sets))
        begin = stop
    return _merged(parts)


def _near(there: _Entries, asked: _Entries, sets: Sets) -> Array:
    """Those pairs, of an entry and a query each, that are near and may be copies."""
    keep = _comparable(*sets, there.owner, asked.owner)
    there, asked = there.part(keep), asked.part(keep)
    bits = distances(there.hashes, asked.hashes)
    near = bits <= FARTHEST
    one, other = there.owner[near], asked.owner[near]
    if sets[1] is None:
        one, other = np.minimum(one, other), np.maximum(one, other)
    return _packed(one, other, bits[near], asked.flip)


def _comparable(first: Images, second: Images | None, one: Array, other: Array) -> Array:
    """Whether a pair says anything: an image is no copy of itself, nor of another of its case."""
    if second is not None:
        return np.ones(len(one), bool)
    apart: Array = (one != other) & (first.case[one] != first.case[other])
    return apart


def _packed(one: Array, other: Array, bits: Array, flip: int) -> Array:
    """Pairs as numbers, which sort by images, then by how near they are."""
    pairs = (one.astype(np.uint64) << np.uint64(_IMAGE_BITS)) | other.astype(np.uint64)
    near = (bits.astype(np.uint64) << np.uint64(_FLIP_BITS)) | np.uint64(flip)
    return (pairs << np.uint64(_BITS_BITS + _FLIP_BITS)) | near


def _unpacked(pairs: Array) -> tuple[Array, Array, Array, Array]:
    """Images, flip and bits of pairs."""
    flip = (pairs & np.uint64((1 << _FLIP_BITS) - 1)).astype(np.uint8)
    bits = ((pairs >> np.uint64(_FLIP_BITS)) & np.uint64((1 << _BITS_BITS) - 1)).astype(np.uint8)
    images = pairs >> np.uint64(_BITS_BITS + _FLIP_BITS)
    one = (images >> np.uint64(_IMAGE_BITS)).astype(np.int32)
    other = (images & np.uint64((1 << _IMAGE_BITS) - 1)).astype(np.int32)
    return one, other, flip, bits


def _merged(parts: list[Array]) -> Array:
    """Pairs, each once and as near as it was found; where there are too many, the nearest of each image."""
    pairs = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)
    if not len(pairs):
        return pairs
    images = pairs >> np.uint64(_BITS_BITS + _FLIP_BITS)
    pairs = pairs[np.concatenate([[True], images[1:] != images[:-1]])]
    if len(pairs) > _MOST:
        one, _, _, bits = _unpacked(pairs)
        order = np.lexsort((bits, one))
        starts = np.flatnonzero(np.concatenate([[True], one[1:] != one[:-1]]))
        place = np.arange(len(pairs)) - np.repeat(starts, np.diff(np.append(starts, len(pairs))))
        pairs = np.sort(pairs[order[place < _PARTNERS]])
    return pairs
