"""From a case to its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.components import find_components
from builder.discovery import Case, ImageFile
from builder.grid import grid_difference
from builder.intensity import IntensityError, Scaled, scaling_of
from builder.label_maps import ClassLayer, class_layers
from builder.packing import Plane, TooManyMasksError, pack
from builder.problem import CaseError
from builder.readers import read_again, read_header, read_image
from builder.recipe import Recipe
from builder.slicing import AXES, Axis, blocks, occupied, passes_edge_rule, slice_shape
from builder.source_classes import SourceClasses
from builder.volume import Picture, Volume, VolumeSeries, to_lps, voxel_spacing
from sa_med2d_20m import SCHEMA, Mask, Metadata
from shards.key import SampleKey
from shards.png import encode_image, encode_label_map
from shards.writer import EncodedSample


@dataclass(frozen=True)
class Source:
    """What the conversion of a case needs to know about its source.

    Attributes:
        root: Folder of the source.
        recipe: Its recipe.
        classes: Its classes.
    """

    root: Path
    recipe: Recipe
    classes: SourceClasses


@dataclass(frozen=True)
class Converted:
    """The samples of a case.

    Attributes:
        samples: Ordered by sub-modality, axis and slice.
        dropped: Rule -> how many: ``edge`` and ``constant`` and ``no_mask`` count slices, ``small_mask`` masks.
    """

    samples: list[EncodedSample]
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _MaskSlice:
    """The masks of one slice, ready for every image of the case."""

    label_map: bytes
    masks: tuple[Mask, ...]


_Place = tuple[str, int | None]
"""Axis name and slice number; ``("2d", None)`` for a picture."""


def convert(case: Case, source: Source) -> Converted:
    """Convert a case.

    One image and the class layers of its masks are in memory at once, and the encoded samples of the case.

    Raises:
        CaseError: The case cannot be built.
    """
    first = _read(case, case.images[0], source)
    dropped: Counter[str] = Counter()
    layers = _read_masks(case, source, first)
    try:
        slices_of_masks = dict(_mask_slices(first, layers, source, dropped))
    except TooManyMasksError as error:
        raise CaseError("convert", case.masks[0].path, str(error)) from None
    del layers
    samples: list[EncodedSample] = []
    for number, file in enumerate(case.images):
        image = first if number == 0 else _further_image(case, file, source, first)
        try:
            samples += _samples(_Subject(case, file, image, source.recipe), slices_of_masks, dropped)
        except IntensityError as error:
            raise CaseError("convert", file.path, str(error)) from None
    return Converted(samples, dropped)


def _read(case: Case, file: ImageFile, source: Source) -> Picture | Volume:
    """An image in LPS axes; of a 4D file the volume that is meant."""
    number = case.frame if file.channel is None else file.channel
    read = read_image if number is None else read_again
    image = read(source.root, file.path)
    if isinstance(image, VolumeSeries):
        return _oriented(image.volume(_checked_number(number, len(image.array), file.path, source)))
    if file.channel is not None:
        raise CaseError("read", file.path, f"it has one volume, files.channels names {len(case.images)}")
    return _oriented(image)


def _checked_number(number: int | None, count: int, path: str, source: Source) -> int:
    if number is None:
        advice = "name them with files.channels, or set files.frames = true if each is a case"
        raise CaseError("read", path, f"it holds {count} volumes (4D), expected one; {advice}")
    channels = source.recipe.files.channels
    if channels is not None and len(channels) != count:
        raise CaseError("read", path, f"it holds {count} volumes, files.channels names {len(channels)}")
    return number


def _frame_of_mask(mask: VolumeSeries, path: str, case: Case, source: Source) -> Volume:
    if case.frame is None:
        raise CaseError("read", path, f"the mask holds {len(mask.array)} volumes (4D), expected one")
    frames = read_header(source.root, case.images[0].path).shape[0]
    if len(mask.array) != frames:
        raise CaseError("grid", path, f"the mask holds {len(mask.array)} frames, the image {frames}")
    return mask.volume(case.frame)


def _oriented(image: Picture | Volume) -> Picture | Volume:
    return image if isinstance(image, Picture) else to_lps(image)


def _further_image(case: Case, file: ImageFile, source: Source, first: Picture | Volume) -> Picture | Volume:
    image = _read(case, file, source)
    difference = grid_difference(first, image, source.recipe.masks.grid_tolerance)
    if difference is not None:
        raise CaseError(
            "grid", file.path, f"it shares masks with {case.images[0].path}, but not its grid: {difference}"
        )
    return image


def _read_masks(case: Case, source: Source, image: Picture | Volume) -> list[ClassLayer]:
    def read(path: str) -> Picture | Volume:
        mask = read_image(source.root, path) if case.frame is None else read_again(source.root, path)
        if isinstance(mask, VolumeSeries):
            mask = _frame_of_mask(mask, path, case, source)
        mask = _oriented(mask)
        difference = grid_difference(image, mask, source.recipe.masks.grid_tolerance)
        if difference is not None:
            raise CaseError("grid", path, difference)
        return mask

    return class_layers(case.masks, read, source.recipe, source.classes)


def _mask_slices(
    image: Picture | Volume, layers: list[ClassLayer], source: Source, dropped: Counter[str]
) -> Iterator[tuple[_Place, _MaskSlice]]:
    if isinstance(image, Picture):
        yield from _packed([("2d", None)], [layer.array for layer in layers], layers, source, dropped)
        return
    for axis in (AXES[name] for name in source.recipe.axes):
        count = image.array.shape[axis.number]
        if not passes_edge_rule(*slice_shape(image.array.shape, axis)):
            dropped["edge"] += count
            continue
        indices = _indices(layers, axis, keep_empty=source.recipe.keep_empty)
        dropped["no_mask"] += count - len(indices)
        for planes in zip(*(blocks(layer.array, axis, indices) for layer in layers), strict=True):
            places = [(axis.name, index) for index in planes[0][0]]
            yield from _packed(places, [block for _, block in planes], layers, source, dropped)


def _indices(layers: list[ClassLayer], axis: Axis, *, keep_empty: bool) -> list[int]:
    filled = np.logical_or.reduce([occupied(layer.array, axis) for layer in layers])
    return [int(index) for index in (np.arange(filled.size) if keep_empty else np.flatnonzero(filled))]


def _packed(
    places: Sequence[_Place],
    planes: list[npt.NDArray[Any]],
    layers: list[ClassLayer],
    source: Source,
    dropped: Counter[str],
) -> Iterator[tuple[_Place, _MaskSlice]]:
    """Label maps of a block of slices, without those on which no mask is left."""
    components = [
        Plane(find_components(plane), layer.class_number) for plane, layer in zip(planes, layers, strict=True)
    ]
    shape: tuple[int, int, int] = planes[0].shape
    for place, label_map in zip(places, pack(shape, components, source.classes), strict=True):
        dropped["small_mask"] += label_map.small
        if label_map.masks or source.recipe.keep_empty:
            yield place, _MaskSlice(encode_label_map(label_map.pixels), label_map.masks)
        else:
            dropped["no_mask"] += 1


@dataclass(frozen=True)
class _Subject:
    """The image that samples are made of."""

    case: Case
    file: ImageFile
    image: Picture | Volume
    recipe: Recipe


def _samples(
    subject: _Subject, mask_slices: dict[_Place, _MaskSlice], dropped: Counter[str]
) -> Iterator[EncodedSample]:
    """The samples of an image on those slices that have masks; IntensityError where its values cannot be scaled."""
    scale = scaling_of(subject.recipe.intensity, subject.image)
    for place, values in _slices(subject, mask_slices):
        scaled = scale(values)
        if scaled is None:
            dropped["constant"] += 1
        else:
            yield _sample(subject, place, scaled, mask_slices[place])


def _slices(subject: _Subject, mask_slices: dict[_Place, _MaskSlice]) -> Iterator[tuple[_Place, npt.NDArray[Any]]]:
    if isinstance(subject.image, Picture):
        yield from ((place, _plain_channels(subject.image.array)) for place in mask_slices)
        return
    for axis in (AXES[name] for name in subject.recipe.axes):
        indices = [index for name, index in mask_slices if name == axis.name and index is not None]
        for chosen, block in blocks(subject.image.array, axis, indices):
            yield from (((axis.name, index), values) for index, values in zip(chosen, block, strict=True))


def _plain_channels(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Without alpha; greyscale that is stored as three equal channels becomes one."""
    if array.ndim == 2:
        return array
    colour = np.ascontiguousarray(array[..., :3])
    return np.ascontiguousarray(colour[..., 0]) if (colour == colour[..., :1]).all() else colour


