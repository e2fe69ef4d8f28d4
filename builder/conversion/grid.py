"""Image and mask must lie on one grid."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from builder.readers.image import Picture, Volume


def grid_difference(image: Picture | Volume, mask: Picture | Volume, tolerance: float) -> str | None:
    """Compare the grids of an image and a mask.

    The corners of the mask's grid are placed in the image's grid. If none is off by more than a fraction of a voxel,
    then size, spacing, origin and direction agree. A voxel means the same for every scanner, as a millimetre does not.
    Files without geometry are compared by size.

    Args:
        image: The image; a volume in LPS axes.
        mask: The mask; a volume in LPS axes.
        tolerance: Largest distance along any axis, in voxels of the image.

    Returns:
        None if the grids agree; else what differs and what to do.
    """
    if isinstance(image, Picture) != isinstance(mask, Picture):
        series = "; if it is one slice of a DICOM series, name the folder that holds all of it: files.image ends in /"
        advice = series if isinstance(image, Picture) else ""
        return f"the image is {_form(image)}, the mask {_form(mask)}; they cannot belong together{advice}"
    shape, mask_shape = _size(image), _size(mask)
    if shape != mask_shape:
        return (
            f"the image has {_text(shape)} pixels, the mask {_text(mask_shape)}; "
            "check that the patterns pair the right files (masks are never resized)"
        )
    if not (isinstance(image, Volume) and isinstance(mask, Volume)) or image.affine is None or mask.affine is None:
        return None
    offset = corner_offset(image.affine, mask.affine, image.shape[::-1])
    if offset <= tolerance:
        return None
    return (
        f"same size, but mask and image lie up to {offset:.3g} voxels apart (origin, spacing or direction differ; "
        f"allowed are {tolerance:g}); if the files do belong together, raise masks.grid_tolerance"
    )


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
