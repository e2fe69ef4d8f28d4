"""The pixels of a mask file are read: as values, colours, instances, or by a threshold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from builder.cases.case import MaskFile
from builder.conversion.masks.encoding import MaskEncoding
from builder.errors import CaseError
from builder.readers.image import Picture, Volume, grey_of, source_values
from builder.sources.recipe import COLOUR, Masks
from shards.console import plural

_TABLE: Final = 1 << 20
_BYTES: Final = 256
_LISTED: Final = 8
_JPEG: Final = (".jpg", ".jpeg")
_ROUNDING: Final = 1e-3
"""How far a label that is stored as a float may be off a whole number."""


def look_up(table: npt.NDArray[Any], values: npt.NDArray[Any], first: int = 0) -> npt.NDArray[Any]:
    """Look up ``table[values - first]``, slice by slice.

    NumPy widens indices to 64 bit, which for a whole volume of 8 bit would take eight times its memory. Most label maps
    hold nothing beyond 0 to 255, which OpenCV looks up in a quarter of the time.

    Args:
        table: (N,) uint8 or uint16.
        values: (Z, Y, X) integers from ``first`` to ``first + N - 1``.
        first: Value that the table begins with.

    Returns:
        (Z, Y, X) of the table's dtype.
    """
    found = np.empty(values.shape, table.dtype)
    narrow = first >= 0 and first + table.size <= _BYTES
    if narrow:
        every = np.zeros(_BYTES, table.dtype)
        every[first : first + table.size] = table
    for plane, out in zip(values, found, strict=True):
        if narrow:
            cv2.LUT(plane.astype(np.uint8, order="C", copy=False), every, out)
        else:
            np.take(table, plane if first == 0 else np.subtract(plane, first, dtype=np.int32), out=out, mode="clip")
    return found


def _volume_of(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values[np.newaxis] if values.ndim == 2 else values


def _grey(image: Picture | Volume, file: MaskFile, *, mix: bool) -> npt.NDArray[Any]:
    """The values of a mask as (Z, Y, X); equal colour channels are one, unequal ones are mixed where that is asked."""
    values = source_values(image)
    if isinstance(image, Volume) or values.ndim == 2:
        return _volume_of(values)
    grey = grey_of(values)
    if grey is not None:
        return _volume_of(grey)
    if mix:
        return _volume_of(cv2.cvtColor(np.ascontiguousarray(values[..., :3]), cv2.COLOR_RGB2GRAY))
    raise CaseError(
        "labels",
        file.path,
        "the mask is coloured; name its classes by colour in [labels] or set masks.threshold",
    )


def foreground(image: Picture | Volume, file: MaskFile, rule: Masks) -> npt.NDArray[np.bool_]:
    """Read a mask of one class.

    Args:
        image: The mask, (Z, Y, X) or a picture.
        file: Where it was read.
        rule: ``[masks]`` of the recipe.

    Returns:
        Where the class is, (Z, Y, X) bool; Z is 1 for a picture.

    Raises:
        CaseError: Stage ``labels``: the mask is coloured, and no threshold says what is foreground.
    """
    values = _grey(image, file, mix=rule.threshold is not None)
    foreground = values != 0 if rule.threshold is None else values >= rule.threshold
    return ~foreground if rule.inverted else foreground


def background_value(rule: Masks) -> int:
    """A value that `foreground` takes for background; 0 in label maps.

    Args:
        rule: ``[masks]`` of the recipe.
    """
    if rule.threshold is None:
        return int(rule.inverted)
    return math.ceil(rule.threshold) if rule.inverted else min(0, math.ceil(rule.threshold) - 1)


def _integers(values: npt.NDArray[Any], file: MaskFile) -> npt.NDArray[Any]:
    """Label values that are stored as floats, as integers; converted plane by plane."""
    if values.dtype.kind in "iu":
        return values
    largest = max(abs(float(values.min(initial=0))), abs(float(values.max(initial=0))))
    whole = np.empty(values.shape, np.int32 if largest < 2**31 else np.int64)
    for plane, out in zip(values, whole, strict=True):
        rounded = np.rint(plane)
        off = np.abs(rounded - plane)
        if not off.max(initial=0) <= _ROUNDING:  # also where it is NaN
            example = float(plane.ravel()[np.argmax(np.nan_to_num(off, nan=np.inf))])
            raise CaseError(
                "labels",
                file.path,
                f"the mask holds fractions such as {example:.4g}, expected whole label values; "
                "set masks.threshold if it is a probability map",
            )
        out[...] = rounded
    return whole


def count_values(values: npt.NDArray[Any]) -> dict[int, int]:
    """Count the voxels of each value, rounded to whole numbers; what is no finite number is left out.

    Args:
        values: (Z, Y, X).
    """
    counts: Counter[int] = Counter()
    for plane in values:
        whole = np.rint(plane[np.isfinite(plane)]) if plane.dtype.kind == "f" else plane
        found, times = np.unique(whole, return_counts=True)
        counts.update(dict(zip((int(value) for value in found), times.tolist(), strict=True)))
    return counts


def instance_numbers(image: Picture | Volume, file: MaskFile, rule: Masks) -> npt.NDArray[Any]:
    """Read an instance map.

    Args:
        image: The mask, (Z, Y, X) or a picture.
        file: Where it was read.
        rule: ``[masks]`` of the recipe.

    Returns:
        The number of the object of each voxel, (Z, Y, X) unsigned integers, 0 for background; Z is 1 for a picture.

    Raises:
        CaseError: Stage ``labels``: the mask is coloured, or holds fractions or negative values.
    """
    values = _integers(_grey(image, file, mix=False), file)
    if values.min(initial=0) < 0:
        raise CaseError("labels", file.path, f"an instance map holds {values.min()}, expected 0 for background and up")
    for value in rule.ignored_values:
        values = np.where(values == value, 0, values)
    return values.astype(np.min_scalar_type(int(values.max(initial=0))), copy=False)


def read_class_map(
    image: Picture | Volume, file: MaskFile, encoding: MaskEncoding
) -> tuple[npt.NDArray[Any], str | None]:
    """Read a label map or a colour-coded mask.

    Args:
        image: The mask, (Z, Y, X) or a picture.
        file: Where it was read.
        encoding: How it encodes classes.

    Returns:
        The class number of each voxel, (Z, Y, X) of ``encoding.dtype``, 0 for background; Z is 1 for a picture. And
        which values or colours have no class, None where all have; their voxels are background.

    Raises:
        CaseError: Stage ``labels``: the mask is coloured where ``[labels]`` names values, is no 8-bit picture where it
            names colours, or holds fractions.
    """
    if encoding.colours:
        return _from_colours(image, file, encoding)
    ignored = dict.fromkeys(encoding.rule.ignored_values, 0)
    table = {0: 0, **ignored, **{int(key): number for key, number in encoding.labels.items()}}
    class_map, unnamed = _translate(_integers(_grey(image, file, mix=False), file), table, encoding.dtype)
    return class_map, _unnamed_values(unnamed, table, file) if unnamed and not encoding.rule.only_named else None


def _translate(
    values: npt.NDArray[Any], table: Mapping[int, int], dtype: type[np.uint8 | np.uint16]
) -> tuple[npt.NDArray[Any], list[int]]:
    """Replace label values by class numbers; gives also the values that the table has not."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if high - low >= _TABLE:
        return _translate_sparse(values, table, dtype)
    nameless = np.iinfo(dtype).max
    numbers: npt.NDArray[Any] = np.full(high - low + 1, nameless, dtype)
    for value, number in table.items():
        if low <= value <= high:
            numbers[value - low] = number
    class_map = look_up(numbers, values, low)
    if class_map.max(initial=0) != nameless:
        return class_map, []
    unnamed = np.unique(values[class_map == nameless])
    class_map[class_map == nameless] = 0
    return class_map, unnamed.tolist()


