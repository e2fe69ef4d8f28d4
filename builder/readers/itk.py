"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), by SimpleITK. ITK is LPS."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

from builder.errors import UnreadableError
from builder.readers.compressed import inflated_size
from builder.readers.image import Header, Picture, Volume, VolumeSeries, axis_codes, checked_affine
from builder.readers.itk_header import NRRD, parse_header
from builder.readers.quiet import caught_stderr
from builder.readers.rules import DEFAULT_RULES, ReadRules

CARRIES_IDENTIFIERS: Final = False
"""See `builder.readers.files.Reader`."""


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Keep ITK from writing warnings to the terminal; see `builder.readers.quiet`."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def read_patient(_path: Path, _rules: ReadRules = DEFAULT_RULES) -> str | None:
    """See `builder.readers.files.Reader`; the format has no place for it that people fill."""
    return None


def files_of(path: Path) -> tuple[Path, ...]:
    """See `builder.readers.files.Reader`."""
    return path, *parse_header(path).files


@_quiet_itk()
def read_header(path: Path, _rules: ReadRules = DEFAULT_RULES) -> Header:
    """See `builder.readers.files.Reader`."""
    reader = _information(path)
    sides = tuple(int(side) for side in reversed(reader.GetSize()))
    components = reader.GetNumberOfComponents()
    return Header(sides if components == 1 or _is_colour(reader) or len(sides) != 3 else (components, *sides))


@_quiet_itk()
def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Picture | Volume | VolumeSeries:
    """Read a file; several values a voxel that are no colours are the volumes of a series. See `Reader`."""
    reader = _information(path)
    dimensions, components = reader.GetDimension(), reader.GetNumberOfComponents()
    size = reader.GetSize()
    if dimensions not in (2, 3, 4) or (components > 1 and dimensions != 3 and not (dimensions == 2 and components < 5)):
        raise UnreadableError(
            f"has {dimensions} dimensions ({' x '.join(str(side) for side in size)}) and {components} values a voxel, "
            "expected 2, 3 or 4 dimensions of one value, or 2 or 3 of several"
        )
    one = sitk.Image([1, 1], reader.GetPixelIDValue(), 1 if components == 1 else 2)
    rules.check_size(size, components * one.GetSizeOfPixelComponent())
    _check_compressed(path, math.prod(size) * components * one.GetSizeOfPixelComponent(), rules)
    said: list[str] = []
    try:
        with caught_stderr() as said:
            image = reader.Execute()
    except RuntimeError as error:
        what = "ITK cannot read its pixels"
        raise UnreadableError(f"{what}: {_reason(error, said, path)}", withheld=f"{what}; {_WITHHELD}") from None
    array = sitk.GetArrayFromImage(image)
    if dimensions == 2:
        column, row = image.GetSpacing()
        return Picture(array, (float(f"{row:.6g}"), float(f"{column:.6g}")))
    affine = _affine(image) if rules.geometry else None
    axes = None if affine is None else axis_codes(affine)
    if dimensions == 4:
        return VolumeSeries(array, affine, stored_axes=axes)
    if components == 1:
        return Volume(array, affine, stored_axes=axes)
    if _is_colour(reader):
        return Volume(array[..., :3], affine, stored_axes=axes)
    return VolumeSeries(np.moveaxis(array, -1, 0), affine, stored_axes=axes)


_WITHHELD: Final = "why is not shown, as ITK may quote the file; fetch it again from its source"


def _is_colour(reader: sitk.ImageFileReader) -> bool:
    return reader.GetPixelIDValue() == sitk.sitkVectorUInt8 and reader.GetNumberOfComponents() in (3, 4)


def _check_compressed(path: Path, expected: int, rules: ReadRules) -> None:
    """Refuse compressed pixels that are damaged or too few; ITK stops without a look at their check sum."""
    header = parse_header(path)
    where = header.compression
    if where is None:
        return
    size = 0
    for part in dict.fromkeys(file.resolve() for file in header.files if file.is_file()) if header.files else (path,):
        with part.open("rb") as file:
            file.seek(where.start)
            for _ in range(where.lines):
                file.readline()
            size += max(inflated_size(file, where.length, rules) - where.skip, 0)
    if size < expected:
        raise UnreadableError(f"truncated: its pixels are {size:,} bytes, its header says {expected:,}; fetch it again")


def _information(path: Path) -> sitk.ImageFileReader:
    parse_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    # by name: asked what a damaged file may be, ITK lets every format it knows try, and some take gigabytes
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in NRRD else "MetaImageIO")
    said: list[str] = []
    try:
        with caught_stderr() as said:
            reader.ReadImageInformation()
    except RuntimeError as error:
        what = "ITK cannot read its header"
        raise UnreadableError(f"{what}: {_reason(error, said, path)}", withheld=f"{what}; {_WITHHELD}") from None
    return reader


def _reason(error: RuntimeError, said: Sequence[str], path: Path) -> str:
    """What MetaIO says first, else the sentence of an ITK error, without C++ file names and the machine's paths."""
    text = (said[0] if said else str(error)).replace(str(path), path.name).replace(str(path.parent), "its folder")
    lines = [line.split("):", 1)[-1].strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _affine(image: sitk.Image) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    sides = image.GetDimension()  # of four, the last is no direction in space
    direction = np.reshape(image.GetDirection(), (sides, sides))[:3, :3]
    affine[:3, :3] = direction * np.asarray(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return checked_affine(affine)
