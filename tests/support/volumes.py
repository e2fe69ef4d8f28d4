"""Small volumes with structure in every direction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def ct_like(seed: int = 0, shape: tuple[int, int, int] = (24, 40, 36)) -> npt.NDArray[np.int16]:
    """A smooth volume in HU-like numbers, unlike in every direction; (Z, Y, X)."""
    rng = np.random.default_rng(seed)
    z, y, x = (np.linspace(0, 1, side) for side in shape)
    ramp = 900 * z[:, None, None] + 500 * y[None, :, None] ** 2 + 300 * x[None, None, :] ** 3
    return (ramp + rng.integers(0, 60, shape) - 1000).astype(np.int16)


def organ_map(shape: tuple[int, int, int] = (24, 40, 36)) -> npt.NDArray[np.uint8]:
    """Two boxes that are nowhere symmetric: label 1 and label 2; (Z, Y, X)."""
    labels = np.zeros(shape, np.uint8)
    z, y, x = shape
    labels[z // 6 : z // 2, y // 8 : y // 2, x // 9 : x // 2] = 1
    labels[z // 2 : z - 3, y // 2 : y - 4, x // 2 : x - 2] = 2
    return labels