def _translate_sparse(
    values: npt.NDArray[Any], table: Mapping[int, int], dtype: type[np.uint8 | np.uint16]
) -> tuple[npt.NDArray[Any], list[int]]:
    """`_translate` for values so far apart that a table of all between would be larger than the mask."""
    present = np.unique(np.concatenate([np.unique(plane) for plane in values]))
    numbers = np.array([table.get(int(value), 0) for value in present], dtype)
    class_map = np.empty(values.shape, dtype)
    for plane, out in zip(values, class_map, strict=True):
        np.take(numbers, np.searchsorted(present, plane), out=out, mode="clip")
    return class_map, [int(value) for value in present if int(value) not in table]


def _unnamed_values(values: Sequence[int], table: Mapping[int, int], file: MaskFile) -> str:
    """What is said of values without a class: all of them, those beyond the first few behind the advice."""
    known = listed(value for value in sorted(table) if value)
    advice = "add them there, or to masks.ignore"
    if file.path.lower().endswith(_JPEG):
        advice = "JPEG makes such values around edges: where the mask has one class, set masks.threshold, such as 128"
    if len(values) <= _LISTED:
        return f"the mask holds the values {listed(values)}, which [labels] does not name (it names {known}); {advice}"
    return (
        f"the mask holds {plural(len(values), 'value')} that [labels] does not name (it names {known}); {advice}: "
        + ", ".join(_runs(values))
    )


