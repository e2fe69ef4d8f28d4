"""Volumes that are like nobody else's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SIDE = 64


def texture(seed: int, slices: int = 8, side: int = SIDE) -> npt.NDArray[np.int16]:
    """Blobs of all sizes, others in each slice: (Z, Y, X)."""
    random = np.random.default_rng(seed)
    volume = np.zeros((slices, side, side))
    for size in (4, 8, 16, 32):
        coarse: npt.NDArray[Any] = random.normal(size=(slices, size, size))
        volume += np.kron(coarse, np.ones((1, side // size, side // size))) * size**-0.5
    return np.asarray(1000 * volume, np.int16)