def _sample(subject: _Subject, place: _Place, scaled: Scaled, found: _MaskSlice) -> EncodedSample:
    axis, index = place
    case, file, image, recipe = subject.case, subject.file, subject.image, subject.recipe
    height, width = scaled.pixels.shape[:2]
    metadata = Metadata(
        key=str(SampleKey(recipe.modality, file.submodality, recipe.name, case.name, axis, index)),
        source=recipe.name,
        modality=recipe.modality,
        submodality=file.submodality,
        license=recipe.license,
        patient=case.patient,
        case=case.name,
        split=case.split,
        plane=_plane(image, axis),
        axis=axis,
        index=index,
        height=height,
        width=width,
        spacing=_spacing(image, axis),
        stored_axes=image.stored_axes if isinstance(image, Volume) else None,
        schema=SCHEMA,
        intensity=scaled.intensity,
        image_file=file.path,
        masks=found.masks,
    )
    return EncodedSample(metadata, encode_image(scaled.pixels), found.label_map)


def _plane(image: Picture | Volume, axis: str) -> str:
    if isinstance(image, Picture):
        return "2d"
    return "unknown" if image.affine is None else AXES[axis].plane


def _spacing(image: Picture | Volume, axis: str) -> tuple[float, float] | None:
    if isinstance(image, Picture):
        return image.spacing
    if image.affine is None:
        return None
    spacing = voxel_spacing(image.affine)
    row, column = AXES[axis].spacing_axes
    return spacing[row], spacing[column]
