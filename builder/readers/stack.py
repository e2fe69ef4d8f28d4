"""A folder of pictures, one for each slice: a volume without geometry, its slices in the order of names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from builder.errors import UnreadableError
from builder.readers import picture
from builder.readers.image import Header, Picture, Volume
from builder.readers.rules import DEFAULT_RULES, ReadRules

CARRIES_IDENTIFIERS: Final = False
"""See `builder.readers.files.Reader`."""

_NUMBER: Final = re.compile(r"(\d+)")


def name_order(path: Path) -> tuple[list[str | int], str]:
    """Key that sorts by names, with numbers in them by their value: ``slice_9`` before ``slice_10``."""
    parts = _NUMBER.split(path.name)
    numbered: list[str | int] = [int(part) if at % 2 else part for at, part in enumerate(parts)]
    return numbered, path.name


def read_patient(_path: Path, _rules: ReadRules = DEFAULT_RULES) -> str | None:
    """See `builder.readers.files.Reader`; pictures have no place for it that people fill."""
    return None


def files_of(path: Path) -> tuple[Path, ...]:
    """The pictures of a folder in the order of names; see `builder.readers.files.Reader`."""
    with os.scandir(path) as entries:
        return tuple(sorted((path / one.name for one in entries if one.name[0] != "."), key=name_order))


def read_header(path: Path, rules: ReadRules = DEFAULT_RULES) -> Header:
    """See `builder.readers.files.Reader`; the sides are those of the first picture."""
    files = files_of(path)
    return Header((len(files), *_sides(files[0], rules)), placed=False)


def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Volume:
    """Read all pictures of a folder; they are of one size and kind. See `builder.readers.files.Reader`."""
    files = files_of(path)
    sides = _sides(files[0], rules)
    rules.check_size((len(files), *sides), 1)
    first = _plane(files[0], 1, len(files), rules)
    rules.check_size((len(files), *first.shape), first.dtype.itemsize)
    volume = np.empty((len(files), *first.shape), first.dtype)
    for number, file in enumerate(files, 1):
        plane = first if number == 1 else _plane(file, number, len(files), rules)
        if plane.shape != first.shape or plane.dtype != first.dtype:
            raise UnreadableError(
                f"picture {number} of {len(files)} in the order of names is {_kind(plane)}, the first {_kind(first)}; "
                "expected one size and kind in a stack"
            )
        volume[number - 1] = plane
    return Volume(volume, affine=None)


def _sides(file: Path, rules: ReadRules) -> tuple[int, ...]:
    return picture.read_header(file, rules).shape


def _plane(file: Path, number: int, count: int, rules: ReadRules) -> npt.NDArray[Any]:
    """(H, W) or (H, W, 3) of one picture; opaque colours, as a volume has them."""
    place = f"picture {number} of {count} in the order of names"
    try:
        image = picture.read(file, rules)
    except UnreadableError as error:
        withheld = None if error.withheld is None else f"{place}: {error.withheld}"
        raise UnreadableError(f"{place}: {error}", withheld=withheld) from None
    if not isinstance(image, Picture):
        raise UnreadableError(f"{place} is a TIFF of several pages; expected one picture for each slice")
    return image.array[..., :3] if image.array.ndim == 3 else image.array


def _kind(plane: npt.NDArray[Any]) -> str:
    return f"{plane.dtype.name} of {' x '.join(str(side) for side in plane.shape)}"
