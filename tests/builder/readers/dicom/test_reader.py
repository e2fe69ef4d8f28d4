"""DICOM files: pictures, frames and enhanced images, and headers that are damaged."""

from __future__ import annotations

import gzip
import random
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal

from builder.errors import UnreadableError
from builder.readers.dicom import reader as dicom
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.image import Header, PictureSeries, source_values
from builder.readers.rules import DEFAULT_RULES
from tests.support.dicom_image import (
    AXIAL,
    PYDICOM,
    SECRET,
    axial,
    enhanced,
    image_dataset,
    pixels_of,
    save,
    write_series,
)
from tests.support.dicom_reading import by_itk, read_picture, read_volume, refusal


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "ct", enhanced(axial([6, 0, 3])))
    volume = read_volume(path)
    assert_array_equal(volume.array, np.stack([pixels_of(1), pixels_of(2), pixels_of(0)]))
    assert (volume.slope, volume.intercept) == (1, -1000)
    expected = [[0.75, 0, 0, -10], [0, 0.5, 0, 20], [0, 0, 3, 0], [0, 0, 0, 1]]
    assert_allclose(volume.affine, expected)  # type: ignore[arg-type]


def test_enhanced_rescale_of_each_frame(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "ct", enhanced(axial([0, 1]), slopes=[1, 2])))
    assert volume.array.dtype == np.float32
    assert_allclose(volume.array[1], 2.0 * pixels_of(1) - 1000)


def test_siemens_mosaic_is_refused(tmp_path: Path) -> None:
    """A diffusion image of a Siemens scanner, which nibabel ships: all slices in one picture of 896 x 896."""
    packed = Path(nibabel.__file__).parent / "nicom/tests/data/siemens_dwi_0.dcm.gz"
    (tmp_path / "dwi.dcm").write_bytes(gzip.decompress(packed.read_bytes()))
    assert "a mosaic" in refusal(tmp_path / "dwi.dcm")
    assert "dcm2niix" in refusal(tmp_path)


def test_enhanced_with_too_few_descriptions(tmp_path: Path) -> None:
    dataset = enhanced(axial([0, 1, 2]))
    del dataset.PerFrameFunctionalGroupsSequence[0]
    assert "3 frames and describes 2" in refusal(save(tmp_path / "ct", dataset))


def test_enhanced_with_one_frame_is_a_picture(tmp_path: Path) -> None:
    picture = read_picture(save(tmp_path / "ct", enhanced(axial([5]))))
    assert (picture.spacing, picture.intercept) == ((0.5, 0.75), -1000)


@pytest.mark.parametrize("name", ["examples_ybr_color.dcm", "SC_rgb_rle_2frame.dcm"])
def test_frames_without_a_place_are_pictures(name: str) -> None:
    frames = dicom.read(PYDICOM / name)
    assert isinstance(frames, PictureSeries)
    assert dicom.read_header(PYDICOM / name) == Header(frames.array.shape[:3], placed=False)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(PYDICOM / name))
    assert np.abs(frames.array.astype(int) - expected).max() <= (0 if "rle" in name else 3)  # JPEG decoders differ


def test_single_image_of_a_series_is_a_picture(tmp_path: Path) -> None:
    write_series(tmp_path, axial([1, 2]))
    assert read_picture(min(tmp_path.iterdir())).spacing == (0.5, 0.75)


def test_spacing_of_the_detector(tmp_path: Path) -> None:
    path = save(tmp_path / "a", image_dataset(pixels_of(0), PixelSpacing=None, ImagerPixelSpacing=[0.2, 0.1]))
    assert read_picture(path).spacing == (0.2, 0.1)
    path = save(tmp_path / "b", image_dataset(pixels_of(0), PixelSpacing=None))
    assert read_picture(path).spacing is None


