"""MATLAB files: version 5 (up to 7.2) by SciPy, version 7.3, which is HDF5, by h5py.

MATLAB stores columns first, and HDF5 rows first, so that the axes of version 7.3 come reversed. Either way an array is
rows x columns x slices, as MATLAB shows it; colours stand last. A volume becomes (Z, Y, X) with slices as Z.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from builder.errors import UnreadableError
from builder.readers.arrays import NUMERIC, WITHHELD, checked_dtype, header_of, image_of, itself, nobody, steps_to
from builder.readers.compressed import inflated_size
from builder.readers.image import Header, Picture, Volume, VolumeSeries
from builder.readers.rules import DEFAULT_RULES, ReadRules

CARRIES_IDENTIFIERS: Final = False
read_patient, files_of = nobody, itself
"""See `builder.readers.files.Reader`."""

_HEADER: Final = 128
"""Bytes before the first element of version 5; its last four are version and byte order."""
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_HDF5_STARTS: Final = (0, 512, 1024, 2048)
"""MATLAB puts its own header of 512 bytes before what is HDF5."""
_COMPRESSED: Final = 15
"""Type of an element whose content is a zlib stream (MAT-File Format, table 1-1)."""


def read_header(path: Path, rules: ReadRules = DEFAULT_RULES) -> Header:
    """See `builder.readers.files.Reader`."""
    return header_of(_with_slices_first(_reader_of(path)(path, rules, header=True)).shape)


def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Picture | Volume | VolumeSeries:
    """See `builder.readers.files.Reader`; a volume has no geometry."""
    return image_of(_with_slices_first(_reader_of(path)(path, rules, header=False)))


def _reader_of(path: Path) -> Callable[..., npt.NDArray[Any]]:
    with path.open("rb") as file:
        start = file.read(max(_HDF5_STARTS) + len(_HDF5))
    if any(start[at : at + len(_HDF5)] == _HDF5 for at in _HDF5_STARTS):
        return _read_hdf5
    if start[124:128] in (b"\x00\x01IM", b"\x01\x00MI"):
        return _read_version5
    raise UnreadableError("it is damaged, or no MATLAB file of version 5 to 7.3; save it with -v7")


def _with_slices_first(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows x columns (x slices (x volumes)) as slices x rows x columns; colours stay last."""
    if array.ndim == 3 and array.shape[2] not in (1, 3):
        return np.moveaxis(array, 2, 0)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array


# --- version 5


def _read_version5(path: Path, rules: ReadRules, *, header: bool) -> npt.NDArray[Any]:
    """The array that is meant; for a header one of its shape, without content where that spares reading it."""
    _check_elements(path, rules)
    import scipy.io  # noqa: PLC0415 - a quarter of a second

    try:
        with warnings.catch_warnings(action="ignore"):
            held = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
            steps = steps_to(rules.variable, [name for name, (_, kind) in held.items() if kind in NUMERIC], list(held))
            shape, kind = held[steps[0]]
            if kind in NUMERIC:
                rules.check_size(shape, 1)
                if header and len(steps) == 1:
                    return np.broadcast_to(np.uint8(0), shape)
            value: Any = scipy.io.loadmat(path, variable_names=[steps[0]])[steps[0]]
    except UnreadableError:
        raise
    except Exception as error:  # what SciPy raises for a damaged element is not documented
        if isinstance(error, OSError) and error.errno is not None:
            raise
        what = "damaged: SciPy cannot read it"
        raise UnreadableError(f"{what} ({error}); fetch it again", withheld=f"{what}; {WITHHELD}") from None
    for number, step in enumerate(steps[1:], 1):
        value = _field(value, step, ".".join(steps[:number]))
    return _checked(value, rules)


def _field(value: Any, step: str, where: str) -> Any:
    fields = (value.dtype.names or ()) if isinstance(value, np.ndarray) else ()
    if step not in fields or value.size != 1:
        holds = f"the fields {', '.join(fields)}" if fields else "no fields"
        count = f", {value.size} times" if fields and value.size != 1 else ""
        what = f"files.variables names the field {step!r} of {where!r}"
        raise UnreadableError(f"{what}, which has {holds}{count}; expected one struct with it", withheld=what)
    return value.ravel()[0][step]


def _checked(value: Any, rules: ReadRules) -> npt.NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise UnreadableError("what files.variables names is a sparse matrix or no array; expected a full array")
    checked_dtype(value.dtype)
    rules.check_size(value.shape, value.dtype.itemsize)
    return value


def _check_elements(path: Path, rules: ReadRules) -> None:
    """Refuse elements that break off, whose check sums are wrong or that become too large, before any is read."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        for kind, start, length in _elements(file, size):
            if kind == _COMPRESSED:
                file.seek(start)
                inflated_size(file, length, rules)


def _elements(file: BinaryIO, size: int) -> Iterator[tuple[int, int, int]]:
    """Type, start and length of each element of a file."""
    file.seek(_HEADER - 2)
    order, at = "<" if file.read(2) == b"IM" else ">", _HEADER
    while at < size:
        file.seek(at)
        tag = file.read(8)
        if len(tag) < 8:
            raise UnreadableError("truncated: it breaks off within an element; fetch it again")
        kind, length = struct.unpack(f"{order}II", tag)
        if at + 8 + length > size:
            raise UnreadableError("truncated: it breaks off within an element; fetch it again")
        yield kind, at + 8, length
        at += 8 + length


# --- version 7.3


def _read_hdf5(path: Path, rules: ReadRules, *, header: bool) -> npt.NDArray[Any]:
    """The array that is meant, its axes in MATLAB's order; for a header one of its shape, without content."""
    from builder.readers import hdf5  # noqa: PLC0415 - loads h5py, a quarter of a second

    return hdf5.array_of(path, rules, header=header).T
