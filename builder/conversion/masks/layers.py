"""One layer of a mask file that holds several: of a class, or of a rater."""

from __future__ import annotations

from dataclasses import replace

from builder.cases.case import MaskFile
from builder.errors import CaseError
from builder.readers.image import Image, Picture, PictureSeries, Volume, VolumeSeries
from builder.sources.recipe import Recipe


def layer_of(image: Image, file: MaskFile, recipe: Recipe) -> Image:
    """The layer that is meant.

    Planes of a stack without geometry are pictures, and what a file has more sides than its image is its layers. A
    picture, and a volume in space, is a file of one layer.

    Args:
        image: All of the file, or of a frame of it.
        file: Where it was read, and the number of the layer.
        recipe: Says how many layers there are, and which side of an array counts them.

    Raises:
        CaseError: Stage ``read``: the file holds another number of layers.
    """
    assert file.layer is not None
    last = recipe.masks.layer_axis == "last"
    single = _is_single(image, last=last)
    count = 1 if single else image.array.shape[-1 if last else 0]
    named = len(recipe.layers)
    if count > named or file.layer >= count or (recipe.masks.layers and count != named):
        key = "masks.layers" if recipe.masks.layers else "raters.names"
        raise CaseError("read", file.path, f"the mask has {count} layers, {key} names {named}")
    if single:
        return image
    if not last:
        if isinstance(image, VolumeSeries):
            return image.volume(file.layer)
        return Picture(image.array[file.layer], None, image.slope, image.intercept)
    array = image.array[..., file.layer]
    if array.ndim == 2:
        return Picture(array, None, image.slope, image.intercept)
    if isinstance(image, VolumeSeries):
        return Volume(array, None, image.slope, image.intercept)
    return replace(image, array=array)


def _is_single(image: Image, *, last: bool) -> bool:
    if isinstance(image, VolumeSeries | PictureSeries):
        return False
    if last:
        return image.array.ndim == 2 or (
            isinstance(image, Volume) and image.affine is not None and image.array.ndim == 3
        )
    return isinstance(image, Picture) or image.affine is not None
