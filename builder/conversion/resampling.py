"""A mask is brought to the grid of its image, where a recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

from builder.conversion.grid import corner_offset
from builder.readers.image import Volume, source_values

_MOST_LOST: Final = 0.05
"""Share of the volume of a class or object."""


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


def resample_nearest(mask: Volume, image: Volume, outside: int = 0) -> Volume:
    """Bring a mask to the grid of an image by nearest neighbour.

    Args:
        mask: (Z, Y, X) with an affine.
        image: (Z, Y, X) with an affine.
        outside: Source value of background, which 0 is not in a mask that is drawn the wrong way round.

    Returns:
        The mask on the grid of the image, background outside its own.
    """
    assert image.affine is not None
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(outside)
    resampler.SetSize([int(side) for side in image.array.shape[::-1]])
    resampler.SetOutputSpacing(spacing.tolist())
    resampler.SetOutputDirection((image.affine[:3, :3] / spacing).ravel().tolist())
    resampler.SetOutputOrigin(image.affine[:3, 3].tolist())
    return replace(image, array=sitk.GetArrayFromImage(resampler.Execute(_itk_image(mask))), slope=1.0, intercept=0.0)


def resampling_loss(
    before: Volume, after: Volume, parts: Callable[[npt.NDArray[Any]], Mapping[str, int]]
) -> str | None:
    """Tell which class or object of a mask lost more than a twentieth of its volume on another grid.

    Args:
        before: The mask, with an affine.
        after: The mask resampled.
        parts: Counts the voxels of each class or object of source values.

    Returns:
        What lost the most, in mm^3; None where none lost more than that.
    """
    assert before.affine is not None
    assert after.affine is not None
    voxels = [abs(float(np.linalg.det(affine[:3, :3]))) for affine in (before.affine, after.affine)]
    kept = parts(source_values(after))
    volumes = {
        name: (count * voxels[0], kept.get(name, 0) * voxels[1])
        for name, count in parts(source_values(before)).items()
        if count
    }
    lost = {name: left / whole for name, (whole, left) in volumes.items() if left < (1 - _MOST_LOST) * whole}
    if not lost:
        return None
    name = min(lost, key=lost.__getitem__)
    whole, left = volumes[name]
    others = f", and {len(lost) - 1} more lose as much or less" if len(lost) > 1 else ""
    return (
        f"on the grid of the image {name} keeps {left:,.4g} of {whole:,.4g} mm^3{others}; a mask may lose "
        f"{_MOST_LOST:.0%}: it reaches beyond the image, or is finer than the image's voxels"
    )


def _itk_image(volume: Volume) -> sitk.Image:
    assert volume.affine is not None
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(source_values(volume)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    return image