def test_nothing_but_the_listed_attributes_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a", image_dataset(pixels_of(0)))
    dataset = dicom._open(path, DEFAULT_RULES, pixels=True)
    assert {element.keyword for element in dataset} <= {*dicom.ATTRIBUTES, *IDENTITY_ATTRIBUTES, "PixelData"}
    assert "PatientName" not in dataset
    assert not any("Patient" in word and "Image" not in word for word in dicom.ATTRIBUTES)
    assert not any("Date" in word or "Accession" in word or "Description" in word for word in dicom.ATTRIBUTES)
    assert SECRET not in repr(dicom.read(path))


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "no rows": ({"Rows": None}, "expected Rows, which is missing"),
    "rows of 0": ({"Rows": 0}, "Rows is 0"),
    "no size": ({"Rows": None, "Columns": None}, "the file has no size: it is CT Image Storage"),
    "columns beyond the file": ({"Columns": 65535}, "truncated"),
    "frames of 0": ({"NumberOfFrames": 0}, "Number Of Frames is 0"),
    "no pixels": ({"PixelData": None}, "truncated"),
    "odd bits": ({"BitsAllocated": 12, "BitsStored": 12}, "12 bits in 12"),
    "more bits stored": ({"BitsStored": 17}, "17 bits in 16"),
    "old high bit": ({"BitsStored": 12, "HighBit": 15}, "12 bits below bit 16"),
    "no bits": ({"BitsAllocated": None}, "expected Bits Allocated"),
    "slope of 0": ({"RescaleSlope": 0}, "Rescale Slope"),
    "position of 2 numbers": (
        {"ImagePositionPatient": [1, 2], "ImageOrientationPatient": list(AXIAL)},
        "3, 6 and 2 numbers, but 2, 6 and 2",
    ),
    "orientation of zeros": (
        {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [0] * 6},
        "no pair of perpendicular directions",
    ),
    "position afar": (
        {"ImagePositionPatient": [1e30, 2, 3], "ImageOrientationPatient": list(AXIAL)},
        "no sensible number of mm",
    ),
    "unknown colours": ({"PhotometricInterpretation": SECRET.upper()}, "colours are kept in an unknown way"),
    "palette without table": ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette is missing"),
    "dose": ({"Modality": "RTDOSE"}, "a dose distribution"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_headers(tmp_path: Path, name: str) -> None:
    changes, expected = DAMAGED[name]
    assert expected in refusal(save(tmp_path / "a.dcm", image_dataset(pixels_of(0, (64, 64)), **changes)))


def test_not_dicom() -> None:
    for name in ("README.txt", "no_meta.dcm", "rtstruct.dcm", "ExplVR_LitEndNoMeta.dcm"):
        assert "no DICOM file" in refusal(PYDICOM / name)
    assert "Transfer Syntax is missing" in refusal(PYDICOM / "meta_missing_tsyntax.dcm")
    assert "Number Of Frames is no whole number" in refusal(PYDICOM / "badVR.dcm")
    assert "truncated" in refusal(PYDICOM / "MR_truncated.dcm")
    assert "RT Plan Storage" in refusal(PYDICOM / "rtplan_truncated.dcm")
    assert "name it as the mask" in refusal(PYDICOM / "liver_1frame.dcm")


def test_damage_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    rng = random.Random(3)
    content = (PYDICOM / "MR_small_RLE.dcm").read_bytes()
    for _ in range(300):
        mutated = bytearray(content)
        for _ in range(rng.randint(1, 6)):
            mutated[rng.randrange(128, 2600)] = rng.randrange(256)
        path = tmp_path / "a.dcm"
        path.write_bytes(mutated)
        for read in (dicom.read, dicom.read_header):  # a warning would quote the file
            with warnings.catch_warnings(action="error"), suppress(UnreadableError):
                read(path)


def test_highdicom(corpus: Path) -> None:
    folder = corpus / "highdicom-seg" / "dicomdirtests" / "77654033"
    for number in (1, 2, 3):
        picture = read_picture(folder / f"CR{number}")
        (file,) = (folder / f"CR{number}").iterdir()
        assert_allclose(source_values(picture), by_itk(file), rtol=1e-6)
    assert "161 images are missing" in refusal(folder / "CT2")  # -99.48 and 103.02, 104.27, 105.52
    image = read_picture(folder.parents[1] / "test_files" / "dx_image.dcm")
    assert_array_equal(image.array, by_itk(folder.parents[1] / "test_files" / "dx_image.dcm"))
    assert image.spacing == pytest.approx((1.2, 1.2012))


REFUSED = {
    "MR_truncated.dcm": "truncated",
    "badVR.dcm": "Number Of Frames",
    "meta_missing_tsyntax.dcm": "Transfer Syntax",
    "no_meta.dcm": "no DICOM file",
    "rtplan_truncated.dcm": "RT Plan Storage",
    "rtstruct.dcm": "no DICOM file",
}


def test_broken_and_unlabelled(corpus: Path) -> None:
    for file in sorted((corpus / "broken-and-unlabelled" / "pydicom").glob("*.dcm")):
        if file.name in REFUSED:
            assert REFUSED[file.name] in refusal(file)
        elif file.name != "examples_ybr_color.dcm":  # a cine, see test_frames_without_a_place_are_pictures
            assert_array_equal(source_values(read_picture(file)), by_itk(file))
