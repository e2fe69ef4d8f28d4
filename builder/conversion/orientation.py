"""Volumes are brought to LPS axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt

from builder.readers.image import SAME_SIZE, Volume, orientation_of


def to_lps(volume: Volume) -> Volume:
    """Flip and permute a volume so that its index axes run towards left, posterior and superior.

    Nothing is resampled: an oblique volume gets the nearest axes, as `nibabel.as_closest_canonical` does for RAS. A
    volume without geometry stays as it is.

    Args:
        volume: (Z, Y, X) or (Z, Y, X, 3), in the order of its file.

    Returns:
        The volume with its affine (4, 4), voxel index (x, y, z) to mm in LPS. Its array is a view, or a copy where rows
        run backwards in memory.
    """
    if volume.affine is None:
        return volume
    stored = orientation_of(volume.affine.tobytes()).astype(int)
    wanted = axcodes2ornt("LPS").astype(int)
    index_from: npt.NDArray[np.float64] = np.zeros((4, 4))
    index_from[3, 3] = 1
    colours = tuple(range(3, volume.array.ndim))
    array = volume.array.transpose(2, 1, 0, *colours)
    order = []
    for axis in range(3):
        source = int(np.flatnonzero(stored[:, 0] == wanted[axis, 0])[0])
        order.append(source)
        flip = stored[source, 1] != wanted[axis, 1]
        index_from[source, axis] = -1 if flip else 1
        if flip:
            index_from[source, 3] = array.shape[source] - 1
            array = np.flip(array, source)
    array = _forwards(array.transpose(*order, *colours).transpose(2, 1, 0, *colours))
    return replace(volume, array=array, affine=volume.affine @ index_from)


def _forwards(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values, copied where they run backwards along the axis that is contiguous in memory.

    NumPy takes five to twenty times as long over such rows, and OpenCV turns them at the speed of memory. As most NIfTI
    files are stored towards right and anterior, most volumes come to this.
    """
    order = np.argsort([-abs(stride) for stride in array.strides], kind="stable")
    stored = array.transpose(order)
    forwards = stored[tuple(slice(None, None, -1 if stride < 0 else 1) for stride in stored.strides)]
    same_size = SAME_SIZE.get(array.itemsize)
    if stored.ndim != 3 or stored.strides[-1] != -array.itemsize or not forwards.flags.c_contiguous or not same_size:
        return array
    turned = np.empty_like(forwards)
    both = stored.strides[1] < 0
    for plane, out in zip(forwards.view(same_size), turned.view(same_size), strict=True):
        cv2.flip(plane, -1 if both else 1, out)
    in_order = turned[::-1] if stored.strides[0] < 0 else turned
    return in_order.transpose(np.argsort(order))
