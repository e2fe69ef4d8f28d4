"""DICOM: series in any order, every transfer syntax, every geometry, masks as SEG and RTSTRUCT."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import scipy.ndimage
import SimpleITK as sitk  # noqa: N813
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from builder.grid import corner_offset
from builder.readers import UnreadableError
from builder.readers.dicom import ATTRIBUTES, read, read_header
from builder.readers.nifti import read as read_nifti_volume
from builder.volume import Picture, Volume, to_lps
from sa_med2d_20m import decode_masks
from tests.conftest import RECIPE, Command, Ran, ct_like, members

HEAD = RECIPE.format(name="Dicom", license="CC-BY-3.0", modality="ct").split("[files]")[0]


def shipped(name: str) -> Path:
    """A file inside the pydicom wheel."""
    path = get_testdata_file(name, download=False)
    assert path is not None, name
    return Path(str(path))


def write_series(
    folder: Path, array: npt.NDArray[np.int16], change: Callable[[int, Dataset], None] | None = None
) -> None:
    """Write axial slices 2 mm apart under names in random order, descending, by pydicom."""
    folder.mkdir(parents=True, exist_ok=True)
    uid, names = generate_uid(), list(range(len(array)))
    random.Random(3).shuffle(names)
    for number, (name, plane) in enumerate(zip(names, array, strict=True)):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = CTImageStorage, generate_uid(), uid
        data.PatientName, data.PatientID, data.Modality = "Roe^Jane", "secret-17", "CT"
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.ImagePositionPatient, data.ImageOrientationPatient = [-10, -20, 30 + 2 * number], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.8, 0.7], 9
        data.RescaleSlope, data.RescaleIntercept, data.InstanceNumber = 1, -1024, 500 - number
        data.PixelData = np.ascontiguousarray(plane).tobytes()
        if change is not None:
            change(number, data)
        data.save_as(folder / f"{name}", enforce_file_format=True)


def test_series_is_stacked_by_position(tmp_path: Path) -> None:
    write_series(tmp_path / "s", ct_like())
    (tmp_path / "s/notes.txt").write_text("not DICOM")
    volume = read(tmp_path / "s")
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.array, ct_like())
    assert (volume.slope, volume.intercept, volume.stored_axes) == (1.0, -1024.0, "LPS")
    assert volume.affine is not None
    expected = np.array([[0.7, 0, 0, -10], [0, 0.8, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]])
    assert np.allclose(volume.affine, expected)
    assert read_header(tmp_path / "s").shape == ct_like().shape


def shifted(**where: float) -> Callable[[int, Dataset], None]:
    def change(number: int, data: Dataset) -> None:
        x, y, z = data.ImagePositionPatient
        if number == where.get("at", number):
            step = number if "at" not in where else 1
            data.ImagePositionPatient = [x, y + step * where.get("y", 0), z + step * where.get("z", 0)]

    return change


def every(**values: Any) -> Callable[[int, Dataset], None]:
    def change(number: int, data: Dataset) -> None:
        if number == 5:
            for name, value in values.items():
                setattr(data, name, value)

    return change


def drop(*names: str) -> Callable[[int, Dataset], None]:
    def change(number: int, data: Dataset) -> None:
        if number == 5:
            for name in names:
                delattr(data, name)

    return change


BAD: dict[str, tuple[Callable[[int, Dataset], None], str]] = {
    "doubled": (shifted(at=9, z=-2), "2 of its 24 slices lie at one place"),
    "uneven": (shifted(at=9, z=0.7), "unevenly spaced"),
    "tilted": (shifted(y=0.3), "tilted gantry"),
    "unlike orientation": (every(ImageOrientationPatient=[0, 1, 0, 1, 0, 0]), "unlike orientations"),
    "unlike spacing": (every(PixelSpacing=[0.8, 0.9]), "unlike orientations or pixel spacings"),
    "unlike size": (every(Rows=36, Columns=40), "unlike sizes: 40 x 36, 36 x 40"),
    "no position": (drop("ImagePositionPatient"), "no position, orientation or pixel spacing"),
    "two series": (every(SeriesInstanceUID="1.2.3"), "2 series (23 CT images of 36 x 40; 1 CT images of 36 x 40)"),
    "short pixels": (every(PixelData=bytes(100)), "pixel data cannot be decoded"),
    "no pixels": (drop("PixelData"), "it holds no pixel data"),
}


@pytest.mark.parametrize("fault", BAD)
def test_series_that_is_no_volume(tmp_path: Path, fault: str) -> None:
    change, said = BAD[fault]
    write_series(tmp_path / "s", ct_like(), change)
    with pytest.raises(UnreadableError) as raised:
        read(tmp_path / "s")
    assert said in str(raised.value) or "2 series (1 CT" in str(raised.value)
    assert "Roe" not in str(raised.value)
    assert "1.2.3" not in str(raised.value)


def test_missing_slices_are_counted(tmp_path: Path) -> None:
    write_series(tmp_path / "s", ct_like())
    for path in (tmp_path / "s").iterdir():
        if float(pydicom.dcmread(path).ImagePositionPatient[2]) in (40, 42, 50):
            path.unlink()
    with pytest.raises(UnreadableError, match=r"about 3 slices are missing \(21 are there, 2 mm apart\)"):
        read(tmp_path / "s")


def test_rescale_that_differs_by_slice_is_applied(tmp_path: Path) -> None:
    def change(number: int, data: Dataset) -> None:
        data.RescaleSlope, data.RescaleIntercept = 0.5 + number, 2

    write_series(tmp_path / "s", ct_like(), change)
    volume = read(tmp_path / "s")
    slopes = 0.5 + np.arange(24)[:, None, None]
    assert np.allclose(volume.array, ct_like() * slopes + 2)
    assert (volume.slope, volume.intercept) == (1.0, 0.0)


def test_only_listed_attributes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "s", ct_like()[:3])
    asked: set[str] = set()
    real = pydicom.dcmread

    def spy(path: Path, **arguments: Any) -> Any:
        asked.update(arguments["specific_tags"])
        return real(path, **arguments)

    monkeypatch.setattr("pydicom.dcmread", spy)
    read(tmp_path / "s")
    assert asked <= {*ATTRIBUTES, "PixelData", "FloatPixelData", "DoubleFloatPixelData"}
    assert not [
        name
        for name in ATTRIBUTES
        if "Patient" in name and name not in ("ImagePositionPatient", "ImageOrientationPatient")
    ]
    assert not [name for name in ATTRIBUTES if "Date" in name or "Name" in name or "Accession" in name]


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"],
)
def test_transfer_syntaxes_give_the_same_picture(name: str) -> None:
    plain, other = read(shipped("MR_small.dcm")), read(shipped(f"{name}.dcm"))
    assert isinstance(other, Picture)
    assert np.array_equal(other.array, plain.array)
    assert np.array_equal(plain.array, sitk.GetArrayFromImage(sitk.ReadImage(str(shipped("MR_small.dcm"))))[0])
    assert other.array.dtype.isnative


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk", "SC_rgb_rle", "SC_rgb_dcmtk_+eb+cr", "examples_rgb_color"])
def test_colour_is_rgb(name: str) -> None:
    picture = read(shipped(f"{name}.dcm"))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(shipped(f"{name}.dcm"))))[0]
    assert picture.array.shape == expected.shape
    assert np.abs(picture.array.astype(int) - expected).max() <= 2  # JPEG decoders round differently


def test_palette_and_monochrome1(tmp_path: Path) -> None:
    palette = read(shipped("examples_palette.dcm"))
    assert palette.array.shape[2] == 3
    assert palette.array.dtype == np.uint8
    data = pydicom.dcmread(shipped("MR_small.dcm"))
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME1", 0
    data.save_as(tmp_path / "one.dcm")
    inverted = read(tmp_path / "one.dcm")
    assert np.array_equal(inverted.array.astype(int), 65535 - data.pixel_array.astype(int))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MR_truncated.dcm", "pixel data cannot be decoded"),
        ("badVR.dcm", "NumberOfFrames"),
        ("no_meta.dcm", "no DICOM file"),
        ("rtplan_truncated.dcm", "no pixel data"),
        ("examples_ybr_color.dcm", "a film of 30 frames"),
    ],
)
def test_files_of_pydicom_that_are_refused(name: str, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        read(shipped(name))


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="holds no DICOM image"):
        read(tmp_path)


# --- the corpus -------------------------------------------------------------------------------------------------------


def test_totalsegmentator_series_lies_on_the_grid_of_its_mask(corpus: Path) -> None:
    """Image positions run downwards, the NIfTI mask upwards; thickness says 3 mm, positions say 2."""
    volume = to_lps(volume_at(corpus / "totalsegmentator-dicom/example_ct_dicom"))
    mask = to_lps(volume_of_nifti(corpus / "totalsegmentator-dicom/example_seg_dicom.nii.gz"))
    assert volume.affine is not None
    assert mask.affine is not None
    assert volume.array.shape == mask.array.shape == (20, 512, 512)
    assert corner_offset(volume.affine, mask.affine, (512, 512, 20)) < 0.01


def volume_at(path: Path) -> Volume:
    volume = read(path)
    assert isinstance(volume, Volume)
    return volume


def volume_of_nifti(path: Path) -> Volume:
    volume = read_nifti_volume(path)
    assert isinstance(volume, Volume)
    return volume


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


def build(sa_med2d: Command, tmp_path: Path, raw: Path, text: str) -> Ran:
    (tmp_path / "Dicom.toml").write_text(HEAD + text)
    return sa_med2d("build", tmp_path / "Dicom.toml", "--raw", raw, "--out", tmp_path / "out", "--workers", 1)


def painted(out: Path, axis: str) -> int:
    """Mask pixels over all slices along an axis."""
    found, total = dict(members(out)), 0
    for name, data in found.items():
        if name.endswith(".json") and f"--{axis}_" in name:
            masks = decode_masks({"mask.png": found[name.removesuffix("json") + "mask.png"], "json": json.loads(data)})
            total += int(masks.sum())
    return total


@pytest.mark.parametrize(("modality", "name"), [("CT", "ct"), ("MR_T1", "mr"), ("PET", "pet")])
def test_rtstruct_builds_what_its_nifti_mask_says(
    sa_med2d: Command, corpus: Path, tmp_path: Path, modality: str, name: str
) -> None:
    head = f'[files]\nimage = "{{case}}/{modality}/dicom/image/"\n'
    contours = f'mask = "{{case}}/{modality}/dicom/mask/RS.dcm"\n[labels]\n"gtv_mass_*" = "gross_tumor_volume"\n[masks]\nsegments = true\n'
    ran = build(sa_med2d, tmp_path / "a", make(tmp_path / "a", corpus / "mirp-sts"), head + contours)
    assert ran.code == 0, ran.err
    nifti = f'mask = "{{case}}/{modality}/nifti/mask/mask.nii.gz"\n[labels]\n1 = "gross_tumor_volume"\n'
    ran = build(sa_med2d, tmp_path / "b", make(tmp_path / "b", corpus / "mirp-sts"), head + nifti)
    assert ran.code == 0, ran.err
    ours, theirs = dict(members(tmp_path / "a/out")), dict(members(tmp_path / "b/out"))
    assert ours
    assert ours == theirs
    text = (tmp_path / "a/out/README.md").read_text() + "".join(d.decode() for n, d in ours.items() if "json" in n)
    assert "Roe" not in text
    assert "1.3.6.1.4" not in text


def make(folder: Path, raw: Path) -> Path:
    folder.mkdir()
    return raw


def test_breast_seg_builds(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    """42 of the 60 sagittal slices have a frame; its objects are counted by SciPy on the frames as they are stored."""
    text = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n[labels]\nbreast = "breast"\n[masks]\nsegments = true\n'
    ran = build(sa_med2d, tmp_path, corpus / "mirp-breast-mr-seg", text)
    assert ran.code == 0, ran.err
    keys = [name for name, _ in members(tmp_path / "out") if name.endswith(".json") and "--z_" in name]
    frames = pydicom.dcmread(corpus / "mirp-breast-mr-seg/UCSF-BR-06/mask/1-1.dcm").pixel_array >= 128
    areas = [np.bincount(scipy.ndimage.label(frame, np.ones((3, 3)))[0].ravel())[1:] for frame in frames]
    assert len(keys) == len(frames) == 42
    assert painted(tmp_path / "out", "z") == sum(int(area[area >= 100].sum()) for area in areas)
    record = json.loads(next(data for name, data in members(tmp_path / "out") if name.endswith(".json")))
    assert (record["case"], record["stored_axes"], record["image_file"]) == (
        "UCSF-BR-06",
        "PIR",
        "UCSF-BR-06/image_dce_pe1/",
    )


def test_segment_without_a_class_is_named(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    text = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n[labels]\nlung = "lung"\n[masks]\nsegments = true\n'
    ran = build(sa_med2d, tmp_path, corpus / "mirp-breast-mr-seg", text)
    assert ran.code == 3
    assert "the file holds Breast, which [labels] does not name (it names lung)" in ran.err


def test_changed_slice_rebuilds_the_series(sa_med2d: Command, tmp_path: Path) -> None:
    write_series(tmp_path / "raw/p1/ct", ct_like())
    mask = sitk.GetImageFromArray((ct_like() > 0).astype(np.uint8))
    mask.SetSpacing((0.7, 0.8, 2))
    mask.SetOrigin((-10, -20, 30))
    sitk.WriteImage(mask, str(tmp_path / "raw/p1/seg.nrrd"))
    text = '[files]\nimage = "{case}/ct/"\nmask = "{case}/seg.nrrd"\n[labels]\n1 = "bone"\n'
    assert build(sa_med2d, tmp_path, tmp_path / "raw", text).code == 0
    before = dict(members(tmp_path / "out"))
    write_series(tmp_path / "raw/p1/ct", ct_like(8))
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", text)
    assert ran.code == 0
    assert "finished already" not in ran.err
    assert dict(members(tmp_path / "out")) != before
