"""Source values become pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from builder.readers.image import Picture, Volume
from builder.sources.recipe import IntensityRule
from sa_med2d_20m import Intensity, SAMed2DError
from shards.console import plural

_TABLE: Final = 65536


class IntensityError(SAMed2DError):
    """The intensity rule of a recipe cannot hold for an image; the message says why and what to do."""


@dataclass(frozen=True)
class Scaled:
    """A slice as it is stored.

    Attributes:
        pixels: (H, W) or (H, W, 3), uint8 or uint16.
        intensity: How they relate to the source.
    """

    pixels: npt.NDArray[np.uint8 | np.uint16]
    intensity: Intensity


CT_NUMBERS: Final = (-1024.0, 3071.0)
"""HU that the 12 bits of a CT scanner hold: 0 to 4095 with a Rescale Intercept of -1024.

Below lies what is no measurement: Pixel Padding Value (DICOM PS3.3, C.7.5.1.1.2) outside of the circle, such as -2000
stored for -3024 HU, and what resampling leaves beside edges. Above lies metal alone, in the extended scale that some
scanners have (to 30710 or 31743 HU); those without it store 3071 there.
"""
_AIR: Final = -900.0
"""HU: values of a CT that all lie above are an offset or other scale, where 0 may be air, or show no air."""

Scaling = Callable[[npt.NDArray[Any]], Scaled | None]
"""Scales a slice of stored values, (H, W) or (H, W, 3); gives None for a slice with one single value."""


def scaling_of(rule: IntensityRule, image: Picture | Volume, modality: str = "") -> Scaling:
    """Choose how the slices of an image are scaled.

    The range of a CT in HU is that of `CT_NUMBERS`: what lies below counts as air, what lies above as 3071.

    Args:
        rule: ``[intensity]`` of the recipe.
        image: (Z, Y, X), (Z, Y, X, 3) or a picture, in stored values.
        modality: That of the recipe.

    Raises:
        IntensityError: The rule cannot hold for this image.
    """
    slope, intercept = image.slope, image.intercept
    ready = isinstance(image, Picture) or image.array.ndim == 4
    if ready and image.array.dtype == np.uint8 and rule.mode in ("slice", "lossless"):
        return _keep
    if rule.mode in ("slice", "volume"):
        limits = CT_NUMBERS if modality == "ct" and _in_hounsfield(image) else (-np.inf, np.inf)
        whole = _range(image.array) if rule.mode == "volume" else None
        return lambda values: _min_max(values, whole, limits, slope, intercept)
    if rule.mode == "window":
        center, width = float(rule.center or 0), float(rule.width or 1)
        return lambda values: _window(values, center - width / 2, width, slope, intercept)
    return _lossless(image)


def rescale(values: npt.NDArray[Any], low: float, high: float, *, flip: bool = False) -> npt.NDArray[np.uint8]:
    """Scale values to 8 bit: ``round((x - low) / (high - low) * 255)``.

    It computes in float64, rounds halves to even and clips values outside. Integers whose range is at most 16 bit go
    through a table of their possible values, which gives the very same numbers.

    Args:
        values: Any shape, integers or floats.
        low: Value that becomes 0.
        high: Value that becomes 255; more than ``low``.
        flip: Turn dark and bright, for a negative slope.

    Returns:
        The shape of the values, uint8.
    """
    if values.dtype.kind not in "iu":
        return _levels(values.astype(np.float64), low, high, flip)
    if values.dtype == np.uint8:
        pixels: npt.NDArray[Any] = np.asarray(cv2.LUT(values, _levels_of_bytes(low, high, flip)))
        return pixels.reshape(values.shape)
    first, last = int(values.min()), int(values.max())
    if last - first >= min(_TABLE, values.size):
        return _levels(values.astype(np.float64), low, high, flip)
    table = _levels(np.arange(first, last + 1, dtype=np.float64), low, high, flip)
    return np.take(table, _offsets(values, first))


@lru_cache(maxsize=256)
def _levels_of_bytes(low: float, high: float, flip: bool) -> npt.NDArray[np.uint8]:
    """The levels of 0 to 255; many slices of a volume share them."""
    return _levels(np.arange(256, dtype=np.float64), low, high, flip)


def _levels(values: npt.NDArray[np.float64], low: float, high: float, flip: bool) -> npt.NDArray[np.uint8]:
    levels = (high - values) if flip else (values - low)
    levels /= high - low
    levels *= 255
    np.rint(levels, out=levels)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


def _offsets(values: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
    """``values - first`` as unsigned integers; the caller has made sure that 16 bit hold it."""
    offsets: npt.NDArray[Any] = np.subtract(values, values.dtype.type(first))  # wraps around, which is right
    if values.dtype.itemsize > 2:
        return offsets.astype(np.uint16)
    unsigned: npt.NDArray[Any] = offsets.view(f"u{values.dtype.itemsize}")
    return unsigned


def _range(values: npt.NDArray[Any]) -> tuple[Any, Any]:
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        count = int(values.size - np.isfinite(values).sum())
        raise IntensityError(f"the image holds {plural(count, 'NaN or infinite value')}; replace them at the source")
    return low.item(), high.item()


def _source(stored: tuple[float, float], slope: float, intercept: float) -> tuple[float, float]:
    low, high = sorted(slope * value + intercept for value in stored)
    return float(low), float(high)


def _keep(values: npt.NDArray[Any]) -> Scaled | None:
    low, high = _range(values)
    return None if low == high else Scaled(values, Intensity(float(low), float(high), "none", 1.0, 0.0, 0))


def _in_hounsfield(image: Picture | Volume) -> bool:
    return _source(_range(image.array), image.slope, image.intercept)[0] <= _AIR


def _min_max(
    values: npt.NDArray[Any],
    volume: tuple[Any, Any] | None,
    limits: tuple[float, float],
    slope: float,
    intercept: float,
) -> Scaled | None:
    """Scale by a range in stored values, that of the volume or else the slice's own, within limits in source values."""
    own = _range(values)
    whole = own if volume is None else volume
    (low, high), (start, end) = _source(own, slope, intercept), _source(whole, slope, intercept)
    if start < limits[0] or end > limits[1]:
        start, end = max(start, limits[0]), min(end, limits[1])
        first, last = ((edge - intercept) / slope for edge in (start, end))
        whole = (first, last) if slope > 0 else (last, first)
    if own[0] == own[1] or max(low, start) >= min(high, end):
        return None
    pixels = rescale(values, *whole, flip=slope < 0)
    scaling, outside = "slice" if volume is None else "volume", _outside(values, own, whole)
    return Scaled(pixels, Intensity(low, high, scaling, (end - start) / 255, start, outside))


