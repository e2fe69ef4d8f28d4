"""The components of slices are packed into label maps: they get ids, instances and layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.conversion.masks.components import Column, Components, smallest_area
from builder.sources.classes import SourceClasses
from sa_med2d_20m import Mask, SAMed2DError

_MOST_MASKS = 65535


class TooManyMasksError(SAMed2DError):
    """A slice has more masks than a label map can number."""


@dataclass(frozen=True)
class LabelMap:
    """The masks of a slice.

    Attributes:
        pixels: (layers * H, W) uint8 or uint16, 0 for background; at least one layer.
        layers: Number of layers.
        masks: Ordered by id.
        too_small: Number of components that were left out because they are smaller than `smallest_area`.
    """

    pixels: npt.NDArray[np.uint8 | np.uint16]
    layers: int
    masks: tuple[Mask, ...]
    too_small: int


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
    """The components that are kept, over all class layers, as columns in the order of their ids."""

    class_layer: Column
    number: Column
    slice: Column
    class_number: Column
    id: Column
    instance: Column
    box: npt.NDArray[np.int64]
    area: Column


def pack(
    shape: tuple[int, int, int], class_layers: Sequence[LayerComponents], classes: SourceClasses
) -> list[LabelMap]:
    """Number the components of each slice and put them into as few layers as a greedy order needs.

    Within a slice components are ordered by class, then by their first pixel in reading order, then by class layer.
    This order gives the ids from 1. Each component goes into the first layer where it covers no other.

    Args:
        shape: (S, H, W) of the block.
        class_layers: Their components, in the order of the layers.
        classes: The source's classes.

    Returns:
        One label map a slice, in the order of the slices.

    Raises:
        TooManyMasksError: More masks in a slice than 16 bit can number.
    """
    kept, too_small = _keep(shape, class_layers)
    counts = np.bincount(kept.slice, minlength=shape[0])
    if counts.max(initial=0) > _MOST_MASKS:
        raise TooManyMasksError(f"{counts.max()} masks in one image, a label map of 16 bit numbers {_MOST_MASKS}")
    if len(class_layers) == 1:
        stacks, layers = list(_one_layer(shape, class_layers[0].components, kept)), [0] * kept.id.size
    else:
        stacks, layers = _greedy(shape, [layer.components for layer in class_layers], kept)
    masks = list(_masks(kept, layers, classes))
    ends = np.cumsum(counts).tolist()
    return [
        LabelMap(_narrow(stack, count), stack.shape[0] // shape[1], tuple(masks[end - count : end]), small)
        for stack, count, end, small in zip(stacks, counts.tolist(), ends, too_small, strict=True)
    ]


def _keep(shape: tuple[int, int, int], class_layers: Sequence[LayerComponents]) -> tuple[_KeptComponents, list[int]]:
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
    large = area >= smallest_area(shape[1], shape[2])
    order = np.lexsort((layer_of, first, row, class_number, at))
    order = order[large[order]]
    at, class_number = at[order], class_number[order]
    box = np.stack([column(name)[order] for name in ("left", "row", "width", "height")], axis=1)
    kept = _KeptComponents(
        class_layer=layer_of[order],
        number=column("number")[order],
        slice=at,
        class_number=class_number,
        id=_rank(at) + 1,
        instance=_rank(at, class_number),
        box=box,
        area=area[order],
    )
    return kept, np.bincount(column("slice")[~large], minlength=shape[0]).tolist()


def _rank(*keys: Column) -> Column:
    """Position of each row within its run of equal keys."""
    size = keys[0].size
    new = np.ones(size, np.bool_)
    if size:
        new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(new)
    return np.arange(size) - np.repeat(starts, np.diff(np.append(starts, size)))


def _one_layer(shape: tuple[int, int, int], components: Components, kept: _KeptComponents) -> npt.NDArray[Any]:
    """Components of one class layer cannot overlap: rename them all at once."""
    dtype = np.uint8 if kept.id.max(initial=0) <= 255 else np.uint16
    names = np.zeros(int(components.number.max(initial=0)) + 1, dtype)
    names[kept.number] = kept.id
    layers = np.zeros(shape, dtype)
    (y, x), (_, height, width) = components.origin, components.labels.shape
    if kept.id.size:
        layers[:, y : y + height, x : x + width] = np.take(names, components.labels)
    return layers


def _greedy(
    shape: tuple[int, int, int], components: Sequence[Components], kept: _KeptComponents
) -> tuple[list[npt.NDArray[Any]], list[int]]:
    dtype = np.uint8 if kept.id.max(initial=0) <= 255 else np.uint16
    stacks: list[list[npt.NDArray[Any]]] = [[np.zeros(shape[1:], dtype)] for _ in range(shape[0])]
    layer_of = []
    columns = (kept.class_layer, kept.number, kept.slice, kept.id, kept.box)
    for layer_number, number, at, mask_id, (x, y, width, height) in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        top, left = components[layer_number].origin
        inside = components[layer_number].labels[at, y - top : y - top + height, x - left : x - left + width]
        pixels = inside == number
        box = np.s_[y : y + height, x : x + width]
        layers = stacks[at]
        # any() takes ten times as long as count_nonzero() to begin, and most objects are small
        taken = (np.count_nonzero(layer[box][pixels]) for layer in layers)
        free = next((place for place, count in enumerate(taken) if not count), len(layers))
        if free == len(layers):
            layers.append(np.zeros(shape[1:], dtype))
        layers[free][box][pixels] = mask_id
        layer_of.append(free)
    return [np.concatenate(layers) for layers in stacks], layer_of


def _narrow(stack: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    return stack.astype(np.uint8 if count <= 255 else np.uint16, copy=False)


def _masks(kept: _KeptComponents, layers: Sequence[int], classes: SourceClasses) -> Iterator[Mask]:
    columns = (kept.class_number, kept.id, kept.instance, kept.box, kept.area)
    rows = zip(*(column.tolist() for column in columns), layers, strict=True)
    for class_number, mask_id, instance, box, area, layer in rows:
        known = classes.by_number(class_number)
        yield Mask(mask_id, layer, known.label, known.class_id, known.organ, known.group, instance, tuple(box), area)
