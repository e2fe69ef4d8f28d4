"""Image and mask must lie on one grid."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from builder.conversion.orientation import to_lps
from builder.readers.image import Picture, Volume
from builder.sources.recipe import MOST_GRID_TOLERANCE

_DIRECTIONS: Final = {
    "L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1),
}  # fmt: skip
"""Axis code -> direction in LPS."""
_BY_INDEX: Final = 'if their arrays belong to each other as both are stored, x as the columns, set masks.pair = "index"'


def grid_difference(image: Picture | Volume, mask: Picture | Volume, tolerance: float) -> str | None:
    """Compare the grids of an image and a mask.

    The corners of the mask's grid are placed in the image's grid. If none is off by more than a fraction of a voxel,
    then size, spacing, origin and direction agree. A voxel means the same for every scanner, as a millimetre does not.
    Files without geometry are compared by size. Where one of the two has geometry, it is turned and the other is not:
    they would lie mirrored on each other.

    Args:
        image: The image; a volume in LPS axes.
        mask: The mask; a volume in LPS axes.
        tolerance: Largest distance along any axis, in voxels of the image.

    Returns:
        None if the grids agree; else what differs and what to do.
    """
    if isinstance(image, Picture) != isinstance(mask, Picture):
        return f"the image is {_form(image)}, the mask {_form(mask)}; {_advice_on_form(image, mask)}"
    shape, mask_shape = _size(image), _size(mask)
    if shape != mask_shape:
        return (
            f"the image has {_text(shape)} pixels, the mask {_text(mask_shape)}; "
            "check that the patterns pair the right files (masks are never resized)"
        )
    if not (isinstance(image, Volume) and isinstance(mask, Volume)):
        return None
    if image.affine is None or mask.affine is None:
        return None if image.affine is mask.affine else _half_placed(image)
    offset = corner_offset(image.affine, mask.affine, image.shape[::-1])
    if offset <= tolerance:
        return None
    return (
        f"same size, but mask and image lie up to {offset:.3g} voxels apart (origin, spacing or direction differ; "
        f"allowed are {tolerance:g}); {_advice(offset)}"
    )


def _half_placed(image: Volume) -> str:
    known, other = ("mask", "image") if image.affine is None else ("image", "mask")
    return f"same size, but only the {known} says where it lies in space, the {other} does not; {_BY_INDEX}"


def _advice_on_form(image: Picture | Volume, mask: Picture | Volume) -> str:
    if image.identity.modality:
        return (
            "if the image is one slice of a DICOM series, name the folder that holds all of it: files.image ends in /"
        )
    sizes = [one.array.shape[:2] if isinstance(one, Picture) else one.shape[1:] for one in (image, mask)]
    single = all(isinstance(one, Picture) or one.shape[0] == 1 for one in (image, mask))
    return _BY_INDEX if single and sizes[0] == sizes[1] else "they cannot belong together"


def _advice(offset: float) -> str:
    if offset <= MOST_GRID_TOLERANCE:
        return "if the files do belong together, raise masks.grid_tolerance"
    return "that is more than masks.grid_tolerance may allow; check that the patterns pair the right files"


def as_stored_like(mask: Picture | Volume, image: Picture | Volume) -> Picture | Volume:
    """Lay a mask on its image voxel by voxel, as both are stored, wherever its header says it lies.

    A volume of one slice is a picture beside a picture, and the other way round.

    Args:
        mask: (Z, Y, X) or (H, W) in the order of its file.
        image: (Z, Y, X) in LPS axes, or (H, W).

    Returns:
        The mask, turned as the image was, with the affine of the image; as it is where the image is of another form.
    """
    if isinstance(image, Picture):
        single = isinstance(mask, Volume) and len(mask.array) == 1
        return Picture(mask.array[0], None, mask.slope, mask.intercept) if single else mask
    if isinstance(mask, Picture):
        if mask.array.ndim > 2 or len(image.array) > 1:
            return mask
        mask = Volume(mask.array[np.newaxis], None, mask.slope, mask.intercept)
    if image.stored_axes is None:
        return replace(mask, affine=None, stored_axes=None)
    stored = np.eye(4)
    stored[:3, :3] = np.array([_DIRECTIONS[code] for code in image.stored_axes]).T
    return replace(to_lps(replace(mask, affine=stored)), affine=image.affine, stored_axes=image.stored_axes)


def corner_offset(image: npt.NDArray[np.float64], mask: npt.NDArray[np.float64], size: tuple[int, ...]) -> float:
    """Measure how far the corners of two grids of one size lie apart.

    Args:
        image: (4, 4), voxel index (x, y, z) to mm.
        mask: (4, 4), voxel index (x, y, z) to mm.
        size: Number of voxels along x, y, z.

    Returns:
        The largest distance along any axis, in voxels of the image.
    """
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, side - 1) for side in size))], float).T
    return float(np.abs(np.linalg.solve(image, mask @ corners) - corners).max())


def _size(image: Picture | Volume) -> tuple[int, ...]:
    return image.array.shape[:2] if isinstance(image, Picture) else image.shape


def _form(image: Picture | Volume) -> str:
    return f"a picture ({_text(_size(image))})" if isinstance(image, Picture) else f"a volume ({_text(_size(image))})"


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape[::-1])
