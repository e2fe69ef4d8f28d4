"""Which images may be copies, by their fingerprints alone, in time that grows with the number of images.

Exact copies share a hash, so they lie side by side when hashes are sorted. Near ones share most bits of theirs. Each of
`_TABLES` tables is of `_KEY_BITS` of the lower 64 bits, chosen once and for all (locality sensitive hashing by bit
sampling, Indyk and Motwani, 1998): images that agree in these are compared in full. Tables are made one after another,
sorted and searched by numpy, so there is never more than one in memory.

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

FARTHEST: Final = 28
"""Bits of 128 in which copies may differ. Of windows that clip 60 % of all pixels 95 % differ in 25 or fewer; of slices
of different patients one in a thousand pairs is as near (see docs/duplicates.md)."""
_TABLES: Final = 12
_KEY_BITS: Final = 24
_SEED: Final = 20
_CROWD: Final = 32
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
    pool, owner = _entries(first, framings=3)
    asked, asker = _entries(first, framings=2) if second is None else _entries(second, framings=3)
    found = np.zeros(0, np.uint64)
    crowded = np.zeros(len(first if second is None else second), bool)
    masks = _masks()
    for number, (mask, spread) in enumerate(masks):
        on_table(number, len(masks))
        keys = _keys(pool, mask, spread)
        order = np.argsort(keys)
        table = _Table(keys[order], order, pool, owner)
        parts = [found]
        for flip, flipped in enumerate(FLIP_MASKS):
            parts += _matches(table, asked ^ flipped, asker, (mask, spread), flip, (first, second), crowded)
        found = _merged(parts)
    on_table(len(masks), len(masks))
    return Candidates(*_unpacked(found), int(crowded.sum()))


@dataclass(frozen=True)
class _Table:
    """The entries of a set, sorted by their keys.

    Attributes:
        keys: (E,) uint64, sorted: above the spread bits of the mask, below further bits of the hash.
        order: (E,) which entry each is.
        pool: (E, 2) hashes of the entries, in their own order.
        owner: (E,) which image each entry is of.
    """

    keys: Array
    order: Array
    pool: Array
    owner: Array


def _entries(images: Images, *, framings: int) -> tuple[Array, Array]:
    """The hashes of images, each once: most contents are the whole frame."""
    numbers = np.arange(len(images), dtype=np.int32)
    hashes, owners = [images.hashes[:, 0]], [numbers]
    if framings > 1:
        other = (images.hashes[:, 1] != images.hashes[:, 0]).any(axis=1)
        hashes.append(images.hashes[other, 1])
        owners.append(numbers[other])
    if framings > 2:
        hashes.append(images.hashes[:, 2])
        owners.append(numbers)
    return np.concatenate(hashes), np.concatenate(owners)


def _masks() -> list[tuple[np.uint64, int]]:
    """The bits of each table, and how far the hash is turned for the order within a bucket."""
    generator = np.random.default_rng(_SEED)
    chosen = [generator.choice(64, _KEY_BITS, replace=False) for _ in range(_TABLES)]
    return [
        (np.uint64(sum(1 << int(bit) for bit in bits)), 5 * number % 64) for number, bits in enumerate(chosen)
    ]


def _keys(hashes: Array, mask: np.uint64, spread: int) -> Array:
    """(E,) uint64: 32 bits that are the same for hashes that agree under the mask, then 32 further bits."""
    bucket = ((hashes[:, 0] & mask) * _GOLDEN) >> np.uint64(32)
    low = hashes[:, 0]
    turned = low if not spread else (low << np.uint64(spread)) | (low >> np.uint64(64 - spread))
    return (bucket << np.uint64(32)) | (turned >> np.uint64(32))


def _matches(
    table: _Table,
    asked: Array,
    asker: Array,
    how: tuple[np.uint64, int],
    flip: int,
    sets: tuple[Images, Images | None],
    crowded: Array,
) -> list[Array]:
    """The pairs that a table finds for some queries, a chunk at a time."""
    keys = _keys(asked, *how)
    sorting = np.argsort(keys)
    found = []
    for start in range(0, len(sorting), _CHUNK):
        chosen = sorting[start : start + _CHUNK]
        wanted = keys[chosen]
        bucket = wanted >> np.uint64(32)
        left = np.searchsorted(table.keys, bucket << np.uint64(32))
        right = np.searchsorted(table.keys, (bucket << np.uint64(32)) | np.uint64(0xFFFFFFFF), side="right")
        full = right - left > _CROWD
        if full.any():
            crowded[asker[chosen[full]]] = True
            at = np.searchsorted(table.keys, wanted[full])
            left[full] = np.clip(at - _CROWD // 2, left[full], right[full] - _CROWD)
            right[full] = left[full] + _CROWD
        found.append(_compared(table, asked, asker, chosen, left, right - left, flip, sets))
    return found


def _compared(
    table: _Table, asked: Array, asker: Array, chosen: Array, left: Array, count: Array, flip: int, sets: Any
) -> Array:
    """The pairs of some queries, each with the entries of a run of the table."""
    parts = []
    ends = np.cumsum(count)
    begin = 0
    while begin < len(chosen):  # as many queries as make a chunk of comparisons
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + 4 * _CHUNK, side="right")))
        own = count[begin:stop]
        total = int(own.sum())
        if total:
            query = np.repeat(chosen[begin:stop], own)
            within = np.arange(total) - np.repeat(np.cumsum(own) - own, own)
            entry = table.order[np.repeat(left[begin:stop], own) + within]
            one, other = table.owner[entry], asker[query]
            keep = _comparable(*sets, one, other)
            query, entry, one, other = query[keep], entry[keep], one[keep], other[keep]
            bits = distances(table.pool[entry], asked[query])
            near = bits <= FARTHEST
            one, other = one[near], other[near]
            if sets[1] is None:
                one, other = np.minimum(one, other), np.maximum(one, other)
            parts.append(_packed(one, other, bits[near], flip))
        begin = stop
    return _merged(parts)


def _comparable(first: Images, second: Images | None, one: Array, other: Array) -> Array:
    """Whether a pair says anything: an image is no copy of itself, nor of another of its case."""
    if second is not None:
        return np.ones(len(one), bool)
    return (one != other) & (first.case[one] != first.case[other])


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
