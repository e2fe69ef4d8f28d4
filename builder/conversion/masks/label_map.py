"""The components of slices are packed into label maps: they get ids, instances and layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from builder.conversion.masks.components import Column, Components, smallest_area
from builder.sources.classes import SourceClasses
from sa_med2d_20m import Dropped, Mask, SAMed2DError

_MOST_IDS: Final = 255
"""Objects in a layer: what 8 bit can number, as common decoders clip 16 bit to 8 in silence."""
_MOST_PIXELS: Final = 2**28
"""Of a label map with all its layers; more could be written, and hardly anybody could decode it."""


class TooManyMasksError(SAMed2DError):
    """The masks of a slice need more layers than a label map may have."""


@dataclass(frozen=True)
class LabelMap:
    """The masks of a slice.

    Attributes:
        pixels: (layers * H, W), 0 for background; at least one layer.
        layers: Number of layers.
        masks: Ordered by class, then by first pixel; within a layer their ids count from 1.
        dropped: The components that were left out because they are smaller than `smallest_area`.
        lost: Class -> their pixels.
    """

    pixels: npt.NDArray[np.uint8]
    layers: int
    masks: tuple[Mask, ...]
    dropped: Dropped
    lost: Mapping[str, int]


@dataclass(frozen=True)
class LayerComponents:
    """The components of one class layer in a block of slices.

    Attributes:
        components: The components.
        class_number: Class of all of them where the layer is an instance map; None where their value is the class.
    """

    components: Components
    class_number: int | None


@dataclass(frozen=True)
class _KeptComponents:
    """The components that are kept, over all class layers, as columns in the order of the masks."""

    class_layer: Column
    number: Column
    slice: Column
    class_number: Column
    instance: Column
    box: npt.NDArray[np.int64]
    area: Column


@dataclass(frozen=True)
class _Placed:
    """Where components lie: a stack a slice, (layers * H, W), and layer and id of each, in the order of the masks."""

    stacks: Sequence[npt.NDArray[np.uint8]]
    layers: Sequence[int]
    ids: Sequence[int]


def pack(
    shape: tuple[int, int, int],
    class_layers: Sequence[LayerComponents],
    classes: SourceClasses,
    min_area: float,
) -> list[LabelMap]:
    """Put the components of each slice into as few layers as a greedy order needs, and number them there.

    Within a slice components are ordered by class, then by their first pixel in reading order, then by class layer.
    In this order each goes into the first layer where it covers no other and which has fewer than 255; its id is its
    position there, from 1.

    Args:
        shape: (S, H, W) of the block.
        class_layers: Their components, in the order of the layers.
        classes: The source's classes.
        min_area: ``masks.min_area`` of the recipe.

    Returns:
        One label map a slice, in the order of the slices.

    Raises:
        TooManyMasksError: A slice needs so many layers that hardly anybody could decode its label map.
    """
    kept, dropped = _keep(shape, class_layers, min_area, classes)
    counts = np.bincount(kept.slice, minlength=shape[0])
    if len(class_layers) == 1:
        placed = _place_without_overlap(shape, class_layers[0].components, kept, counts)
    else:
        placed = _place_greedily(shape, [layer.components for layer in class_layers], kept)
    masks = list(_masks(kept, placed, classes))
    ends = np.cumsum(counts).tolist()
    return [
        LabelMap(stack, stack.shape[0] // shape[1], tuple(masks[end - count : end]), *left_out)
        for stack, count, end, left_out in zip(placed.stacks, counts.tolist(), ends, dropped, strict=True)
    ]


def _keep(
    shape: tuple[int, int, int], class_layers: Sequence[LayerComponents], min_area: float, classes: SourceClasses
) -> tuple[_KeptComponents, list[tuple[Dropped, dict[str, int]]]]:
    """The components that are large enough, in their order, and what is left out of each slice, with its classes."""

    def column(name: str) -> Column:
        return np.concatenate([getattr(layer.components, name) for layer in class_layers])

    sizes = [layer.components.number.size for layer in class_layers]
    layer_of = np.repeat(np.arange(len(class_layers)), sizes)
    class_number = np.concatenate(
        [
            layer.components.value if layer.class_number is None else np.full(size, layer.class_number)
            for layer, size in zip(class_layers, sizes, strict=True)
        ]
    )
    at, row, first, area = column("slice"), column("row"), column("column"), column("area")
    large = area >= smallest_area(shape[1], shape[2], min_area)
    dropped = _dropped(shape[0], at[~large], class_number[~large], area[~large], classes)
    order = np.lexsort((layer_of, first, row, class_number, at))
    order = order[large[order]]
    at, class_number = at[order], class_number[order]
    box = np.stack([column(name)[order] for name in ("left", "row", "width", "height")], axis=1)
    kept = _KeptComponents(
        class_layer=layer_of[order],
        number=column("number")[order],
        slice=at,
        class_number=class_number,
        instance=_rank(at, class_number),
        box=box,
        area=area[order],
    )
    return kept, dropped


def _dropped(
    slices: int, at: Column, class_number: Column, area: Column, classes: SourceClasses
) -> list[tuple[Dropped, dict[str, int]]]:
    """What is left out of each slice; ``at``, ``class_number`` and ``area`` are of components, in any order."""
    masks = np.bincount(at, minlength=slices).tolist()
    lost: list[dict[int, int]] = [{} for _ in range(slices)]
    for index, number, pixels in zip(at.tolist(), class_number.tolist(), area.tolist(), strict=True):
        lost[index][number] = lost[index].get(number, 0) + pixels
    found = []
    for count, of_slice in zip(masks, lost, strict=True):
        named = {classes.by_number(number).label: pixels for number, pixels in sorted(of_slice.items())}
        found.append((Dropped(count, sum(named.values()), tuple(named)), named))
    return found


def _rank(*keys: Column) -> Column:
    """Position of each row within its run of equal keys."""
    size = keys[0].size
    new = np.ones(size, np.bool_)
    if size:
        new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(new)
    return np.arange(size) - np.repeat(starts, np.diff(np.append(starts, size)))


def _place_without_overlap(
    shape: tuple[int, int, int], components: Components, kept: _KeptComponents, counts: Column
) -> _Placed:
    """Components of one class layer cannot overlap: name them all at once, and part them where a layer is full."""
    position = _rank(kept.slice)
    most = int(counts.max(initial=0))
    _refuse_layers(-(-most // _MOST_IDS), shape, most)
    dtype = np.uint8 if most <= _MOST_IDS else np.uint32
    names = np.zeros(int(components.number.max(initial=0)) + 1, dtype)
    names[kept.number] = position + 1
    named: npt.NDArray[Any] = np.zeros(shape, dtype)
    (y, x), (_, height, width) = components.origin, components.labels.shape
    if position.size:
        named[:, y : y + height, x : x + width] = np.take(names, components.labels)
    stacks = list(named) if most <= _MOST_IDS else [_parted(*each) for each in zip(named, counts.tolist(), strict=True)]
    return _Placed(stacks, (position // _MOST_IDS).tolist(), (position % _MOST_IDS + 1).tolist())


def _parted(named: npt.NDArray[np.uint32], count: int) -> npt.NDArray[np.uint8]:
    """A slice whose components are numbered from 1, (H, W), as layers of 255 each, (layers * H, W)."""
    height, width = named.shape
    stack = np.zeros((max(1, -(-count // _MOST_IDS)) * height, width), np.uint8)
    at = np.flatnonzero(named)
    position = named.ravel()[at].astype(np.int64) - 1
    stack.ravel()[position // _MOST_IDS * named.size + at] = position % _MOST_IDS + 1
    return stack


def _place_greedily(shape: tuple[int, int, int], components: Sequence[Components], kept: _KeptComponents) -> _Placed:
    stacks = [[np.zeros(shape[1:], np.uint8)] for _ in range(shape[0])]
    held = [[0] for _ in range(shape[0])]
    layer_of, ids = [], []
    columns = (kept.class_layer, kept.number, kept.slice, kept.box)
    for class_layer, number, at, (x, y, width, height) in zip(*(column.tolist() for column in columns), strict=True):
        top, left = components[class_layer].origin
        inside = components[class_layer].labels[at, y - top : y - top + height, x - left : x - left + width]
        pixels = inside == number
        box = np.s_[y : y + height, x : x + width]
        layers, filled = stacks[at], held[at]
        # any() takes ten times as long as count_nonzero() to begin, and most objects are small
        fitting = (
            place
            for place, layer in enumerate(layers)
            if filled[place] < _MOST_IDS and not np.count_nonzero(layer[box][pixels])
        )
        free = next(fitting, len(layers))
        if free == len(layers):
            _refuse_layers(free + 1, shape, sum(filled) + 1)
            layers.append(np.zeros(shape[1:], np.uint8))
            filled.append(0)
        filled[free] += 1
        layers[free][box][pixels] = filled[free]
        layer_of.append(free)
        ids.append(filled[free])
    return _Placed([np.concatenate(layers) for layers in stacks], layer_of, ids)


def _refuse_layers(layers: int, shape: tuple[int, int, int], masks: int) -> None:
    _, height, width = shape
    if layers > 1 and layers * height * width > _MOST_PIXELS:
        raise TooManyMasksError(
            f"{masks:,} masks in one image of {width} x {height} need {layers} layers of the label map, "
            f"expected at most {_MOST_PIXELS // (height * width)}; raise masks.min_area, or cut the image into tiles"
        )


def _masks(kept: _KeptComponents, placed: _Placed, classes: SourceClasses) -> Iterator[Mask]:
    columns = (kept.class_number, kept.instance, kept.box, kept.area)
    rows = zip(*(column.tolist() for column in columns), placed.layers, placed.ids, strict=True)
    for class_number, instance, box, area, layer, mask_id in rows:
        known = classes.by_number(class_number)
        yield Mask(mask_id, layer, known.label, known.class_id, known.organ, known.group, instance, tuple(box), area)
