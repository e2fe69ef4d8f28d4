"""Series in folders: put in order, on a grid, and refused where they are no regular volume."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from builder.conversion.grid import corner_offset
from builder.conversion.orientation import to_lps
from builder.readers import nifti
from builder.readers.dicom import reader as dicom
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.dicom.reader import ATTRIBUTES, read, read_header
from builder.readers.dicom.series import ATTRIBUTES as SERIES_ATTRIBUTES
from builder.readers.files import reader_of
from builder.readers.image import Volume, source_values
from tests.support.command import Command
from tests.support.dicom_image import (
    AXIAL,
    PYDICOM,
    SERIES,
    axial,
    image_dataset,
    pixels_of,
    save,
    write_series,
)
from tests.support.dicom_reading import (
    matches_itk,
    on_grid,
    read_picture,
    read_volume,
    refusal,
    volume_at,
    volume_of_nifti,
)
from tests.support.dicom_source import CASE, build, write_ct_series
from tests.support.output import members
from tests.support.volumes import ct_like


def test_series_is_stacked_by_position(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "s", ct_like())
    (tmp_path / "s/notes.txt").write_text("not DICOM")
    volume = read(tmp_path / "s")
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.array, ct_like())
    assert (volume.slope, volume.intercept, volume.stored_axes) == (1.0, -1024.0, "LPS")
    assert volume.affine is not None
    expected = np.array([[0.7, 0, 0, -10], [0, 0.8, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]])
    assert np.allclose(volume.affine, expected)
    assert read_header(tmp_path / "s").shape == ct_like().shape


def test_only_listed_attributes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ct_series(tmp_path / "s", ct_like()[:3])
    asked: set[str] = set()
    real = pydicom.dcmread

    def spy(path: Path, **arguments: Any) -> Any:
        asked.update(arguments["specific_tags"])
        return real(path, **arguments)

    monkeypatch.setattr("pydicom.dcmread", spy)
    read(tmp_path / "s")
    assert asked <= {*ATTRIBUTES, *SERIES_ATTRIBUTES, *IDENTITY_ATTRIBUTES, "PixelData"}
    uids = {"FrameOfReferenceUID", "SOPInstanceUID", "SeriesInstanceUID"}
    assert set(IDENTITY_ATTRIBUTES) == {"BurnedInAnnotation", "Modality", "PatientID", *uids}
    assert not [
        name
        for name in ATTRIBUTES
        if "Patient" in name and name not in ("ImagePositionPatient", "ImageOrientationPatient")
    ]
    assert not [name for name in ATTRIBUTES if "Date" in name or "Name" in name or "Accession" in name]


def test_totalsegmentator_series_lies_on_the_grid_of_its_mask(corpus: Path) -> None:
    """Image positions run downwards, the NIfTI mask upwards; thickness says 3 mm, positions say 2."""
    volume = to_lps(volume_at(corpus / "totalsegmentator-dicom/example_ct_dicom"))
    mask = to_lps(volume_of_nifti(corpus / "totalsegmentator-dicom/example_seg_dicom.nii.gz"))
    assert volume.affine is not None
    assert mask.affine is not None
    assert volume.array.shape == mask.array.shape == (20, 512, 512)
    assert corner_offset(volume.affine, mask.affine, (512, 512, 20)) < 0.01


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_series_agree_with_simpleitk(corpus: Path, modality: str) -> None:
    folder = corpus / f"mirp-sts/STS_001/{modality}/dicom/image"
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    expected = sitk.DICOMOrient(sitk.ReadImage(names), "LPS")
    volume = to_lps(volume_at(folder))
    ours = volume.array * volume.slope + volume.intercept
    assert np.allclose(ours, sitk.GetArrayFromImage(expected), rtol=1e-5, atol=1e-3)
    assert volume.affine is not None
    assert np.allclose(volume.affine[:3, 3], expected.GetOrigin(), atol=1e-3)
    assert np.allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), expected.GetSpacing(), atol=1e-3)


def test_one_of_several_series(sa_med2d: Command, tmp_path: Path) -> None:
    for number, name in enumerate(("T1 Axial", "T2 FLAIR Axial")):

        def describe(_: int, data: Dataset, number: int = number, name: str = name) -> None:
            data.SeriesNumber, data.SeriesDescription = 10 + number, name

        write_ct_series(tmp_path / "raw/p1/more", ct_like(number), describe)
        for file in (tmp_path / "raw/p1/more").iterdir():
            (tmp_path / "raw/p1/ct").mkdir(exist_ok=True)
            file.rename(tmp_path / f"raw/p1/ct/{number}_{file.name}")
    (tmp_path / "raw/p1/more").rmdir()
    mask = sitk.GetImageFromArray((ct_like() > 0).astype(np.uint8))
    mask.SetSpacing((0.7, 0.8, 2))
    mask.SetOrigin((-10, -20, 30))
    sitk.WriteImage(mask, str(tmp_path / "raw/p1/seg.nrrd"))
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 1
    assert "the folder holds 2 image series, expected one: number 10, CT, 24 images of 40 x 36; number 11" in ran.err
    assert "say which is meant with files.series" in ran.err
    assert "FLAIR" not in ran.err
    built = []
    for wanted in ('"*flair*"', "11", "10"):
        text = CASE.replace("[files]", f"[files]\nseries = {wanted}")
        assert build(sa_med2d, tmp_path, tmp_path / "raw", text).code == 0
        built.append(dict(members(tmp_path / "out")))
    assert built[0] == built[1] != built[2]
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE.replace("[files]", '[files]\nseries = "*ax*"'))
    assert "of which 2 fit files.series = '*ax*'; expected one" in ran.err


def test_coloured_series_is_a_coloured_volume(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (24, 40, 36, 3), np.uint8)

    def colour(number: int, data: Dataset) -> None:
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
        data.PixelData = colours[number].tobytes()

    write_ct_series(tmp_path / "s", ct_like(), colour)
    volume = read(tmp_path / "s")
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.array, colours)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_series_is_ordered_by_position(tmp_path: Path, syntax: UID) -> None:
    arrays = write_series(tmp_path, axial([30, 27.5, 25, 22.5, 20]), syntax=syntax)
    (tmp_path / "notes.txt").write_text("not an image")
    shutil.copy(PYDICOM / "dicomdirtests" / "DICOMDIR", tmp_path)
    shutil.copy(PYDICOM / "liver_1frame.dcm", tmp_path)  # SEG
    shutil.copy(PYDICOM / "test-SR.dcm", tmp_path)
    volume = read_volume(tmp_path)
    assert_array_equal(volume.array, arrays[::-1])
    assert volume.array.dtype == np.int16
    expected = [[0.75, 0, 0, -10], [0, 0.5, 0, 20], [0, 0, 2.5, 20], [0, 0, 0, 1]]
    assert_allclose(volume.affine, expected)  # type: ignore[arg-type]
    assert volume.stored_axes == "LPS"
    assert (volume.slope, volume.intercept) == (1, 0)


ORIENTATIONS = {
    "axial": (AXIAL, "LPS"),
    "feet first, prone": ((-1, 0, 0, 0, -1, 0), "RAS"),
    "sagittal": ((0, 1, 0, 0, 0, -1), "PIR"),
    "coronal": ((1, 0, 0, 0, 0, -1), "LIP"),
    "oblique": ((0.96592583, 0.2588190451, 0, -0.25, 0.933012702, -0.2588190451), "LPS"),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_orientations_match_itk(tmp_path: Path, name: str) -> None:
    orientation, codes = ORIENTATIONS[name]
    normal = np.cross(orientation[:3], orientation[3:])
    write_series(tmp_path, [np.array([12.5, -7, 100]) + 3 * step * normal for step in range(7)], orientation)
    assert matches_itk(tmp_path).stored_axes == codes


def test_empty_class_and_missing_thickness_do_not_matter(tmp_path: Path) -> None:
    arrays = write_series(tmp_path, axial([0, 1, 2]), change=lambda _: {"SOPClassUID": "", "SliceThickness": None})
    assert_array_equal(read_volume(tmp_path).array, arrays)


def test_common_rescale_stays_apart(tmp_path: Path) -> None:
    rescale = {"RescaleSlope": "2", "RescaleIntercept": "-1024"}
    arrays = write_series(tmp_path, axial([0, 1, 2]), change=lambda _: rescale)
    volume = read_volume(tmp_path)
    assert (volume.slope, volume.intercept, str(volume.array.dtype)) == (2, -1024, "int16")
    assert_array_equal(source_values(volume), 2 * arrays.astype(int) - 1024)


def test_rescale_of_each_slice(tmp_path: Path) -> None:
    arrays = write_series(tmp_path, axial([4, 2, 0]), change=lambda number: {"RescaleSlope": f"{0.5 + number}"})
    volume = read_volume(tmp_path)
    assert (volume.slope, volume.intercept, str(volume.array.dtype)) == (1, 0, "float32")
    expected = arrays * np.array([0.5, 1.5, 2.5])[:, None, None]
    assert_allclose(volume.array, expected[::-1])


def test_folder_of_one_image(tmp_path: Path) -> None:
    arrays = write_series(tmp_path / "placed", axial([5]))
    volume = read_volume(tmp_path / "placed")
    assert_array_equal(volume.array, arrays)
    assert volume.affine is not None
    assert volume.affine[2, 3] == 5
    save(tmp_path / "flat" / "a", image_dataset(pixels_of(0)))
    assert_array_equal(read_picture(tmp_path / "flat").array, pixels_of(0))


def test_signed_and_unsigned_images_in_one_series(tmp_path: Path) -> None:
    write_series(tmp_path, axial([0, 1]))
    high = np.full((6, 8), 65000, np.uint16)
    placed = {"ImagePositionPatient": [-10, 20, 2], "ImageOrientationPatient": list(AXIAL)}
    save(tmp_path / "x", image_dataset(high, **placed))
    volume = read_volume(tmp_path)
    assert volume.array.dtype == np.int32
    assert_array_equal(volume.array[2], high)


def at(number: int, **changes: Any) -> Callable[[int], dict[str, Any]]:
    return lambda current: changes if current == number else {}


TILTED = [(-10.0, 20 + 0.4 * step, 2.0 * step) for step in range(6)]  # 11 degrees
SMALL_TILT = [(-10.0, 20 + 0.0087 * step, 1.0 * step) for step in range(60)]  # half a degree
IRREGULAR: dict[str, tuple[list[tuple[float, float, float]], Callable[[int], dict[str, Any]], list[str]]] = {
    "missing": (axial([0, 2, 4, 8, 10, 16]), at(-1), ["3 images are missing", "2 mm", "6 mm"]),
    "doubled": (axial([0, 2, 4, 4, 6]), at(-1), ["5 images at 4 places"]),
    "two copies": (
        axial([0, 2, 0, 2]),
        lambda _: {"InstanceNumber": 1},
        ["2 images at each of 2 places", "tells these"],
    ),
    "two unnumbered": (axial([0, 2, 0, 2]), lambda _: {"InstanceNumber": None}, ["2 images at each", "tells these"]),
    "mixed echoes": (
        axial([0, 0, 0, 0, 2, 2, 2, 2]),
        lambda number: {"EchoTime": [3, 3, 5, 5, 3, 5, 3, 5][number]},
        ["4 images at each of 2 places", "several echo times"],
    ),
    "shifted volumes": (
        [*axial([0, 2]), (-9.0, 20.0, 0.0), (-9.0, 20.0, 2.0)],
        lambda number: {"TemporalPositionIdentifier": number // 2},
        ["2 volumes lie up to 1.3 voxels beside each other"],
    ),
    "varying": (axial([0, 2, 4, 7, 10, 13.5]), at(-1), ["2 to 3.5 mm apart"]),
    "slowly varying": (axial([0.02 * step**2 + 3 * step for step in range(40)]), at(-1), ["mm apart"]),
    "tilted": (TILTED, at(-1), ["11.3 degrees", "gantry"]),
    "little tilt": (SMALL_TILT, at(-1), ["0.5 degrees", "gantry"]),
    "crooked": ([(-10.0, 20.0 + (step == 2), 2.0 * step) for step in range(5)], at(-1), ["beside a regular grid"]),
    "turned": (axial([0, 2, 4]), at(1, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), ["another orientation"]),
    "pixel size": (axial([0, 2, 4]), at(1, PixelSpacing=[0.5, 0.8]), ["another pixel size"]),
    "no position": (axial([0, 2, 4]), at(1, ImagePositionPatient=None), ["not all of its 3 images"]),
    "white and black": (axial([0, 2]), at(1, PhotometricInterpretation="MONOCHROME1"), ["others white"]),
}


@pytest.mark.parametrize("name", IRREGULAR)
def test_irregular_series_are_refused(tmp_path: Path, name: str) -> None:
    positions, change, expected = IRREGULAR[name]
    write_series(tmp_path, positions, change=change)
    words = refusal(tmp_path)
    for part in expected:
        assert part in words


def test_unlike_sizes_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, axial([0, 1]))
    placed = {"ImagePositionPatient": [-10, 20, 2], "ImageOrientationPatient": list(AXIAL)}
    save(tmp_path / "x", image_dataset(pixels_of(0, (4, 4)), **placed))
    assert "2 of 6 x 8, 1 of 4 x 4" in refusal(tmp_path)


def test_rounded_positions_are_no_irregularity(tmp_path: Path) -> None:
    write_series(tmp_path, axial([round(0.625 * step, 2) for step in range(80)]))
    volume = read_volume(tmp_path)
    assert volume.affine is not None
    assert volume.affine[2, 2] == pytest.approx(0.625, abs=1e-3)


def test_two_series_in_one_folder(tmp_path: Path) -> None:
    write_series(tmp_path, axial([0, 1, 2]))
    other = image_dataset(pixels_of(0, (4, 5)), SeriesInstanceUID=SERIES + ".9", Modality="MR")
    save(tmp_path / "other", other)
    words = refusal(tmp_path)
    assert "2 image series" in words
    assert "CT, 3 images of 6 x 8; MR, 1 image of 4 x 5" in words


def test_folders_without_images(tmp_path: Path) -> None:
    assert "holds no file" in refusal(tmp_path)
    (tmp_path / "readme.txt").write_text("nothing")
    assert "1 file is none" in refusal(tmp_path)


def test_damaged_files_in_a_folder_are_not_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, axial([0, 1, 2]))
    (tmp_path / "0.dcm").write_bytes(bytes(400))
    assert "file 1 of 4 in the order of names: no DICOM file" in refusal(tmp_path)
    (tmp_path / "0.dcm").write_bytes(b"")
    assert "file 1 of 4 in the order of names: the file is empty" in refusal(tmp_path)
    (tmp_path / "0.dcm").unlink()
    last = max(tmp_path.iterdir())
    last.write_bytes(last.read_bytes()[:-50])
    assert "image 3 of 3 in the order of names: truncated" in refusal(tmp_path)


def test_totalsegmentator(corpus: Path) -> None:
    folder = corpus / "totalsegmentator-dicom" / "example_ct_dicom"
    assert reader_of(folder) is dicom
    volume = read_volume(folder)
    assert volume.array.dtype == np.uint16
    assert (volume.array.shape, volume.slope, volume.intercept) == ((20, 512, 512), 1, -1024)
    assert volume.affine is not None
    assert_allclose(volume.affine[2, 2:], [2, -804.5])  # as that corpus says: -766.5 down to -804.5
    matches_itk(folder)
    (file,) = folder.parent.glob("*.nii.gz")
    mask = nifti.read(file)
    assert isinstance(mask, Volume)
    on_grid(volume, to_lps(mask))


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_mirp_sts(corpus: Path, modality: str) -> None:
    folder = corpus / "mirp-sts" / "STS_001" / modality
    volume = matches_itk(folder / "dicom" / "image") if modality != "PET" else read_volume(folder / "dicom" / "image")
    for file in folder.glob("nifti/*/*.nii.gz"):
        expected = nifti.read(file)
        assert isinstance(expected, Volume)
        expected = to_lps(expected)
        on_grid(volume, expected)
        if file.parent.name == "image":
            assert_allclose(source_values(to_lps(volume)), source_values(expected), rtol=1e-6, atol=1e-6)
    assert volume.array.dtype == (np.float32 if modality == "PET" else np.int16)
    assert "1 file is none" in refusal(folder / "dicom" / "mask")


def test_mirp_breast(corpus: Path) -> None:
    volume = matches_itk(corpus / "mirp-breast-mr-seg" / "UCSF-BR-06" / "image_dce_pe1")
    assert (volume.stored_axes, volume.array.shape) == ("PIR", (60, 256, 256))
