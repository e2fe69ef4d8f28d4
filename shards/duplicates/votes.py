"""Which volumes may be copies, by the hashes of their slices alone.

Slices that look alike vote for an order and an offset. Then the hashes of all slices that lie beside each other are
compared, which costs no look at any image: of volumes of alike patients few slices are near in their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.duplicates.fingerprint import FRAMINGS
from shards.duplicates.images import Images
from shards.duplicates.search import FARTHEST, Candidates
from shards.duplicates.sign_hash import FLIP_MASKS, FLIPS, distances
from shards.duplicates.volumes import Alignments, Sides, beside, smaller, widest

Array = npt.NDArray[Any]

VOTES: Final = 3
"""Slices that must point at another volume before it is looked at; all of a volume that has fewer. One or two slices of
any two patients look alike."""
_OVERLAP: Final = 0.25
"""Part of the smaller of two volumes that must lie beside the other: a few slices of any two patients look alike at
some offset, mostly the first of the one and the last of the other."""
_SHARE: Final = 0.25
"""Part of the slices that lie beside each other whose hashes must be near: of copies 0.3 (5 % cropped on two sides) to
1 are, of other patients mostly less."""
_AT_ONCE: Final = 1 << 20
"""Pairs of images whose votes are counted at once, more where one volume has more."""
_TRIED: Final = 1 << 12
"""Alignments whose hashes are compared at once."""
_PLACES: Final = 1 << 21
"""More than there are offsets of slices, half of them below zero."""


def alignments(candidates: Candidates, first: Images, second: Images, slices: Sides) -> Alignments:
    """The volumes that may be copies, each two once, and how their slices lie beside each other.

    Args:
        candidates: Pairs of images.
        first: The first set.
        second: The second, or the first again.
        slices: Of both.
    """
    nothing = np.zeros(0, np.int64)
    found = [Alignments(nothing, nothing, nothing.astype(bool), nothing, nothing)]
    for chosen in _of_volumes(candidates, first, second):
        voted = _voted(*_votes(candidates, chosen, first, second), slices)
        parts = (voted.part(slice(start, start + _TRIED)) for start in range(0, len(voted), _TRIED))
        found += [_near(part, first, second, slices) for part in parts]
    return _once(Alignments.joined(found))


def _of_volumes(candidates: Candidates, first: Images, second: Images) -> Iterator[Array]:
    """The pairs of slices of two volumes, those of some volumes at a time: memory does not grow with their number."""
    own, others = first.volume[candidates.one], second.volume[candidates.other]
    own = np.where((others < 0) | ((own == others) & (first is second)), -1, own)
    counts = np.bincount(own[own >= 0], minlength=len(first.volumes))
    chunks = np.cumsum(counts) // _AT_ONCE
    for chunk in np.unique(chunks[counts > 0]).tolist():
        volumes = np.flatnonzero((chunks == chunk) & (counts > 0))
        yield np.flatnonzero((own >= volumes[0]) & (own <= volumes[-1]))


def _votes(candidates: Candidates, chosen: Array, first: Images, second: Images) -> tuple[Array, Array, Array]:
    """What pairs of slices vote for, each pair once.

    Returns:
        (V,) the two volumes, ``first << 32 | second``, rising; (V,) order, flip and offset as one number; (V,) how many
        vote for it.
    """
    pairs = candidates.one[chosen].astype(np.int64) << 32 | candidates.other[chosen]
    chosen = chosen[np.unique(pairs, return_index=True)[1]]  # a pair may be near and exact
    one, other, flip = candidates.one[chosen], candidates.other[chosen], candidates.flip[chosen].astype(np.int64)
    volumes = np.tile(first.volume[one].astype(np.int64) << 32 | second.volume[other], 2)
    here, there = first.position[one].astype(np.int64), second.position[other].astype(np.int64)
    offsets = np.concatenate([there - here, there + here])
    orders = np.concatenate([flip, flip + len(FLIPS)])
    votes = orders * _PLACES + offsets + _PLACES // 2
    order = np.lexsort((votes, volumes))
    volumes, votes = volumes[order], votes[order]
    starts = _starts(volumes, votes)
    return volumes[starts], votes[starts], np.diff(np.append(starts, len(votes)))


def _voted(volumes: Array, votes: Array, counts: Array, slices: Sides) -> Alignments:
    """The alignments that are voted for: of each two volumes the best of each order, and the best order first."""
    next_to = (volumes[1:] == volumes[:-1]) & (votes[1:] == votes[:-1] + 1)
    around = counts.astype(np.float64)  # neighbours look alike, so a true offset also has votes beside it
    around[1:][next_to] += counts[:-1][next_to] / 4
    around[:-1][next_to] += counts[1:][next_to] / 4
    orders, offset = votes // _PLACES, votes % _PLACES - _PLACES // 2
    reverse = orders >= len(FLIPS)
    every = Alignments(volumes >> 32, volumes & 0xFFFFFFFF, reverse, offset, orders % len(FLIPS))
    least = smaller(every, slices)
    kept = np.flatnonzero((counts >= np.minimum(VOTES, least)) & (widest(every, slices) >= _OVERLAP * least))
    order = kept[np.lexsort((-around[kept], reverse[kept], volumes[kept]))]
    order = order[_starts(volumes[order], reverse[order])]
    return every.part(order[np.lexsort((reverse[order], -around[order], volumes[order]))])


def _near(voted: Alignments, first: Images, second: Images, slices: Sides) -> Alignments:
    """Those along which hashes are near, or the ones a slice beside them: votes may lie one off."""
    tried = [replace(voted, offset=voted.offset + by) for by in (0, 1, -1)]
    apart = np.stack([_apart(one, first, second, slices) for one in tried])
    best = Alignments.joined(tried).part(apart.argmin(axis=0) * len(voted) + np.arange(len(voted)))
    return best.part(np.isfinite(apart.min(axis=0)))


def _apart(tried: Alignments, first: Images, second: Images, slices: Sides) -> Array:
    """(A,) in how many bits hashes differ along alignments, the mean; infinite where too few slices are near."""
    pairs = beside(tried, slices)
    bits = np.full(len(pairs.one), 255, np.uint8)
    masks = FLIP_MASKS[tried.flip[pairs.which]]
    for here in range(len(FRAMINGS)):
        hashes = first.hashes[pairs.one, here] ^ masks
        for there in range(len(FRAMINGS)):
            np.minimum(bits, distances(hashes, second.hashes[pairs.other, there]), out=bits)
    count = np.bincount(pairs.which, minlength=len(tried))
    near = np.bincount(pairs.which[bits <= FARTHEST], minlength=len(tried))
    total = np.bincount(pairs.which, bits, minlength=len(tried))
    least = smaller(tried, slices)
    enough = (count >= np.maximum(np.minimum(VOTES, least), _OVERLAP * least)) & (near >= _SHARE * count)
    return np.where(enough, total / np.maximum(count, 1), np.inf)


def _once(found: Alignments) -> Alignments:
    """Of each two volumes the first alignment."""
    return found.part(np.sort(np.unique(found.first << 32 | found.second, return_index=True)[1]))


def _starts(*columns: Array) -> Array:
    """Where rows begin that differ from the one before; equal ones lie side by side."""
    changes = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    found: Array = np.flatnonzero(np.concatenate([[True], changes])[: len(columns[0])])
    return found
