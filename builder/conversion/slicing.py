"""LPS volumes become slices: along which axes, by which edge rule, and with the head up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from builder.readers.image import SAME_SIZE

_BLOCK: Final = 32
"""Slices copied at once: one slice along the last axis would touch every cache line of the volume."""


@dataclass(frozen=True)
class Axis:
    """An axis to slice along.

    Attributes:
        name: The release's letter.
        number: Axis of the (Z, Y, X) array.
        plane: Anatomical plane of its slices in an LPS volume.
        rows_reversed: Rows run towards superior in the array and are turned, so that the head is up.
        spacing_axes: Which of the (x, y, z) spacings are those of rows and columns.
        spacing_axis: Which of them is that of the slices.
    """

    name: str
    number: int
    plane: str
    rows_reversed: bool
    spacing_axes: tuple[int, int]
    spacing_axis: int


AXES: Final = {
    "x": Axis("x", 0, "axial", rows_reversed=False, spacing_axes=(1, 0), spacing_axis=2),
    "y": Axis("y", 1, "coronal", rows_reversed=True, spacing_axes=(2, 0), spacing_axis=1),
    "z": Axis("z", 2, "sagittal", rows_reversed=True, spacing_axes=(2, 1), spacing_axis=0),
}


def passes_edge_rule(height: int, width: int) -> bool:
    """Tell whether the shortest edge of a slice is at least half its longest (arXiv 2311.11969).

    >>> passes_edge_rule(100, 200), passes_edge_rule(99, 200)
    (True, False)
    """
    return 2 * min(height, width) >= max(height, width)


def slice_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, int]:
    """Give height and width, in pixels, of the slices of a (Z, Y, X) shape along an axis."""
    height, width = (side for number, side in enumerate(shape) if number != axis.number)
    return height, width


def blocks(
    array: npt.NDArray[Any], axis: Axis, indices: Sequence[int]
) -> Iterator[tuple[Sequence[int], npt.NDArray[Any]]]:
    """Cut a volume into slices as they are shown, a block of slices at a time.

    Args:
        array: (Z, Y, X), or (Z, Y, X, 3) with colours.
        axis: Axis to slice along.
        indices: Slice numbers, ascending.

    Yields:
        The next few of the indices, and their slices: (S, H, W) or (S, H, W, 3), the dtype of the volume. The array may
        be a view; see `contiguous_slices`.
    """
    along = np.moveaxis(array, axis.number, 0)
    if axis.rows_reversed:
        along = along[:, ::-1]
    for start in range(0, len(indices), _BLOCK):
        chosen = indices[start : start + _BLOCK]
        block = along[chosen[0] : chosen[-1] + 1]
        yield chosen, block if block.shape[0] == len(chosen) else block[np.subtract(chosen, chosen[0])]


def contiguous_slices(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy a block whose neighbours in memory lie in different slices, so that each slice is contiguous.

    NumPy takes three times as long to copy such a block.

    Args:
        block: (S, H, W) or (S, H, W, 3), as `blocks` yields it.

    Returns:
        An array of the same values and shape; the block itself where its slices need no copy.
    """
    same_size = SAME_SIZE.get(block.itemsize)
    if not block.size or block.ndim != 3 or abs(block.strides[0]) != block.itemsize or same_size is None:
        return block
    count, height, width = block.shape
    columns: npt.NDArray[Any] = (
        np.ascontiguousarray(block.transpose(1, 2, 0)).view(same_size).reshape(height * width, count)
    )
    return cv2.transpose(columns).view(block.dtype).reshape(count, height, width)
