"""A perceptual hash of 128 bits: the signs of low frequencies of an image of ranks.

As in pHash (https://www.phash.org) it is of the discrete cosine transform of a thumbnail; but of ranks, so that windows
and scaling change little, and of signs, so that a mirrored image needs no second transform: mirroring changes the sign
of the odd frequencies of an axis, so the hash of the mirrored image is the hash with these bits the other way round.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.duplicates.ranks import resized

SIDE: Final = 32
"""Pixels of a side of the thumbnail, as in pHash."""
BITS: Final = 128
WORDS: Final = BITS // 64
FLIPS: Final = ("none", "horizontal", "vertical", "both")
"""How one of two copies may be mirrored: left and right, top and bottom."""
_ZERO: Final = 1e-4
"""Of a coefficient: rounding stays below 1e-6, and a symmetrical image has odd coefficients of 0."""


def _frequencies() -> npt.NDArray[np.int64]:
    """The lowest frequencies (vertical, horizontal), the constant one left out, from low to high."""
    every = [(v, u) for v in range(SIDE) for u in range(SIDE) if v or u]
    return np.array(sorted(every, key=lambda one: (one[0] ** 2 + one[1] ** 2, one))[:BITS])


FREQUENCIES: Final = _frequencies()
_HIGHEST: Final = int(FREQUENCIES.max()) + 1


def _basis() -> npt.NDArray[np.float32]:
    """(frequencies, pixels) of the orthonormal DCT-II."""
    steps = np.arange(SIDE) + 0.5
    waves = np.cos(np.pi / SIDE * np.arange(_HIGHEST)[:, None] * steps) * np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves, np.float32)


_BASIS: Final = _basis()


def _packed(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    return np.packbits(bits, bitorder="little").view(np.uint64)


FLIP_MASKS: Final[npt.NDArray[np.uint64]] = np.stack(
    [
        _packed(((FREQUENCIES[:, 1] % 2 * horizontal + FREQUENCIES[:, 0] % 2 * vertical) % 2).astype(bool))
        for vertical in (0, 1)
        for horizontal in (0, 1)
    ]
)
"""(4, 2): the bits that change when an image is mirrored, in the order of `FLIPS`."""


def sign_hash(ranks: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Hash an image.

    Args:
        ranks: (H, W), see `shards.duplicates.ranks`.

    Returns:
        (2,)
    """
    spectrum = _BASIS @ resized(ranks, SIDE) @ _BASIS.T
    return _packed(spectrum[FREQUENCIES[:, 0], FREQUENCIES[:, 1]] > _ZERO)


def distances(one: npt.NDArray[np.uint64], other: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """How many bits differ.

    Args:
        one: (..., 2)
        other: The same, or of a shape that broadcasts.

    Returns:
        (...) uint8
    """
    differ = np.bitwise_count(one ^ other)
    total: npt.NDArray[Any] = differ[..., 0] + differ[..., 1]
    return total
