"""NIfTI-1 and -2: .nii, .nii.gz, and pairs of .hdr and .img; Analyze 7.5 pairs. Headers by nibabel, gzip by ISA-L.

Standard: https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields and NIfTI-2 as nibabel reads it. NIfTI is RAS.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from isal import igzip, igzip_lib
from nibabel.analyze import AnalyzeHeader
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from builder.errors import UnreadableError
from builder.readers.image import Header, Volume, VolumeSeries, axis_codes, checked_affine
from builder.readers.quiet import quiet_logger
from builder.readers.rules import DEFAULT_RULES, ReadRules

CARRIES_IDENTIFIERS: Final = False
"""See `builder.readers.files.Reader`."""

_RAS_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_PAIR_MAGIC: Final = (b"ni1", b"n+1")
_ISAL_ERROR: Final = cast("type[Exception]", igzip_lib.IsalError)
_LARGEST_HEADER: Final = 540
_LARGEST_OFFSET: Final = 1 << 26
"""Extensions of a header are kilobytes."""
_PIECE: Final = 1 << 18
_Asked = TypeVar("_Asked")
_Got = TypeVar("_Got")
_COLOURS: Final = (("R", "G", "B"), ("R", "G", "B", "A"))
"""Fields of the data types RGB24 and RGBA32, 8 bit each."""
_NIBABEL: Final = "nibabel.global"
"""Name of the logger of nibabel."""


def read_patient(_path: Path, _rules: ReadRules = DEFAULT_RULES) -> str | None:
    """See `builder.readers.files.Reader`; the format has no place for it that people fill."""
    return None


def files_of(path: Path) -> tuple[Path, ...]:
    """See `builder.readers.files.Reader`."""
    return (path.with_suffix(".hdr"), path.with_suffix(".img")) if _is_pair(path) else (path,)


@quiet_logger(_NIBABEL)
def read_header(path: Path, _rules: ReadRules = DEFAULT_RULES) -> Header:
    """See `builder.readers.files.Reader`."""
    with _open(_header_path(path)) as file:
        return Header(_shape(_parse(file, path))[::-1])


@quiet_logger(_NIBABEL)
def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Volume | VolumeSeries:
    """See `builder.readers.files.Reader`."""
    with _open(_header_path(path)) as file:
        header = _parse(file, path)
        shape, dtype = _shape(header), _dtype(header)
        rules.check_size(shape, dtype.itemsize)
        if _is_pair(path):
            with _open(path.with_suffix(".img")) as pixels:
                data = _voxels(pixels, shape, dtype, _offset(header["vox_offset"]))
        else:
            data = _voxels(file, shape, dtype, _offset(header["vox_offset"]) - file.tell())
            if isinstance(file, igzip.IGzipFile):
                _read_to_end(file, rules)
    slope, intercept = _scaling(header)
    affine = _affine(header) if rules.geometry else None
    return (Volume if len(shape) == 3 else VolumeSeries)(
        array=_rgb(data) if dtype.names else data,
        affine=affine,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        stored_axes=None if affine is None else axis_codes(affine),
    )


def _scaling(header: Any) -> tuple[float | None, float | None]:
    """Slope and intercept."""
    try:
        return header.get_slope_inter() if hasattr(header, "get_slope_inter") else (None, None)
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise UnreadableError(f"damaged NIfTI header: {error}") from None


def _affine(header: Any) -> npt.NDArray[np.float64]:
    """The affine in LPS."""
    try:
        affine = _RAS_TO_LPS @ np.asarray(header.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise UnreadableError(f"damaged NIfTI header: {error}") from None
    return checked_affine(affine)


def _offset(stored: Any) -> int:
    """Where the voxels begin; a NIfTI-1 header has it as a float."""
    offset = float(stored)
    if not 0 <= offset < _LARGEST_OFFSET:
        raise UnreadableError(f"damaged NIfTI header: its voxels begin at byte {offset:g}")
    return int(offset)


def _is_pair(path: Path) -> bool:
    return path.suffix.lower() in (".hdr", ".img")


def _header_path(path: Path) -> Path:
    if not _is_pair(path):
        return path
    header, pixels = path.with_suffix(".hdr"), path.with_suffix(".img")
    for part in (header, pixels):
        if not part.is_file():
            raise UnreadableError(f"a pair of .hdr and .img, but the {part.suffix.lower()} is missing")
    return header


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", igzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb"))


def _parse(file: BinaryIO, path: Path) -> Any:
    """The header; leaves the file behind it."""
    start = _read(file, _LARGEST_HEADER)
    size = struct.unpack_from("<i", start)[0] if len(start) >= 4 else 0
    wide = size in (540, struct.unpack("<i", struct.pack(">i", 540))[0])
    narrow = size in (348, struct.unpack("<i", struct.pack(">i", 348))[0])
    if not (wide or narrow):
        raise UnreadableError(f"no NIfTI file: its first number is {size}, expected 348 (NIfTI-1) or 540 (NIfTI-2)")
    pair = _is_pair(path)
    if pair and narrow and start[344:347] not in _PAIR_MAGIC:
        kind = AnalyzeHeader
    else:
        kind = (Nifti2PairHeader if pair else Nifti2Header) if wide else (Nifti1PairHeader if pair else Nifti1Header)
    length = 540 if wide else 348
    if len(start) < length:
        raise UnreadableError(f"truncated: {len(start)} bytes, its header alone has {length}")
    try:
        header: Any = kind(start[:length])  # type: ignore[no-untyped-call]
    except (WrapStructError, HeaderDataError, ValueError, OverflowError) as error:
        raise UnreadableError(f"damaged NIfTI header: {error}") from None
    file.seek(length)
    return header


def _shape(header: Any) -> tuple[int, ...]:
    """(x, y, z), or (x, y, z, n); a flat image has one slice."""
    sides = tuple(int(side) for side in header.get_data_shape())
    sides += (1,) * (3 - len(sides))
    while len(sides) > 3 and sides[-1] == 1:
        sides = sides[:-1]
    if any(side < 1 for side in sides):
        raise UnreadableError(f"damaged NIfTI header: its dimensions are {' x '.join(map(str, sides))}")
    if len(sides) > 4:
        raise UnreadableError(f"has {len(sides)} dimensions ({' x '.join(map(str, sides))}), expected 3 or 4")
    return sides


def _dtype(header: Any) -> np.dtype[Any]:
    try:
        dtype = header.get_data_dtype()
    except HeaderDataError as error:
        raise UnreadableError(f"damaged NIfTI header: {error}") from None
    if dtype.names not in _COLOURS and (dtype.kind not in "iuf" or dtype.itemsize > 8):
        raise UnreadableError(f"holds {dtype} voxels, expected integers or floats of up to 64 bit, or colours of 8 bit")
    return cast("np.dtype[Any]", dtype)


def _rgb(data: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Colours as a last axis, without their alpha."""
    return data[..., np.newaxis].view(np.uint8)[..., :3]


