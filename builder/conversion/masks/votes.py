"""The masks of several raters become one: what most of them say, or any of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.cases.case import MaskFile
from builder.conversion.masks.class_layers import ClassLayer, JoinedLayers


def by_rater(masks: Sequence[MaskFile]) -> list[list[MaskFile]]:
    """The masks of each rater, in the order of their names; those without a rater belong to all of them."""
    raters = sorted({mask.rater for mask in masks if mask.rater is not None})
    return [[mask for mask in masks if mask.rater in (None, rater)] for rater in raters]


def voted(
    drawn: Sequence[Sequence[ClassLayer]], shape: tuple[int, int, int], dtype: type[np.uint8 | np.uint16], *, most: bool
) -> list[ClassLayer]:
    """Join the masks of raters class by class.

    Args:
        drawn: The class layers of each rater.
        shape: (Z, Y, X) of the image.
        dtype: Of class maps.
        most: A voxel is of a class where more than half of the raters say so, so a tie is background; else where one
            of them says so.

    Returns:
        The class layers, at least one. With ``most`` classes that a rater's masks tell apart cannot overlap; else they
        may, where raters differ.
    """
    votes: defaultdict[int, npt.NDArray[np.uint16]] = defaultdict(lambda: np.zeros(shape, np.uint16))
    for layers in drawn:
        for layer in layers:
            for number in _numbers(layer.array):
                votes[number] += layer.array == number
    joined = JoinedLayers(shape, dtype)
    for number in sorted(votes):
        joined.add(2 * votes[number] > len(drawn) if most else votes[number] > 0, number)
    return joined.finished(())


def _numbers(array: npt.NDArray[Any]) -> list[int]:
    """The classes of a layer, without background."""
    return [number for number in np.unique(array).tolist() if number]
