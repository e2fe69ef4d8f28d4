"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), by SimpleITK. ITK is LPS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

from builder.readers import UnreadableError
from builder.volume import Header, Picture, Volume, axis_codes

sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_header(path: Path) -> Header:
    """See `builder.readers.Reader`."""
    size = _information(path).GetSize()
    return Header(tuple(int(side) for side in reversed(size)))


def read(path: Path) -> Picture | Volume:
    """See `builder.readers.Reader`."""
    reader = _information(path)
    dimensions, components = reader.GetDimension(), reader.GetNumberOfComponents()
    if dimensions not in (2, 3) or (components != 1 and (dimensions, components) not in ((2, 3), (2, 4))):
        size = " x ".join(str(side) for side in reader.GetSize())
        raise UnreadableError(
            f"has {dimensions} dimensions ({size}) and {components} values a voxel, expected 2 or 3 and 1"
        )
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise UnreadableError(f"ITK cannot read its pixels: {_reason(error, path)}") from None
    array = sitk.GetArrayFromImage(image)
    if dimensions == 2:
        column, row = image.GetSpacing()
        return Picture(array, (float(f"{row:.6g}"), float(f"{column:.6g}")))
    affine = _affine(image)
    return Volume(array, affine, stored_axes=axis_codes(affine))


def _information(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UnreadableError(f"ITK cannot read its header: {_reason(error, path)}") from None
    return reader


def _reason(error: RuntimeError, path: Path) -> str:
    """The sentence of an ITK error, without its C++ file names and the machine's paths."""
    text = str(error).replace(str(path), path.name).replace(str(path.parent), "its folder")
    lines = [line.split("):", 1)[-1].strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _affine(image: sitk.Image) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine
