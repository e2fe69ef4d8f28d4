"""From a case to its samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.cases.case import Case, ImageFile
from builder.conversion.extent import Extent
from builder.conversion.gates import NEARLY_ALL, Tally, apply_gate
from builder.conversion.inputs import read_case_image, read_case_masks, read_further_image
from builder.conversion.intensity import IntensityError, Scaled, scaling_of
from builder.conversion.masks.class_layers import ClassLayer
from builder.conversion.masks.components import find_components
from builder.conversion.masks.label_map import LabelMap, LayerComponents, TooManyMasksError, pack
from builder.conversion.slicing import AXES, Axis, blocks, contiguous_slices, passes_edge_rule, slice_shape
from builder.errors import CaseError
from builder.readers.image import Picture, Volume, grey_of
from builder.sources.recipe import Recipe
from builder.sources.source import Source
from sa_med2d_20m import SCHEMA, Mask, Metadata
from shards.key import SampleKey
from shards.png import encode_image, encode_label_map
from shards.writer import EncodedSample


@dataclass(frozen=True)
class Converted:
    """The samples of a case.

    Attributes:
        samples: Ordered by sub-modality, axis and slice.
        tally: What was left out: ``edge``, ``constant_slice``, ``no_mask`` and ``full_mask`` count slices,
            ``small_mask`` masks.
    """

    samples: list[EncodedSample]
    tally: Tally


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
    tally = Tally()
    first = read_case_image(case, case.images[0], source, tally)
    layers = read_case_masks(case, source, first, tally)
    try:
        slices_of_masks = dict(_mask_slices(case, first, layers, source, tally))
    except TooManyMasksError as error:
        raise CaseError("convert", case.masks[0].path, str(error)) from None
    del layers
    samples: list[EncodedSample] = []
    for number, file in enumerate(case.images):
        image = first if number == 0 else read_further_image(case, file, source, first, tally)
        try:
            samples += _samples(_Subject(case, file, image, source.recipe), slices_of_masks, tally)
        except IntensityError as error:
            raise CaseError("convert", file.path, str(error)) from None
    return Converted(samples, tally)


def _mask_slices(
    case: Case, image: Picture | Volume, layers: list[ClassLayer], source: Source, tally: Tally
) -> Iterator[tuple[_Place, _MaskSlice]]:
    layers_with_extent = [(layer, Extent.of(layer.array)) for layer in layers]
    if isinstance(image, Picture):
        height, width = image.array.shape[:2]
        ((_, (label_map,)),) = _packed(AXES["x"], [0], (height, width), layers_with_extent, source)
        yield from _kept([(("2d", None), label_map)], case, source, tally)
        return
    for axis in (AXES[name] for name in source.recipe.axes):
        count, shape = image.shape[axis.number], slice_shape(image.shape, axis)
        if not passes_edge_rule(*shape):
            tally.dropped["edge"] += count
            continue
        indices = (
            range(count) if source.recipe.keep_empty else _occupied([extent for _, extent in layers_with_extent], axis)
        )
        tally.dropped["no_mask"] += count - len(indices)
        for chosen, label_maps in _packed(axis, indices, shape, layers_with_extent, source):
            places: list[_Place] = [(axis.name, index) for index in chosen]
            yield from _kept(zip(places, label_maps, strict=True), case, source, tally)


def _occupied(extents: Sequence[Extent], axis: Axis) -> list[int]:
    filled = np.logical_or.reduce([extent.occupied(axis) for extent in extents])
    return [int(index) for index in np.flatnonzero(filled)]


def _packed(
    axis: Axis,
    indices: Sequence[int],
    shape: tuple[int, int],
    layers_with_extent: Sequence[tuple[ClassLayer, Extent]],
    source: Source,
) -> Iterator[tuple[Sequence[int], list[LabelMap]]]:
    """The label maps of slices, some at a time, with their slice numbers."""
    for together in zip(*(blocks(layer.array, axis, indices) for layer, _ in layers_with_extent), strict=True):
        chosen = together[0][0]
        found = []
        for (_, block), (layer, extent) in zip(together, layers_with_extent, strict=True):
            rows, columns = extent.bounding_box(axis, chosen)
            components = find_components(contiguous_slices(block[:, rows, columns]), (rows.start, columns.start))
            found.append(LayerComponents(components, layer.class_number))
        yield chosen, pack((len(chosen), *shape), found, source.classes)


def _kept(
    packed: Iterable[tuple[_Place, LabelMap]], case: Case, source: Source, tally: Tally
) -> Iterator[tuple[_Place, _MaskSlice]]:
    """The label maps that have a mask left and pass the gates, encoded."""
    for place, label_map in packed:
        tally.dropped["small_mask"] += label_map.too_small
        if not label_map.masks and not source.recipe.keep_empty:
            tally.dropped["no_mask"] += 1
        elif _passes_full_mask(place, label_map, case, source, tally):
            yield place, _MaskSlice(encode_label_map(label_map.pixels), label_map.masks)


def _passes_full_mask(place: _Place, label_map: LabelMap, case: Case, source: Source, tally: Tally) -> bool:
    action, rows = source.recipe.gates.full_mask, label_map.pixels.shape[0] / label_map.layers
    limit = NEARLY_ALL * rows * label_map.pixels.shape[1]
    full = next((mask for mask in label_map.masks if mask.area > limit), None)
    if full is None:
        return True
    reason = f"{full.label} covers nearly all of slice {place}; is the mask inverted (masks.inverted)?"
    return apply_gate("full_mask", action, case.masks[0].path, reason, tally)


@dataclass(frozen=True)
class _Subject:
    """The image that samples are made of."""

    case: Case
    file: ImageFile
    image: Picture | Volume
    recipe: Recipe


def _samples(subject: _Subject, mask_slices: dict[_Place, _MaskSlice], tally: Tally) -> Iterator[EncodedSample]:
    """The samples of an image on those slices that have masks; IntensityError where its values cannot be scaled."""
    scale = scaling_of(subject.recipe.intensity, subject.image)
    for place, values in _slices(subject, mask_slices):
        scaled = scale(values)
        if scaled is None:
            action = subject.recipe.gates.constant_slice
            apply_gate("constant_slice", action, subject.file.path, f"slice {place} has one single value", tally)
        else:
            yield _sample(subject, place, scaled, mask_slices[place])


def _slices(subject: _Subject, mask_slices: dict[_Place, _MaskSlice]) -> Iterator[tuple[_Place, npt.NDArray[Any]]]:
    if isinstance(subject.image, Picture):
        yield from ((place, _plain_channels(subject.image.array)) for place in mask_slices)
        return
    for axis in (AXES[name] for name in subject.recipe.axes):
        indices = [index for name, index in mask_slices if name == axis.name and index is not None]
        for chosen, block in blocks(subject.image.array, axis, indices):
            yield from (
                ((axis.name, index), _plain_channels(values))
                for index, values in zip(chosen, np.ascontiguousarray(contiguous_slices(block)), strict=True)
            )


def _plain_channels(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Without alpha; greyscale that is stored as three equal channels becomes one."""
    if array.ndim == 2:
        return array
    grey = grey_of(array)
    return np.ascontiguousarray(array[..., :3]) if grey is None else grey


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
        image_file=file.shown or file.path,
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
    row, column = AXES[axis].spacing_axes
    return image.spacing and (image.spacing[row], image.spacing[column])
