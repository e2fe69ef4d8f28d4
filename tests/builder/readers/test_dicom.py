"""DICOM images: against SimpleITK (GDCM), nibabel and files of pydicom; synthetic series for everything that is wrong."""

from __future__ import annotations

import gzip
import hashlib
import random
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from builder.conversion.grid import corner_offset
from builder.conversion.orientation import to_lps
from builder.errors import UnreadableError
from builder.readers import nifti
from builder.readers.dicom import pixels
from builder.readers.dicom import reader as dicom
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.files import reader_of
from builder.readers.image import Header, Picture, PictureSeries, Volume, VolumeSeries, source_values
from builder.readers.rules import DEFAULT_RULES

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
SECRET = "Secretname"  # noqa: S105 - stands for the name of a patient
SERIES = "1.2.826.0.1.3680043.8.498.77"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


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


# --- synthetic files


def image_dataset(pixels: npt.NDArray[Any], **changes: Any) -> Dataset:
    """A CT image as scanners write it, with a patient's name; ``changes`` set attributes, or drop them where None."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.SeriesInstanceUID = SERIES
    dataset.StudyInstanceUID = SERIES + ".1"
    dataset.PatientName = SECRET
    dataset.PatientID = SECRET
    dataset.StudyDate = "19990101"
    dataset.SeriesDescription = SECRET
    dataset.Modality = "CT"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelSpacing = [0.5, 0.75]
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in changes.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    return dataset


def save(path: Path, dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    path.parent.mkdir(parents=True, exist_ok=True)
    little = syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=little, enforce_file_format=True)
    return path


def pixels_of(number: int, shape: tuple[int, int] = (6, 8)) -> npt.NDArray[np.int16]:
    return np.random.default_rng(number).integers(-900, 900, shape).astype(np.int16)


def write_series(
    folder: Path,
    positions: Sequence[Sequence[float]],
    orientation: Sequence[float] = AXIAL,
    change: Callable[[int], dict[str, Any]] = lambda _: {},
    syntax: UID = ExplicitVRLittleEndian,
) -> npt.NDArray[np.int16]:
    """Write one image per position, under names in random order; returns the pixels in the order of ``positions``."""
    names = [f"{SECRET}{number:03d}" for number in range(len(positions))]
    random.Random(len(positions)).shuffle(names)
    arrays = [pixels_of(number) for number in range(len(positions))]
    for number, position in enumerate(positions):
        stored = arrays[number].astype(">i2") if syntax == ExplicitVRBigEndian else arrays[number]
        plain = {
            "ImagePositionPatient": [f"{value:.8g}" for value in position],
            "ImageOrientationPatient": [f"{value:.9g}" for value in orientation],
            "InstanceNumber": (7 * number) % len(positions),
            "SliceThickness": "5",
        }
        dataset = image_dataset(stored, **{**plain, **change(number)})
        save(folder / names[number], dataset, syntax)
    return np.stack(arrays)


def axial(heights: Sequence[float]) -> list[tuple[float, float, float]]:
    return [(-10.0, 20.0, height) for height in heights]


# --- series


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


# --- series that are no regular volume


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


# --- multi-frame


def enhanced(positions: Sequence[Sequence[float]], *, slopes: Sequence[float] = ()) -> Dataset:
    """An enhanced CT (PS3.3 A.38): geometry in functional groups, orientation and pixel size shared."""
    frames = np.stack([pixels_of(number) for number in range(len(positions))])
    dataset = image_dataset(frames, NumberOfFrames=len(positions), PixelSpacing=None)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing = [0.5, 0.75]
    measures.SliceThickness = 9
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number, position in enumerate(positions):
        group, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = list(position)
        group.PlanePositionSequence = [place]
        values.RescaleSlope = slopes[number] if slopes else 1
        values.RescaleIntercept = -1000
        group.PixelValueTransformationSequence = [values]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset


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


@pytest.mark.parametrize("indices", [None, (2, 2, 1, 1)], ids=["in the order of frames", "by temporal position"])
def test_enhanced_with_several_frames_at_one_place(tmp_path: Path, indices: tuple[int, ...] | None) -> None:
    dataset = enhanced(axial([0, 1, 0, 1]))
    for number, index in enumerate(indices or ()):
        content = Dataset()
        content.TemporalPositionIndex = index
        dataset.PerFrameFunctionalGroupsSequence[number].FrameContentSequence = [content]
    path = save(tmp_path / "ct", dataset)
    series = dicom.read(path)
    assert isinstance(series, VolumeSeries)
    volumes = np.stack([pixels_of(number) for number in range(4)]).reshape(2, 2, 6, 8)
    assert_array_equal(series.array, volumes[::-1] if indices else volumes)
    assert dicom.read_header(path).shape == (2, 2, 6, 8)


def test_siemens_mosaic_is_refused(tmp_path: Path) -> None:
    """A diffusion image of a Siemens scanner, which nibabel ships: all slices in one picture of 896 x 896."""
    packed = Path(nibabel.__file__).parent / "nicom/tests/data/siemens_dwi_0.dcm.gz"
    (tmp_path / "dwi.dcm").write_bytes(gzip.decompress(packed.read_bytes()))
    assert "a mosaic" in refusal(tmp_path / "dwi.dcm")
    assert "dcm2niix" in refusal(tmp_path)


def test_jpeg_of_12_bit() -> None:
    """Values by libjpeg, another decoder: it gives these two to the unit, and all others within 1."""
    picture = read_picture(PYDICOM / "JPGExtended.dcm")
    assert picture.array.shape == (1024, 256)
    assert picture.array.dtype == np.uint16
    assert (picture.array[420, 140], picture.array[230, 120]) == (244, 95)


# --- several volumes in one place

TIMES: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "TemporalPositionIdentifier": lambda volume, _: {"TemporalPositionIdentifier": 3 - volume},
    "TriggerTime": lambda volume, place: {"TriggerTime": f"{300 - 90.5 * volume + place:g}"},
    "EchoTime": lambda volume, _: {"EchoTime": ["6.9", "4.6", "2.3"][volume]},
    "DiffusionBValue": lambda volume, _: {"DiffusionBValue": [1000.0, 50.0, 0.0][volume]},
    "AcquisitionNumber": lambda volume, _: {"AcquisitionNumber": 9 - volume},
    "InstanceNumber": lambda volume, place: {"InstanceNumber": 20 - 4 * volume - place},
}
"""What tells them apart -> what an image of a volume, in the order they are written, says at a place."""


@pytest.mark.parametrize("name", TIMES)
def test_several_volumes_in_one_place(tmp_path: Path, name: str) -> None:
    """Three volumes of four slices, written last volume first, places in no order."""
    written = [(volume, place) for volume in range(3) for place in (2, 0, 3, 1)]

    def change(number: int) -> dict[str, Any]:
        by_instance = {} if "InstanceNumber" in TIMES[name](0, 0) else {"InstanceNumber": number}
        return {**by_instance, **TIMES[name](*written[number])}

    arrays = write_series(tmp_path, axial([1.5 * place for _, place in written]), change=change)
    expected = np.empty((3, 4, 6, 8), np.int16)
    for (volume, place), array in zip(written, arrays, strict=True):
        expected[2 - volume, place] = array
    series = dicom.read(tmp_path)
    assert isinstance(series, VolumeSeries)
    assert_array_equal(series.array, expected)
    assert series.affine is not None
    assert_allclose(series.affine, [[0.75, 0, 0, -10], [0, 0.5, 0, 20], [0, 0, 1.5, 0], [0, 0, 0, 1]])  # type: ignore[arg-type]
    assert dicom.read_header(tmp_path).shape == (3, 4, 6, 8)


def test_several_slices_of_one_place(tmp_path: Path) -> None:
    """A cine of one slice, as scanners send it: a file for each phase."""
    arrays = write_series(tmp_path, axial([7] * 5), change=lambda number: {"TriggerTime": 10 * number})
    series = dicom.read(tmp_path)
    assert isinstance(series, VolumeSeries)
    assert_array_equal(series.array[:, 0], arrays)


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


# --- pictures

MR_SMALL = [
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
]


@pytest.mark.parametrize("name", MR_SMALL)
def test_transfer_syntaxes_of_one_image(name: str) -> None:
    picture = read_picture(PYDICOM / name)
    plain = (PYDICOM / "MR_small.dcm").read_bytes()
    # the last element is Data Set Trailing Padding of 126 bytes after a header of 12
    end = len(plain) - 12 - 126
    expected = np.frombuffer(plain[end - 64 * 64 * 2 : end], "<i2").reshape(64, 64)
    assert_array_equal(picture.array, expected)
    assert picture.array.dtype == np.dtype(np.int16)
    assert picture.spacing == (0.3125, 0.3125)


LIKE_ITK = [
    "693_J2KI.dcm",
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "dicomdirtests/77654033/CR1/6154",
    "dicomdirtests/98892003/MR1/4919",
    "examples_jpeg2k.dcm",
    "examples_overlay.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "image_dfl.dcm",
]


@pytest.mark.parametrize("name", LIKE_ITK)
def test_pictures_match_itk(name: str) -> None:
    picture = read_picture(PYDICOM / name)
    assert_allclose(source_values(picture), by_itk(PYDICOM / name), rtol=1e-6, atol=1e-6)
    if picture.array.ndim == 3:
        assert picture.array.dtype == np.uint8


def test_single_image_of_a_series_is_a_picture(tmp_path: Path) -> None:
    write_series(tmp_path, axial([1, 2]))
    assert read_picture(min(tmp_path.iterdir())).spacing == (0.5, 0.75)


def test_spacing_of_the_detector(tmp_path: Path) -> None:
    path = save(tmp_path / "a", image_dataset(pixels_of(0), PixelSpacing=None, ImagerPixelSpacing=[0.2, 0.1]))
    assert read_picture(path).spacing == (0.2, 0.1)
    path = save(tmp_path / "b", image_dataset(pixels_of(0), PixelSpacing=None))
    assert read_picture(path).spacing is None


@pytest.mark.parametrize(("dtype", "lowest", "highest"), [(np.uint16, 0, 4095), (np.int16, -2048, 2047)])
def test_monochrome1_is_turned_round(tmp_path: Path, dtype: type[np.generic], lowest: int, highest: int) -> None:
    pixels = np.array([[lowest, highest], [lowest + 1, 100]], dtype)
    changes = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    picture = read_picture(save(tmp_path / "dx", image_dataset(pixels, Modality="DX", **changes)))
    assert picture.array.dtype == dtype
    assert_array_equal(picture.array, [[highest, lowest], [highest - 1, lowest + highest - 100]])
    picture = read_picture(save(tmp_path / "ct", image_dataset(pixels, **changes)))
    assert_array_equal(picture.array, pixels)  # HU are HU, whatever is shown white


def test_bits_above_the_stored_ones_are_masked(tmp_path: Path) -> None:
    pixels = np.array([[0x0FFF, 0xF123], [0x8000, 0x7ABC]], np.uint16)
    path = save(tmp_path / "a", image_dataset(pixels, BitsStored=12, HighBit=11))
    assert_array_equal(read_picture(path).array, pixels & 0x0FFF)


def test_palette_of_16_bits(tmp_path: Path) -> None:
    dataset = image_dataset(np.array([[0, 1], [2, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for number, colour in enumerate(("Red", "Green", "Blue")):
        table = np.array([0, 0x1234, 0x8000 + number, 0xFFFF], "<u2")
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
    picture = read_picture(save(tmp_path / "us", dataset))
    assert picture.array.dtype == np.uint8
    assert_array_equal(picture.array[..., 0], [[0, 0x12], [0x80, 0xFF]])


def test_what_a_file_says_of_itself_comes_with_its_pixels(tmp_path: Path) -> None:
    said = {"Modality": "US", "PatientID": SECRET, "FrameOfReferenceUID": "1.2.3", "BurnedInAnnotation": "YES"}
    named = read_picture(save(tmp_path / "a", image_dataset(pixels_of(0), **said))).identity
    assert (named.modality, named.fits, named.burned_in) == ("US", frozenset({"ultrasound"}), True)
    assert named.patient == hashlib.sha256(SECRET.encode()).hexdigest()
    assert named.frame_of_reference == hashlib.sha256(b"1.2.3").hexdigest()


def test_nothing_but_the_listed_attributes_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a", image_dataset(pixels_of(0)))
    dataset = dicom._open(path, DEFAULT_RULES, pixels=True)
    assert {element.keyword for element in dataset} <= {*dicom.ATTRIBUTES, *IDENTITY_ATTRIBUTES, "PixelData"}
    assert "PatientName" not in dataset
    assert not any("Patient" in word and "Image" not in word for word in dicom.ATTRIBUTES)
    assert not any("Date" in word or "Accession" in word or "Description" in word for word in dicom.ATTRIBUTES)
    assert SECRET not in repr(dicom.read(path))


# --- damaged files

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


COMPRESSED = [
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
]


@pytest.mark.parametrize("name", COMPRESSED)
def test_truncated_compressed_pixels(tmp_path: Path, name: str) -> None:
    content = (PYDICOM / name).read_bytes()
    (tmp_path / "half").write_bytes(content[: int(0.8 * len(content))])
    assert "holds no pixels" in refusal(tmp_path / "half")
    dataset = pydicom.dcmread(PYDICOM / name)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: int(0.9 * len(frame))]])
    dataset.save_as(tmp_path / "stream")
    assert "cannot be decoded" in refusal(tmp_path / "stream")


def test_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "get_decoder", lambda _: SimpleNamespace(is_available=False))
    words = refusal(PYDICOM / "MR_small_jpeg_ls_lossless.dcm")
    assert "JPEG-LS Lossless" in words
    assert "pip install python-gdcm" in words
    path = save(tmp_path / "video", image_dataset(pixels_of(0)))
    monkeypatch.undo()
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    path.write_bytes(content)
    assert "not supported" in refusal(path)


def test_pixels_of_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    content = (PYDICOM / "MR_small.dcm").read_bytes()
    (tmp_path / "a").write_bytes(content.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00O^"))
    assert "fewer pixels" in refusal(tmp_path / "a")


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


# --- the corpus


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


def on_grid(volume: Volume, expected: Volume) -> None:
    turned = to_lps(volume)
    assert turned.affine is not None
    assert expected.affine is not None
    assert turned.array.shape == expected.array.shape
    assert corner_offset(turned.affine, expected.affine, turned.array.shape[::-1]) < 0.01


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
