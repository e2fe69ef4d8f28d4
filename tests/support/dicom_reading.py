"""DICOM images as the project and as SimpleITK with GDCM read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from numpy.testing import assert_allclose

from builder.conversion.grid import corner_offset
from builder.conversion.orientation import to_lps
from builder.errors import UnreadableError
from builder.readers.dicom import reader as dicom
from builder.readers.dicom.reader import read
from builder.readers.image import Header, Picture, Volume, source_values
from builder.readers.nifti import read as read_nifti_volume
from tests.support.dicom_image import SECRET


def read_picture(path: Path) -> Picture:
    image = dicom.read(path)
    assert isinstance(image, Picture)
    assert dicom.read_header(path) == Header(image.array.shape[:2])
    return image


def read_volume(path: Path) -> Volume:
    image = dicom.read(path)
    assert isinstance(image, Volume)
    assert dicom.read_header(path) == Header(image.array.shape)
    assert image.array.dtype.isnative
    return image


def refusal(path: Path) -> str:
    """The words with which a file is refused; they never name the patient or a UID."""
    with pytest.raises(UnreadableError) as caught:
        dicom.read(path)
    words = str(caught.value)
    assert SECRET not in words
    assert "1.2." not in words.replace("1.2 ", "")
    return words


def by_itk(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0]
    return array


def series_by_itk(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Array (Z, Y, X) and affine of a series, as SimpleITK and GDCM read it."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), affine


def matches_itk(folder: Path, *, voxels: float = 1e-3) -> Volume:
    """Read a series and compare it with SimpleITK's, both turned to LPS."""
    ours = read_volume(folder)
    array, affine = series_by_itk(folder)
    theirs = to_lps(Volume(array, affine))
    turned = to_lps(ours)
    assert theirs.affine is not None
    assert turned.affine is not None
    assert_allclose(source_values(turned), theirs.array, rtol=1e-5, atol=1e-5)
    assert corner_offset(theirs.affine, turned.affine, theirs.array.shape[::-1]) < voxels
    return ours


def on_grid(volume: Volume, expected: Volume) -> None:
    turned = to_lps(volume)
    assert turned.affine is not None
    assert expected.affine is not None
    assert turned.array.shape == expected.array.shape
    assert corner_offset(turned.affine, expected.affine, turned.array.shape[::-1]) < 0.01


def volume_at(path: Path) -> Volume:
    volume = read(path)
    assert isinstance(volume, Volume)
    return volume


def volume_of_nifti(path: Path) -> Volume:
    volume = read_nifti_volume(path)
    assert isinstance(volume, Volume)
    return volume
