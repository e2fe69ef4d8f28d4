"""Arrays without geometry, as NumPy and MATLAB files hold them: what their sides mean, and which array is meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from builder.errors import UnreadableError
from builder.readers.image import Header, Picture, Volume, VolumeSeries
from builder.readers.rules import DEFAULT_RULES, ReadRules

_KINDS: Final = "biuf"
"""Kinds of NumPy types that pixels may have."""
NUMERIC: Final = frozenset(
    {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)
"""MATLAB classes whose values are numbers."""
_WIDEST: Final = 8
"""Bytes of a value."""
_COLOURS: Final = 3
_STEP: Final = re.compile(r"[./]")
_SHOWN: Final = 10
"""Names of arrays that an error lists."""
WITHHELD: Final = "why is not shown, as the library may quote the file; fetch it again from its source"
"""What an error says in the place of a library's own words."""


def nobody(_path: Path, _rules: ReadRules = DEFAULT_RULES) -> str | None:
    """Whom a file of arrays is of: these formats have no place for it."""
    return None


def itself(path: Path) -> tuple[Path, ...]:
    """Every file that is opened for a file of arrays; what it links to is not."""
    return (path,)


def checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A type that pixels can have.

    Raises:
        UnreadableError: It is another one: text, complex, structured, or objects, which only pickle reads.
    """
    if dtype.kind not in _KINDS or dtype.itemsize > _WIDEST:
        raise UnreadableError(
            f"its values are of type {dtype.name}, expected whole or real numbers of up to 64 bit",
            withheld="its values are no whole or real numbers of up to 64 bit",
        )
    return dtype


def header_of(shape: Sequence[int]) -> Header:
    """What the sides of an array say; raises as `image_of` does."""
    shape = _checked_shape(shape)
    return Header(shape[:-1] if _has_colours(shape) else shape, placed=False)


def image_of(array: npt.NDArray[Any]) -> Picture | Volume | VolumeSeries:
    """An array as an image.

    Args:
        array: (H, W), (H, W, 1) or (H, W, 3) RGB for a picture; (Z, Y, X) or (Z, Y, X, 3) RGB for a volume;
            (N, Z, Y, X) for several. A last side of 3 is always colours.

    Raises:
        UnreadableError: It has other sides, or is empty.
    """
    shape = _checked_shape(array.shape)
    array = np.ascontiguousarray(array.reshape(shape), checked_dtype(array.dtype).newbyteorder("="))
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    elif array.dtype == np.float16:  # which OpenCV does not take; float32 holds each of its values
        array = array.astype(np.float32)
    sides = len(shape) - _has_colours(shape)
    if sides == 2:
        return Picture(array)
    return Volume(array, affine=None) if sides == 3 else VolumeSeries(array, affine=None)


def chosen(names: Sequence[str], variable: str | None) -> str:
    """The array that is meant of those that a file holds.

    Raises:
        UnreadableError: None is named and there are several, or there is none of that name.
    """
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    if not names:
        raise UnreadableError("it holds no array")
    if variable is None and len(names) == 1:
        return names[0]
    if variable is None:
        what = f"it holds {len(names)} arrays"
        advice = "say which with files.variables in the recipe"
        raise UnreadableError(f"{what} ({shown}); {advice}", withheld=f"{what}; {advice}")
    if variable not in names:
        what = f"it has no array {variable!r}, which files.variables names"
        raise UnreadableError(f"{what}; it holds {shown}", withheld=what)
    return variable


def steps_to(variable: str | None, arrays: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names on the way to the array that is meant: a variable of the file, then fields of structs or groups.

    Args:
        variable: As `ReadRules.variable`.
        arrays: Names of the arrays that stand in no struct or group.
        names: Names of everything that stands in none.

    Raises:
        UnreadableError: As `chosen`.
    """
    if variable is None:
        return [chosen(arrays, None)]
    first, *others = _STEP.split(variable)
    return [chosen(names, first), *others]


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Sides of two to four dimensions, none of them 0; (H, W, 1) is (H, W)."""
    shape = tuple(shape)
    if len(shape) == 3 and shape[2] == 1:
        shape = shape[:2]
    if not 2 <= len(shape) <= 4 or 0 in shape:
        sides = " x ".join(str(side) for side in shape) or "a single value"
        raise UnreadableError(f"its array is {sides}, expected 2, 3 or 4 sides, none of them 0")
    return shape


def _has_colours(shape: Sequence[int]) -> bool:
    return len(shape) > 2 and shape[-1] == _COLOURS