def _voxels(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any], skip: int) -> npt.NDArray[Any]:
    """Read the voxels straight into their array, (Z, Y, X) or (N, Z, Y, X), in the machine's byte order."""
    if skip < 0:
        raise UnreadableError(f"damaged NIfTI header: its voxels would begin {-skip} bytes inside the header")
    if len(_read(file, skip)) != skip:
        raise UnreadableError("truncated before its voxels")
    expected = math.prod(shape) * dtype.itemsize
    data = _fill(file, expected)
    array = data.view(dtype).reshape(shape[::-1])
    return array if dtype.isnative else array.byteswap().view(dtype.newbyteorder())


def _fill(file: BinaryIO, expected: int) -> npt.NDArray[np.uint8]:
    """Read ``expected`` bytes; pages that nothing was read into take no memory, whatever the header promises."""
    data = np.empty(expected, np.uint8)
    view, done = data.data, 0
    while done < expected:
        count = _guarded(file.readinto, view[done : done + _PIECE])  # type: ignore[attr-defined]
        if not count:
            raise UnreadableError(f"truncated: {done:,} of {expected:,} bytes of voxels; fetch it again")
        done += count
    return data


def _read_to_end(file: BinaryIO, rules: ReadRules) -> None:
    """Read what follows the voxels: the check sum of a gzip file is looked at with its last byte alone."""
    count = 0
    while piece := _read(file, _PIECE):
        count += len(piece)
        rules.check_bytes(count)


def _read(file: BinaryIO, size: int) -> bytes:
    return _guarded(file.read, size)


def _guarded(read: Callable[[_Asked], _Got], asked: _Asked) -> _Got:
    try:
        return read(asked)
    except (EOFError, zlib.error, _ISAL_ERROR, igzip.BadGzipFile, io.UnsupportedOperation) as error:
        raise UnreadableError(f"damaged gzip file ({error}); fetch it again from its source") from None
