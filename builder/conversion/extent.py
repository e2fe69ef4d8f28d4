"""Where masks lie: the slices that they reach and their bounding boxes, from three projections of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.conversion.slicing import Axis


@dataclass(frozen=True)
class Extent:
    """Where a volume holds anything but 0.

    Attributes:
        projections: Whether anything lies along Z, Y and X: (1, Y, X), (Z, 1, X) and (Z, Y, 1) bool.
    """

    projections: tuple[npt.NDArray[np.bool_], ...]

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Extent:
        """Project a (Z, Y, X) array of unsigned integers along each of its axes."""
        return cls(tuple(np.asarray(array.max(axis=number, keepdims=True) != 0) for number in range(3)))

    def occupied(self, axis: Axis) -> npt.NDArray[np.bool_]:
        """Find the slices along an axis that hold anything.

        Returns:
            (slices,) bool.
        """
        row, column = _within(axis)
        return _any(self.projections[row], (row, column))

    def bounding_box(self, axis: Axis, indices: Sequence[int]) -> tuple[slice, slice]:
        """Find the smallest rectangle that holds all that some slices hold.

        Args:
            axis: Axis to slice along.
            indices: Slice numbers.

        Returns:
            Rows and columns of the slices as they are shown; empty ones where the slices hold nothing.
        """
        row, column = _within(axis)
        rows = _any(self.projections[column].take(indices, axis.number), (axis.number, column))
        columns = _any(self.projections[row].take(indices, axis.number), (axis.number, row))
        return _span(rows[::-1] if axis.rows_reversed else rows), _span(columns)


def bounding_box(array: npt.NDArray[Any]) -> tuple[slice, slice, slice]:
    """Find the smallest box of a (Z, Y, X) array that holds all that is not 0; an empty one where there is nothing."""
    planes, column = np.asarray(array.max(axis=(1, 2))), np.asarray(array.max(axis=0))
    return _span(planes), _span(_any(column, (1,))), _span(_any(column, (0,)))


def _any(array: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return np.asarray(array.any(axis=axes))


def _within(axis: Axis) -> tuple[int, int]:
    """The axes of the volume that rows and columns of slices run along."""
    row, column = (number for number in range(3) if number != axis.number)
    return row, column


def _span(filled: npt.NDArray[Any]) -> slice:
    at = np.flatnonzero(filled)
    return slice(int(at[0]), int(at[-1]) + 1) if at.size else slice(0, 0)
