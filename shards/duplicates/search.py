"""Which images may be copies, by their fingerprints alone, in time that grows with the number of images.

Exact copies share a hash, so they lie side by side when hashes are sorted. Near ones share most bits of theirs. Each of
`_TABLES` tables is of `_KEY_BITS` of the lower 64 bits, chosen once and for all (locality sensitive hashing by bit
sampling, Indyk and Motwani, 1998): images that agree in these are compared in full. In sets of up to some ten thousand
images, and for a folder of some hundred beside one of a million, every two hashes are compared instead. Tables are
made one after another, sorted and searched by numpy, so there is never more than a part of one in memory.

Sets of medical images are crowded: thousands of slices agree in any 24 bits. There an image is compared with the
`_CROWD` that lie next to it in the order of further bits, so no bucket costs more than its images; how many images
this concerned is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
"""Queries, and comparisons of hashes, that are made at once."""
_SORTED: Final = 1 << 21
"""Entries of a table that are sorted at once."""
_RANGES: Final = 16
"""Ranges of images by which pairs are kept."""
_WAITING: Final = 1 << 22
"""Pairs that wait to be sorted out."""
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

    def and_also(self, more: Candidates) -> Candidates:
        """These and more; a pair that is among both is there twice."""
        columns = ((getattr(one, name) for one in (self, more)) for name in ("one", "other", "flip", "bits"))
        one, other, flip, bits = (np.concatenate(list(column)) for column in columns)
        return Candidates(one, other, flip, bits)


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
    found = _Pairs(len(first))
    if len(pool.owner) * len(asked.owner) * len(FLIP_MASKS) <= _EVERY:
        for pairs in _all_compared(pool, asked, sets, on_table):
            found.add(pairs)
        return Candidates(*_unpacked(found.all()))
    crowded = np.zeros(len(first if second is None else second), bool)
    every = _keyings()
    parts = max(1, len(pool.owner) // _SORTED)
    for number, keying in enumerate(every):
        on_table(number, len(every))
        tables = list(_tables(keying, pool, parts))
        for flip in range(len(FLIP_MASKS)):
            for table, queries in zip(tables, _tables(keying, asked.mirrored(flip), parts), strict=True):
                for pairs in _matches(table, queries, sets, crowded):
                    found.add(pairs)
        found.settle()
    on_table(len(every), len(every))
    return Candidates(*_unpacked(found.all()), int(crowded.sum()))


@dataclass(frozen=True)
class _Entries:
    """Hashes of images, up to three of each, which are looked up and not copied.

    Attributes:
        images: The images.
        owner: (E,) the image of each.
        framing: (E,) its place in `shards.duplicates.fingerprint.FRAMINGS`.
        flip: How all of them are mirrored.
    """

    images: Images
    owner: Array
    framing: Array
    flip: int = 0

    @property
    def hashes(self) -> Array:
        """(E, 2), all of them."""
        found: Array = self.images.hashes[self.owner, self.framing]
        return found ^ FLIP_MASKS[self.flip] if self.flip else found

    @property
    def low(self) -> Array:
        """(E,), their first words."""
        found: Array = self.images.hashes[self.owner, self.framing, 0]
        found ^= FLIP_MASKS[self.flip, 0]
        return found

    def mirrored(self, flip: int) -> _Entries:
        return replace(self, flip=flip)

    def part(self, which: Any) -> _Entries:
        return replace(self, owner=self.owner[which], framing=self.framing[which])


class _Pairs:
    """Pairs that were found, each once and as near as it was found; of too many the nearest of each image.

    They are kept by ranges of images, so that what sorting costs beside them is small.

    Args:
        count: How many images the first set has.
    """

    def __init__(self, count: int) -> None:
        limits = np.linspace(0, count, _RANGES + 1).astype(np.uint64)[1:-1]
        self._limits = limits << np.uint64(_IMAGE_BITS + _BITS_BITS + _FLIP_BITS)
        self._ranges: list[list[Array]] = [[] for _ in range(_RANGES)]
        self._waiting = 0

    def add(self, pairs: Array) -> None:
        """Take pairs in, see `_packed`."""
        pairs = _merged(pairs)
        ends = [0, *np.searchsorted(pairs, self._limits).tolist(), len(pairs)]
        for kept, start, end in zip(self._ranges, ends, ends[1:], strict=False):
            if end > start:
                kept.append(pairs[start:end].copy())
        self._waiting += len(pairs)
        if self._waiting > _WAITING:
            self.settle()

    def settle(self) -> None:
        """Sort out what was taken in."""
        for kept in self._ranges:
            if len(kept) > 1:
                kept[:] = [_nearest(_merged(np.concatenate(kept)))]
        self._waiting = 0

    def all(self) -> Array:
        """All pairs, rising."""
        self.settle()
        parts = [pairs for kept in self._ranges for pairs in kept]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


@dataclass(frozen=True)
class _Keying:
    """How keys of a table are made.

    Attributes:
        mask: The bits that images of one bucket agree in.
        turn: How far the hash is turned for the order within a bucket.
    """

    mask: np.uint64
    turn: int

    def keys(self, low: Array) -> Array:
        """(E,) uint64: 32 bits that are the same for hashes that agree under the mask, then 32 further bits.

        Args:
            low: (E,) first words of hashes.
        """
        bucket = ((low & self.mask) * _GOLDEN) >> np.uint64(32)
        turned = low if not self.turn else (low << np.uint64(self.turn)) | (low >> np.uint64(64 - self.turn))
        keys: Array = (bucket << np.uint64(32)) | (turned >> np.uint64(32))
        return keys


@dataclass(frozen=True)
class _Table:
    """Some entries of a set, sorted by their keys.

    Attributes:
        keys: (E,) uint64, sorted.
        pool: (E,) the entries in this order.
    """

    keys: Array
    pool: _Entries


def _entries(images: Images, *, framings: int) -> _Entries:
    """The hashes of images, each once: most contents are the whole frame."""
    numbers = np.arange(len(images), dtype=np.int32)
    content = numbers[(images.hashes[:, 1] != images.hashes[:, 0]).any(axis=1)]
    owners = [numbers, content, numbers][:framings]
    framing = np.repeat(np.arange(framings, dtype=np.uint8), [len(one) for one in owners])
    return _Entries(images, np.concatenate(owners), framing)


def _tables(keying: _Keying, entries: _Entries, parts: int) -> Iterator[_Table]:
    """Entries sorted by their keys, as many tables one after another; those of one bucket are in one table."""
    keys = keying.keys(entries.low)
    for part in range(parts):  # by the upper 16 bits of a bucket, which are spread evenly
        low, high = (np.uint64((edge << 16) // parts << 48) for edge in (part, part + 1 if part + 1 < parts else part))
        chosen = np.flatnonzero((keys >= low) & (keys < high) if high > low else keys >= low).astype(np.int32)
        chosen = chosen[np.argsort(keys[chosen])]
        yield _Table(keys[chosen], entries.part(chosen))


def _keyings() -> list[_Keying]:
    generator = np.random.default_rng(_SEED)
    chosen = [generator.choice(64, _KEY_BITS, replace=False) for _ in range(_TABLES)]
    return [_Keying(np.uint64(sum(1 << int(bit) for bit in bits)), 5 * at % 64) for at, bits in enumerate(chosen)]


def _all_compared(pool: _Entries, asked: _Entries, sets: Sets, on_flip: Callable[[int, int], None]) -> Iterator[Array]:
    """The pairs of all queries with all entries."""
    step = max(1, 4 * _CHUNK // max(len(pool.owner), 1))
    hashes = pool.hashes
    for flip in range(len(FLIP_MASKS)):
        on_flip(flip, len(FLIP_MASKS))
        mirrored = asked.mirrored(flip)
        for start in range(0, len(asked.owner), step):
            queries = mirrored.part(slice(start, start + step))
            query, entry = np.nonzero(distances(queries.hashes[:, None], hashes[None]) <= FARTHEST)
            yield _near(pool.part(entry), queries.part(query), sets)


def _matches(table: _Table, asked: _Table, sets: Sets, crowded: Array) -> Iterator[Array]:
    """The pairs that a table finds for some queries, a chunk at a time.

    Args:
        table: Entries.
        asked: Queries.
        sets: Whose they are.
        crowded: (N,) whether an image has too many neighbours; set where one has.
    """
    for start in range(0, len(asked.keys), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        wanted, queries = asked.keys[chosen], asked.pool.part(chosen)
        bucket = wanted >> np.uint64(32) << np.uint64(32)
        left = np.searchsorted(table.keys, bucket)
        right = np.searchsorted(table.keys, bucket | np.uint64(0xFFFFFFFF), side="right")
        full = right - left > _CROWD
        if full.any():
            crowded[queries.owner[full]] = True
            at = np.searchsorted(table.keys, wanted[full])
            left[full] = np.clip(at - _CROWD // 2, left[full], right[full] - _CROWD)
            right[full] = left[full] + _CROWD
        yield from _compared(table, queries, (left, right - left), sets)


def _compared(table: _Table, asked: _Entries, runs: tuple[Array, Array], sets: Sets) -> Iterator[Array]:
    """The pairs of some queries, each with the entries of a run of the table: its begin and its length."""
    left, count = runs
    ends = np.cumsum(count)
    begin = 0
    while begin < len(count):  # as many queries as make a chunk of comparisons
        done = int(ends[begin - 1]) if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        own = count[begin:stop]
        total = int(own.sum())
        if total:
            query = np.repeat(np.arange(begin, stop), own)
            within = np.arange(total) - np.repeat(np.cumsum(own) - own, own)
            entry = np.repeat(left[begin:stop], own) + within
            yield _near(table.pool.part(entry), asked.part(query), sets)
        begin = stop


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


def _merged(pairs: Array) -> Array:
    """Pairs, sorted, each once and as near as it was found."""
    pairs = np.sort(pairs)
    images = pairs >> np.uint64(_BITS_BITS + _FLIP_BITS)
    once: Array = pairs[np.concatenate([[True], images[1:] != images[:-1]])[: len(pairs)]]
    return once


def _nearest(pairs: Array) -> Array:
    """The same, where there are too many the nearest of each image."""
    if len(pairs) > _MOST // _RANGES:
        one, _, _, bits = _unpacked(pairs)
        order = np.lexsort((bits, one))
        starts = np.flatnonzero(np.concatenate([[True], one[1:] != one[:-1]]))
        place = np.arange(len(pairs)) - np.repeat(starts, np.diff(np.append(starts, len(pairs))))
        pairs = np.sort(pairs[order[place < _PARTNERS]])
    return pairs
