"""Where a volume lies in space, as its metadata say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from builder.readers.image import Picture, Volume

_ORIGIN_DIGITS: Final = 4
_DIRECTION_DIGITS: Final = 6
"""Decimals that are kept: formats store the same numbers as text, float32 or float64."""


@dataclass(frozen=True)
class Geometry:
    """Where a volume lies in space.

    Attributes:
        origin: x, y, z of the centre of its first voxel in LPS mm, to 0.0001 mm; None where it has no geometry.
        direction: Directions of its x, y and z axis as the columns of a 3 x 3 matrix, row by row, to 0.000001; None
            where it has no geometry. As `SimpleITK.Image.GetDirection` gives it.
    """

    origin: tuple[float, float, float] | None = None
    direction: tuple[float, float, float, float, float, float, float, float, float] | None = None


def geometry_of(image: Picture | Volume) -> Geometry:
    """Say where an image lies, a volume in the axes that it has: LPS once it is oriented."""
    if isinstance(image, Picture) or image.affine is None:
        return Geometry()
    axes = image.affine[:3, :3]
    x, y, z = np.round(image.affine[:3, 3], _ORIGIN_DIGITS).tolist()
    a, b, c, d, e, f, g, h, i = np.round(axes / np.linalg.norm(axes, axis=0), _DIRECTION_DIGITS).ravel().tolist()
    # 0 is added so that there is no -0
    return Geometry((x + 0, y + 0, z + 0), (a + 0, b + 0, c + 0, d + 0, e + 0, f + 0, g + 0, h + 0, i + 0))