def _runs(values: Sequence[int]) -> Iterator[str]:
    """Ascending numbers, those in a row as ``3 to 8``."""
    first = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[at - 1] + 1:
            yield f"{values[first]} to {values[at - 1]}" if at - first > 1 else str(values[first])
            first = at


def _from_colours(
    image: Picture | Volume, file: MaskFile, encoding: MaskEncoding
) -> tuple[npt.NDArray[Any], str | None]:
    if isinstance(image, Volume) or image.array.dtype != np.uint8:
        raise CaseError("labels", file.path, "[labels] names colours, but the mask is no 8-bit picture")
    pixels = image.array if image.array.ndim == 3 else cv2.cvtColor(image.array, cv2.COLOR_GRAY2RGB)
    background = _rgb(encoding.rule.background)
    table = {background: 0}
    table |= {_rgb(str(value)): 0 for value in encoding.rule.ignore if COLOUR.fullmatch(str(value))}
    table |= {_rgb(key): number for key, number in encoding.labels.items()}
    if pixels.shape[2] == 4:  # what is transparent is background
        pixels = np.where(pixels[..., 3:] == 0, np.array(background, np.uint8), pixels[..., :3])
    packed = _pack(pixels)
    present = np.unique(packed)
    colours = np.array([_unpack(int(value)) for value in present], np.int64)
    numbers, unnamed = _match_colours(colours, table, nearest=encoding.rule.color_match == "nearest")
    class_map: npt.NDArray[Any] = numbers.astype(encoding.dtype)[np.searchsorted(present, packed)]
    return class_map[np.newaxis], None if encoding.rule.only_named else unnamed


def _match_colours(
    colours: npt.NDArray[np.int64], table: Mapping[tuple[int, int, int], int], *, nearest: bool
) -> tuple[npt.NDArray[np.int64], str | None]:
    """The class numbers of (N, 3) colours, and which of them the table has not, unless the nearest will do."""
    distance = ((colours[:, np.newaxis] - np.array(list(table), np.int64)) ** 2).sum(axis=2)
    numbers: npt.NDArray[np.int64] = np.array(list(table.values()), np.int64)[distance.argmin(axis=1)]
    stray = distance.min(axis=1) > 0
    if nearest or not stray.any():
        return numbers, None
    numbers[stray] = 0
    shown = listed("#{:02x}{:02x}{:02x}".format(*colour) for colour in colours[stray])
    return numbers, (
        f"the mask holds {plural(int(stray.sum()), 'colour')} that [labels] does not name, such as {shown}; add them "
        'there or to masks.ignore, or set masks.color_match = "nearest" if they are blended edges'
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    return _unpack(int(colour.removeprefix("#"), 16))


def _unpack(value: int) -> tuple[int, int, int]:
    return value >> 16, value >> 8 & 255, value & 255


def _pack(pixels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def listed(names: Iterable[object]) -> str:
    """List the first few of some names, for a message."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:_LISTED]) + (", ..." if len(shown) > _LISTED else "")
