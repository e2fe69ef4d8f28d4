"""A case becomes its samples: read, packed, scaled and encoded."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.cases.case import Case, ImageFile
from builder.conversion.extent import Extent
from builder.conversion.gates import NEARLY_ALL, TISSUE, Tally, apply_gate, lost
from builder.conversion.geometry import Geometry, geometry_of
from builder.conversion.inputs import read_case_image, read_case_masks, read_further_image
from builder.conversion.intensity import IntensityError, Scaled, scaling_of
from builder.conversion.masks.annotated import not_annotated
from builder.conversion.masks.class_layers import ClassLayer
from builder.conversion.masks.components import find_components
from builder.conversion.masks.label_map import LabelMap, LayerComponents, TooManyMasksError, pack
from builder.conversion.slicing import AXES, Axis, blocks, contiguous_slices, passes_edge_rule, slice_shape
from builder.errors import CaseError
from builder.readers.image import Picture, Volume, grey_of
from builder.sources.recipe import Recipe
from builder.sources.source import Source
from sa_med2d_20m import SCHEMA, Dropped, Mask, Metadata
from shards.key import SampleKey
from shards.png import encode_image, encode_label_map
from shards.writer import EncodedSample


@dataclass(frozen=True)
class Converted:
    """The samples of a case.

    Attributes:
        samples: Ordered by sub-modality, axis and slice.
        tally: What was left out and what was flagged. ``small_mask`` counts masks, anew in each image of the case,
            ``bad_mask`` files; all others count slices: ``emptied`` those of whose masks none was large enough.
    """

    samples: list[EncodedSample]
    tally: Tally


@dataclass(frozen=True)
class _SlicePosition:
    """Which slice of an image: its number along an axis; axis ``2d`` without number for a picture."""

    axis: str
    index: int | None

    def __str__(self) -> str:
        return "the picture" if self.index is None else f"slice {self.index} along {self.axis}"


@dataclass(frozen=True)
class _MaskSlice:
    """The masks of one slice, ready for every image of the case."""

    label_map: bytes
    masks: tuple[Mask, ...]
    dropped: Dropped


_MaskSlices = dict[_SlicePosition, _MaskSlice]


def convert(case: Case, source: Source) -> Converted:
    """Convert a case to its samples.

    In memory at once are its first image and one other, the class layers of its masks, and its encoded samples.

    Args:
        case: The case.
        source: The source that it belongs to.

    Raises:
        CaseError: The case cannot be built.
    """
    first, tally = read_case_image(case, case.images[0], source)
    layers, counted = read_case_masks(case, source, first)
    tally += counted
    try:
        mask_slices, counted = _mask_slices(case, first, layers, source)
    except TooManyMasksError as error:
        raise CaseError("convert", case.masks[0].path, str(error)) from None
    del layers
    tally += counted
    missing = not_annotated(case, source, {fault.file for fault in tally.bad_masks})
    samples: list[EncodedSample] = []
    for number, file in enumerate(case.images):
        image, counted = (first, Tally()) if number == 0 else read_further_image(case, file, source, first)
        tally += counted
        try:
            encoded, counted = _samples(_CaseImage(case, file, image, missing), mask_slices, source.recipe)
        except IntensityError as error:
            raise CaseError("convert", file.path, str(error)) from None
        samples += encoded
        tally += counted
    return Converted(samples, tally)


def _mask_slices(
    case: Case, image: Picture | Volume, layers: list[ClassLayer], source: Source
) -> tuple[_MaskSlices, Tally]:
    """Pack and encode the masks of all slices that are kept, in the order of axes and slices."""
    recipe, images = source.recipe, len(case.images)
    extents = [Extent.of(layer.array) for layer in layers]
    keep_empty = partial(_keeps_empty, case, recipe)
    chosen, tally = _choose_slices(image, extents, recipe.axes, keep_empty)
    kept: _MaskSlices = {}
    dropped, small = Counter[str](), Counter[str]()
    tally += lost("edge", _times(_pixels_lost_by_edge(image, layers, chosen, source), images))
    for position, label_map in _label_maps(image, chosen, list(zip(layers, extents, strict=True)), source):
        dropped["small_mask"] += label_map.dropped.masks * images
        small.update(label_map.lost)
        if not label_map.masks and not keep_empty(position):
            dropped["emptied" if label_map.dropped.masks else "no_mask"] += 1
            continue
        full_mask = _nearly_full(label_map)
        if full_mask is not None:
            reason = f"{full_mask.label} covers nearly all of {position}; is the mask inverted (masks.inverted)?"
            counted = apply_gate(recipe.gates, "full_mask", case.masks[0].path, reason)
            tally += counted
            if counted.dropped:
                tally += lost("full_mask", _times(_pixels_of(label_map.masks), images))
                continue
        kept[position] = _MaskSlice(encode_label_map(label_map.pixels), label_map.masks, label_map.dropped)
    return kept, tally + Tally(dropped) + lost("small_mask", _times(small, images))


def _pixels_of(masks: Iterable[Mask]) -> Counter[str]:
    """Class -> pixels of masks."""
    pixels = Counter[str]()
    for mask in masks:
        pixels[mask.label] += mask.area
    return pixels


def _times(pixels: Mapping[str, int], images: int) -> dict[str, int]:
    return {label: count * images for label, count in pixels.items()}


def _pixels_lost_by_edge(
    image: Picture | Volume, layers: Iterable[ClassLayer], chosen: Sequence[tuple[Axis, Sequence[int]]], source: Source
) -> dict[str, int]:
    """Class -> mask pixels in the slices of axes that break the edge rule: each such axis would show them all once."""
    axes = 0 if isinstance(image, Picture) else len(source.recipe.axes) - len(chosen)
    pixels = Counter[int]()
    for layer in layers if axes else ():
        if layer.class_number is not None:
            pixels[layer.class_number] += int(np.count_nonzero(layer.array))
            continue
        for plane in layer.array:  # whole numbers of 64 bit are counted, which a volume at once has no room for
            counts = np.bincount(plane.ravel())
            pixels.update({number: int(counts[number]) for number in np.flatnonzero(counts).tolist() if number})
    return {source.classes.by_number(number).label: axes * count for number, count in pixels.items()}


def _keeps_empty(case: Case, recipe: Recipe, position: _SlicePosition) -> bool:
    """Whether a slice without a mask is kept: a share of them by the key that it has in the first image of its case."""
    if isinstance(recipe.keep_empty, bool):
        return recipe.keep_empty
    first = case.images[0].submodality
    key = str(SampleKey(recipe.modality, first, recipe.name, case.name, position.axis, position.index))
    return (
        int.from_bytes(sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") < recipe.keep_empty * 2**64
    )


def _choose_slices(
    image: Picture | Volume,
    extents: Sequence[Extent],
    axes: Iterable[str],
    keep_empty: Callable[[_SlicePosition], bool],
) -> tuple[list[tuple[Axis, Sequence[int]]], Tally]:
    """The slices that may be kept, by axis, and how many are not: they break the edge rule, or have no mask."""
    if isinstance(image, Picture):
        return [(AXES["x"], [0])], Tally()
    chosen: list[tuple[Axis, Sequence[int]]] = []
    dropped = Counter[str]()
    for axis in (AXES[name] for name in axes):
        count = image.shape[axis.number]
        if not passes_edge_rule(*slice_shape(image.shape, axis)):
            dropped["edge"] += count
            continue
        occupied = set(_occupied(extents, axis))
        indices = [at for at in range(count) if at in occupied or keep_empty(_SlicePosition(axis.name, at))]
        dropped["no_mask"] += count - len(indices)
        chosen.append((axis, indices))
    return chosen, Tally(dropped)


def _occupied(extents: Sequence[Extent], axis: Axis) -> list[int]:
    filled = np.logical_or.reduce([extent.occupied(axis) for extent in extents])
    return [int(index) for index in np.flatnonzero(filled)]


def _label_maps(
    image: Picture | Volume,
    chosen: Iterable[tuple[Axis, Sequence[int]]],
    layers: Sequence[tuple[ClassLayer, Extent]],
    source: Source,
) -> Iterator[tuple[_SlicePosition, LabelMap]]:
    """The label maps of slices, one block of slices in memory at a time."""
    for axis, indices in chosen:
        shape = image.array.shape[:2] if isinstance(image, Picture) else slice_shape(image.shape, axis)
        for together in zip(*(blocks(layer.array, axis, indices) for layer, _ in layers), strict=True):
            some = together[0][0]
            found = [
                _components(block, axis, some, layer, extent)
                for (_, block), (layer, extent) in zip(together, layers, strict=True)
            ]
            packed = pack((len(some), *shape), found, source.classes, source.recipe.masks.min_area)
            for index, label_map in zip(some, packed, strict=True):
                picture = isinstance(image, Picture)
                yield _SlicePosition("2d", None) if picture else _SlicePosition(axis.name, index), label_map


def _components(
    block: npt.NDArray[Any], axis: Axis, indices: Sequence[int], layer: ClassLayer, extent: Extent
) -> LayerComponents:
    """The components of a class layer in a block of its slices, looked for in their bounding box alone."""
    rows, columns = extent.bounding_box(axis, indices)
    components = find_components(contiguous_slices(block[:, rows, columns]), (rows.start, columns.start))
    return LayerComponents(components, layer.class_number)


def _nearly_full(label_map: LabelMap) -> Mask | None:
    """The first mask that covers nearly all of its slice."""
    rows = label_map.pixels.shape[0] / label_map.layers
    limit = NEARLY_ALL * rows * label_map.pixels.shape[1]
    return next((mask for mask in label_map.masks if mask.area > limit), None)


@dataclass(frozen=True)
class _CaseImage:
    """The image that samples are made of, and the classes that its source annotates in other cases only."""

    case: Case
    file: ImageFile
    image: Picture | Volume
    not_annotated: tuple[str, ...]

    @cached_property
    def geometry(self) -> Geometry:
        """Where it lies in space."""
        return geometry_of(self.image)


def _samples(subject: _CaseImage, mask_slices: _MaskSlices, recipe: Recipe) -> tuple[list[EncodedSample], Tally]:
    """The samples of an image on those slices that have masks; IntensityError where its values cannot be scaled."""
    scale = scaling_of(recipe.intensity, subject.image, recipe.modality)
    samples, tally = [], Tally()
    for position, values in _slices(subject.image, mask_slices):
        scaled, found = scale(values), mask_slices[position]
        if scaled is None:
            tally += apply_gate(recipe.gates, "constant_slice", subject.file.path, f"{position} has one single value")
            tally += lost("constant_slice", _pixels_of(found.masks))
        else:
            metadata = _metadata(subject, position, scaled, found, recipe)
            samples.append(EncodedSample(metadata, encode_image(scaled.pixels), found.label_map))
            tally += apply_gate(recipe.gates, "beyond_tissue", subject.file.path, _beyond_tissue(metadata))
    return samples, tally


def _beyond_tissue(metadata: Metadata) -> str | None:
    """What is beyond tissue in a CT slice that is scaled by a range of values, its own or its volume's."""
    intensity = metadata.intensity
    if metadata.modality != "ct" or intensity.scaling not in ("slice", "volume"):
        return None
    low, high = TISSUE
    return "it holds values that no tissue has" if intensity.min < low or intensity.max > high else None


