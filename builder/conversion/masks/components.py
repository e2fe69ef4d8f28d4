"""Slices fall into 8-connected components, whose order depends on no algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Components:
    """The components of a block of slices.

    All columns have shape (N,); components are ordered by slice, then by their first pixel in reading order.

    Attributes:
        labels: (S, h, w), the block; a component's pixels have its number, others 0.
        origin: Row and column of the block in the slices.
        number: Its pixel value in ``labels``; unique within the block.
        slice: Slice within the block.
        value: Its value in the map that was labelled: a class number or an instance.
        row: Row of its first pixel, which is also the top of its box.
        column: Column of its first pixel.
        left: Column where its box begins.
        width: Width of its box.
        height: Height of its box.
        area: Number of pixels.
    """

    labels: npt.NDArray[Any]
    origin: tuple[int, int]
    number: Column
    slice: Column
    value: Column
    row: Column
    column: Column
    left: Column
    width: Column
    height: Column
    area: Column


def smallest_area(height: int, width: int, rule: float) -> int:
    """Give the fewest pixels that a mask may have.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        rule: ``masks.min_area`` of the recipe: a number of pixels, or a fraction of the image's area.

    >>> smallest_area(256, 256, 100 / 65536), smallest_area(258, 181, 100 / 65536), smallest_area(256, 256, 7)
    (100, 72, 7)
    """
    if isinstance(rule, int):
        return rule
    return math.ceil(Decimal(repr(rule)) * height * width)  # as it is written: 0.07 of 100 pixels are 7


def find_components(block: npt.NDArray[Any], origin: tuple[int, int] = (0, 0)) -> Components:
    """Label the 8-connected components of equal value in each slice.

    The slices are laid out below each other with an empty row and column between, so that one pass labels them all;
    measured, that is four times as fast as a pass for each.

    Args:
        block: (S, h, w) unsigned integers, 0 for background. Touching pixels of unequal value are never joined.
        origin: Row and column of the block in the slices that it is cut from.
    """
    count, height, width = block.shape
    if not block.size:
        none = np.zeros(0, np.int64)
        return Components(np.zeros((count, 0, 0), np.uint8), (0, 0), *[none] * 9)
    strip = np.zeros((count, height + 1, width + 1), block.dtype)
    strip[:, :height, :width] = block
    labels, found = cc3d.connected_components(strip.reshape(-1, width + 1), connectivity=8, return_N=True)
    measured = _measure(strip.reshape(-1), labels.reshape(-1), int(found), width + 1)
    number, value, line, column, first, span, depth, area = measured
    at, row = np.divmod(line, height + 1)
    boxed, (top, left) = labels.reshape(strip.shape)[:, :height, :width], origin
    return Components(boxed, origin, number, at, value, row + top, column + left, first + left, span, depth, area)


def _measure(values: npt.NDArray[Any], labels: npt.NDArray[Any], count: int, stride: int) -> tuple[Column, ...]:
    """Measure components from their horizontal runs, which are far fewer than their pixels.

    Args:
        values: (pixels,), what was labelled.
        labels: (pixels,), each line of ``stride`` pixels ends with a background pixel.
        count: Number of components.
        stride: Pixels a line.

    Returns:
        Columns by first pixel: number, value, first line, first column, left, width, height, area.
    """
    change = _changes(values)
    start = np.concatenate([np.zeros(1, np.int64), change])
    end = np.append(change, labels.size)
    inside = labels[start] != 0
    start, end = start[inside], end[inside]
    number = labels[start].astype(np.int64)
    line = start // stride
    area = np.bincount(number, weights=end - start, minlength=count + 1).astype(np.int64)
    first, last = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    first[number[::-1]] = start[::-1]
    last[number] = line
    left, right = np.full(count + 1, stride), np.zeros(count + 1, np.int64)
    np.minimum.at(left, number, start - line * stride)
    np.maximum.at(right, number, end - line * stride)
    order = np.argsort(first[1:], kind="stable") + 1
    first, left = first[order], left[order]
    top = first // stride
    return (
        order,
        values[first].astype(np.int64),
        top,
        first - top * stride,
        left,
        right[order] - left,
        last[order] - top + 1,
        area[order],
    )


def _changes(values: npt.NDArray[Any]) -> Column:
    """Where a value differs from the one before it, ascending.

    NumPy finds set bytes one by one where fewer than a tenth of them are; to find eight at a time first takes two
    thirds of that.
    """
    changed = np.zeros(-(-values.size // 8) * 8, np.bool_)
    np.not_equal(values[1:], values[:-1], out=changed[1 : values.size])
    eights = changed.view(np.uint64)
    filled = np.flatnonzero(eights != 0)
    at = np.flatnonzero(eights[filled].view(np.bool_))
    found: Column = (filled[at >> 3] << 3) + (at & 7)
    return found
