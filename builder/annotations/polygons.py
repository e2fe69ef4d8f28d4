"""Outlines to masks, as COCO's own tools draw them, so that COCO and YOLO users get the masks they know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pycocotools.mask

from builder.errors import UnreadableError

_FARTHEST: Final = 1e6
"""A coordinate in pixels from here on is a damaged number."""


def checked_polygon(numbers: object, what: str) -> list[float]:
    """A flat list x, y, x, y ... of at least three points.

    Raises:
        UnreadableError: It is none; the message begins with ``what``.
    """
    if not isinstance(numbers, Sequence) or isinstance(numbers, str):
        raise UnreadableError(f"{what}: expected a polygon (a list of numbers)")
    if len(numbers) < 6 or len(numbers) % 2:
        raise UnreadableError(f"{what}: expected a polygon of at least 3 points, got {len(numbers)} numbers")
    if not all(isinstance(number, int | float) and abs(number) < _FARTHEST for number in numbers):
        raise UnreadableError(f"{what}: a coordinate is no number, or absurd")
    return [float(number) for number in numbers]


def draw_polygons(polygons: Sequence[Sequence[float]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The union of polygons.

    Args:
        polygons: x, y, x, y ... in pixels, checked; what lies outside is cut off.
        shape: Height and width.

    Returns:
        (1, H, W) bool.
    """
    if not polygons:
        return np.zeros((1, *shape), np.bool_)
    encoded = pycocotools.mask.frPyObjects([list(polygon) for polygon in polygons], *shape)
    mask: npt.NDArray[np.bool_] = pycocotools.mask.decode(pycocotools.mask.merge(encoded)).astype(np.bool_)
    return mask[np.newaxis]
