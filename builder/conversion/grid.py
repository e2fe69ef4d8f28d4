"""Whether image and mask lie on one grid."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from builder.readers.image import Picture, Volume


def grid_difference(image: Picture | Volume, mask: Picture | Volume, tolerance: float) -> str | None:
    """Compare the grids of an image and a mask; volumes must be in LPS axes.

    Where the corners of the mask's grid fall in the image's grid says everything at once, and in a unit that means
    the same for every scanner: size, spacing, origin and direction are the same if no corner is off by more than a
    fraction of a voxel. Files without geometry are compared by size.

    Args:
        image: The image.
        mask: The mask.
        tolerance: Largest distance along any axis, in voxels of the image.

    Returns:
        None if the grids agree, else what differs and what to do.
    """
    if isinstance(image, Picture) != isinstance(mask, Picture):
        return f"the image is {_form(image)}, the mask {_form(mask)}; they cannot belong together"
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
    """Largest distance, along any axis and in voxels of the image, between corners of two grids of one size.

    Args:
        image: (4, 4), voxel index to mm.
        mask: (4, 4), voxel index to mm.
        size: Voxels along x, y, z.
    """
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, side - 1) for side in size))], float).T
    return float(np.abs(np.linalg.solve(image, mask @ corners) - corners).max())


def _size(image: Picture | Volume) -> tuple[int, ...]:
    return image.array.shape[:2] if isinstance(image, Picture) else image.shape


def _form(image: Picture | Volume) -> str:
    return f"a picture ({_text(_size(image))})" if isinstance(image, Picture) else f"a volume ({_text(_size(image))})"


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape[::-1])
