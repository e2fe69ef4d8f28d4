"""HDF5 files: one of their arrays, its sides as they are stored, by h5py. Groups are steps on the way to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from builder.errors import UnreadableError
from builder.readers.arrays import NUMERIC, WITHHELD, checked_dtype, header_of, image_of, itself, nobody, steps_to
from builder.readers.image import Header, Picture, Volume, VolumeSeries
from builder.readers.rules import DEFAULT_RULES, ReadRules

CARRIES_IDENTIFIERS: Final = False
read_patient, files_of = nobody, itself
"""See `builder.readers.files.Reader`."""

_FILTERS: Final = frozenset({1, 2, 3})
"""HDF5 filters of the library itself: deflate, shuffle, check sum. Others are plug-ins that it would look for."""


def read_header(path: Path, rules: ReadRules = DEFAULT_RULES) -> Header:
    """See `builder.readers.files.Reader`."""
    return header_of(array_of(path, rules, header=True).shape)


def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Picture | Volume | VolumeSeries:
    """See `builder.readers.files.Reader`; a volume has no geometry."""
    return image_of(array_of(path, rules, header=False))


def array_of(path: Path, rules: ReadRules, *, header: bool) -> npt.NDArray[Any]:
    """The array that is meant, its sides as they are stored; for a header one of its shape, without content.

    Raises:
        UnreadableError: It is not there, holds no numbers, is damaged, or larger than the rules allow.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            names = [name for name in file if not name.startswith("#")]
            arrays = [name for name in names if isinstance(_inside(file, name), h5py.Dataset)]
            found: Any = file
            for step in steps_to(rules.variable, arrays, names):
                found = _inside(found, step)
            shape = _checked_dataset(found, rules)
            if header:
                return np.broadcast_to(np.uint8(0), shape)
            return np.asarray(found[()])
    except UnreadableError:
        raise
    except Exception as error:  # h5py raises what HDF5's own errors look most like
        if isinstance(error, OSError) and error.errno is not None:
            raise
        what = "damaged: HDF5 cannot read it"
        raise UnreadableError(f"{what} ({error}); fetch it again", withheld=f"{what}; {WITHHELD}") from None


def _inside(group: Any, name: str) -> Any:
    """What a group holds under a name; nothing of another file."""
    if not isinstance(group, h5py.Group) or name not in group:
        what = f"files.variables names {name!r}"
        held = f"holds {', '.join(group)}" if isinstance(group, h5py.Group) else "is no struct"
        raise UnreadableError(f"{what}, but what it stands in {held}", withheld=f"{what}, which is not there")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise UnreadableError("an array is a link to another place or file; expected the array itself")
    return group[name]


def _checked_dataset(found: Any, rules: ReadRules) -> tuple[int, ...]:
    """The shape of a data set that holds numbers, all of them in the file itself, and within the rules."""
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise UnreadableError("what files.variables names is a struct or a cell; expected an array")
    if found.attrs.get("MATLAB_class", b"double").decode() not in NUMERIC or found.attrs.get("MATLAB_empty"):
        raise UnreadableError("what files.variables names is text, a cell or empty; expected an array of numbers")
    if found.external or found.is_virtual:
        raise UnreadableError("its values lie in other files; expected them in the file itself")
    created = found.id.get_create_plist()
    if not {created.get_filter(number)[0] for number in range(created.get_nfilters())} <= _FILTERS:
        raise UnreadableError("it is packed by a filter that is not HDF5's own; save it anew with gzip or none")
    width = checked_dtype(found.dtype).itemsize
    rules.check_size(found.shape, width)
    if found.chunks is not None:  # HDF5 unpacks whole chunks
        rules.check_size(found.chunks, width)
    return tuple(found.shape)