def _slices(
    image: Picture | Volume, positions: Iterable[_SlicePosition]
) -> Iterator[tuple[_SlicePosition, npt.NDArray[Any]]]:
    """The values of slices as they are shown, (H, W) or (H, W, 3), one block of slices in memory at a time."""
    if isinstance(image, Picture):
        yield from ((position, _plain_channels(image.array)) for position in positions)
        return
    for axis, neighbours in itertools.groupby(positions, key=lambda position: position.axis):
        indices = [position.index for position in neighbours if position.index is not None]
        for some, block in blocks(image.array, AXES[axis], indices):
            for index, values in zip(some, np.ascontiguousarray(contiguous_slices(block)), strict=True):
                yield _SlicePosition(axis, index), _plain_channels(values)


def _plain_channels(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Without alpha; greyscale that is stored as three equal channels becomes one."""
    if array.ndim == 2:
        return array
    grey = grey_of(array)
    return np.ascontiguousarray(array[..., :3]) if grey is None else grey


def _metadata(
    subject: _CaseImage,
    position: _SlicePosition,
    scaled: Scaled,
    found: _MaskSlice,
    recipe: Recipe,
) -> Metadata:
    case, file, image, axis, index = subject.case, subject.file, subject.image, position.axis, position.index
    height, width = scaled.pixels.shape[:2]
    return Metadata(
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
        slice_spacing=_slice_spacing(image, axis),
        slices=None if isinstance(image, Picture) else image.shape[AXES[axis].number],
        origin=subject.geometry.origin,
        direction=subject.geometry.direction,
        official_split=case.official_split,
        dropped=found.dropped,
        not_annotated=subject.not_annotated,
        rater=case.rater,
        masks=found.masks,
    )


def _plane(image: Picture | Volume, axis: str) -> str:
    if isinstance(image, Picture):
        return "2d"
    return "unknown" if image.affine is None else AXES[axis].plane


def _spacing(image: Picture | Volume, axis: str) -> tuple[float, float] | None:
    if isinstance(image, Picture):
        return image.spacing
    row, column = AXES[axis].spacing_axes
    return image.spacing and (image.spacing[row], image.spacing[column])


def _slice_spacing(image: Picture | Volume, axis: str) -> float | None:
    if isinstance(image, Picture) or image.spacing is None:
        return None
    return image.spacing[AXES[axis].spacing_axis]
