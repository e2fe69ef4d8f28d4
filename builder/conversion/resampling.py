"""A mask is brought to the grid of its image, where a recipe asks for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

from builder.conversion.grid import corner_offset
from builder.readers.image import Volume, source_values


def may_be_resampled(image: Volume, mask: Volume, tolerance: float) -> bool:
    """Tell whether a mask on another grid can be brought to the image's.

    It cannot where both grids begin at one voxel with one spacing and only their sizes differ: then slices are missing.

    Args:
        image: The image, (Z, Y, X) in LPS axes.
        mask: The mask, (Z, Y, X) in LPS axes.
        tolerance: Largest distance along any axis at which grids agree, in voxels of the image.
    """
    if image.affine is None or mask.affine is None:
        return False
    common = tuple(min(sides) for sides in zip(image.array.shape[::-1], mask.array.shape[::-1], strict=True))
    return corner_offset(image.affine, mask.affine, common) > tolerance or image.array.shape == mask.array.shape


def resample_nearest(mask: Volume, image: Volume) -> Volume:
    """Bring a mask to the grid of an image by nearest neighbour.

    Args:
        mask: (Z, Y, X) with an affine.
        image: (Z, Y, X) with an affine.

    Returns:
        The mask on the grid of the image, 0 outside its own.
    """
    assert image.affine is not None
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    resampler.SetSize([int(side) for side in image.array.shape[::-1]])
    resampler.SetOutputSpacing(spacing.tolist())
    resampler.SetOutputDirection((image.affine[:3, :3] / spacing).ravel().tolist())
    resampler.SetOutputOrigin(image.affine[:3, 3].tolist())
    return replace(image, array=sitk.GetArrayFromImage(resampler.Execute(_itk_image(mask))), slope=1.0, intercept=0.0)


def _itk_image(volume: Volume) -> sitk.Image:
    assert volume.affine is not None
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(source_values(volume)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    return image
