"""Where masks are, from three looks at a volume instead of one at each slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.conversion.slicing import Axis


@dataclass(frozen=True)
class Shadow:
    """The shadows that a volume throws along its axes.

    Attributes:
        along: Where anything but 0 lies along Z, Y and X: (1, Y, X), (Z, 1, X) and (Z, Y, 1) bool.
    """

    along: tuple[npt.NDArray[np.bool_], ...]

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Shadow:
        """The shadows of a (Z, Y, X) array of unsigned integers."""
        return cls(tuple(np.asarray(array.max(axis=number, keepdims=True) != 0) for number in range(3)))

    def occupied(self, axis: Axis) -> npt.NDArray[np.bool_]:
        """Which slices along an axis hold anything; (slices,) bool."""
        row, column = _within(axis)
        return _any(self.along[row], (row, column))

    def box(self, axis: Axis, indices: Sequence[int]) -> tuple[slice, slice]:
        """Rows and columns of some slices, as they are shown, beyond which all of them are empty."""
        row, column = _within(axis)
        rows = _any(self.along[column].take(indices, axis.number), (axis.number, column))
        columns = _any(self.along[row].take(indices, axis.number), (axis.number, row))
        return _extent(rows[::-1] if axis.rows_reversed else rows), _extent(columns)


def bounding_box(array: npt.NDArray[Any]) -> tuple[slice, slice, slice]:
    """The smallest box of a (Z, Y, X) array that holds all that is not 0; an empty one where there is nothing."""
    planes, column = np.asarray(array.max(axis=(1, 2))), np.asarray(array.max(axis=0))
    return _extent(planes), _extent(_any(column, (1,))), _extent(_any(column, (0,)))


def _any(array: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return np.asarray(array.any(axis=axes))


def _within(axis: Axis) -> tuple[int, int]:
    """The axes of the volume that rows and columns of slices run along."""
    row, column = (number for number in range(3) if number != axis.number)
    return row, column


def _extent(filled: npt.NDArray[Any]) -> slice:
    at = np.flatnonzero(filled)
    return slice(int(at[0]), int(at[-1]) + 1) if at.size else slice(0, 0)