def _outside(values: npt.NDArray[Any], own: tuple[Any, Any], whole: tuple[Any, Any]) -> int:
    """How many values, whose range is given, lie outside of a range."""
    low, high = whole
    below = np.count_nonzero(values < low) if own[0] < low else 0
    return int(below + (np.count_nonzero(values > high) if own[1] > high else 0))


def _window(values: npt.NDArray[Any], start: float, width: float, slope: float, intercept: float) -> Scaled | None:
    own = _range(values)
    if own[0] == own[1]:
        return None
    edges = sorted(((start - intercept) / slope, (start + width - intercept) / slope))
    low, high = _source(own, slope, intercept)
    return Scaled(
        rescale(values, edges[0], edges[1], flip=slope < 0),
        Intensity(low, high, "window", width / 255, start, _outside(values, own, (edges[0], edges[1]))),
    )


def _lossless(image: Picture | Volume) -> Scaling:
    """16 bit pixels: stored values counted from the volume's lowest (highest, where the slope is negative)."""
    array, slope, intercept = image.array, image.slope, image.intercept
    low, high = _range(array)
    if array.dtype.kind == "f" and not _whole_numbers(array):
        raise IntensityError("intensity.mode 'lossless' needs whole numbers, the image holds fractions; use 'volume'")
    if high - low >= _TABLE:
        raise IntensityError(
            f"intensity.mode 'lossless' holds {_TABLE} values, the image spans {high - low:g}; use 'volume' or 'window'"
        )
    base, step = (low, 1) if slope > 0 else (high, -1)

    def scale(values: npt.NDArray[Any]) -> Scaled | None:
        own = _range(values)
        if own[0] == own[1]:
            return None
        pixels = ((values.astype(np.int64) - int(base)) * step).astype(np.uint16)
        first, last = _source(own, slope, intercept)
        return Scaled(pixels, Intensity(first, last, "lossless", abs(slope), slope * base + intercept, 0))

    return scale


def _whole_numbers(array: npt.NDArray[Any]) -> bool:
    planes = array if array.ndim == 3 else array[np.newaxis]
    return all(bool((plane == np.rint(plane)).all()) for plane in planes)
