"""DICOM: series in any order, every transfer syntax, every geometry, masks as SEG and RTSTRUCT."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import scipy.ndimage
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from builder.conversion.grid import corner_offset
from builder.conversion.orientation import to_lps
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.dicom.reader import ATTRIBUTES, read, read_header
from builder.readers.dicom.series import ATTRIBUTES as SERIES_ATTRIBUTES
from builder.readers.image import Volume
from builder.readers.nifti import read as read_nifti_volume
from sa_med2d_20m import decode_masks, decode_png
from tests.conftest import RECIPE, Command, Ran, ct_like, members

HASHED = RECIPE.format(name="Dicom", license="CC-BY-3.0", modality="ct").split("[files]")[0]
HEAD = f'identifiers = "public"\nidentifiers_evidence = "https://example.org/de-identified"\n{HASHED}'


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


def test_only_listed_attributes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "s", ct_like()[:3])
    asked: set[str] = set()
    real = pydicom.dcmread

    def spy(path: Path, **arguments: Any) -> Any:
        asked.update(arguments["specific_tags"])
        return real(path, **arguments)

    monkeypatch.setattr("pydicom.dcmread", spy)
    read(tmp_path / "s")
    assert asked <= {*ATTRIBUTES, *SERIES_ATTRIBUTES, *IDENTITY_ATTRIBUTES, "PixelData"}
    assert set(IDENTITY_ATTRIBUTES) == {"BurnedInAnnotation", "FrameOfReferenceUID", "Modality", "PatientID"}
    assert not [
        name
        for name in ATTRIBUTES
        if "Patient" in name and name not in ("ImagePositionPatient", "ImageOrientationPatient")
    ]
    assert not [name for name in ATTRIBUTES if "Date" in name or "Name" in name or "Accession" in name]


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


def build(sa_med2d: Command, tmp_path: Path, raw: Path, text: str, modality: str = "ct") -> Ran:
    (tmp_path / "Dicom.toml").write_text(HEAD.replace('modality = "ct"', f'modality = "{modality}"') + text)
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
    ran = build(sa_med2d, tmp_path / "a", make(tmp_path / "a", corpus / "mirp-sts"), head + contours, name)
    assert ran.code == 0, ran.err
    nifti = f'mask = "{{case}}/{modality}/nifti/mask/mask.nii.gz"\n[labels]\n1 = "gross_tumor_volume"\n'
    ran = build(sa_med2d, tmp_path / "b", make(tmp_path / "b", corpus / "mirp-sts"), head + nifti, name)
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
    ran = build(sa_med2d, tmp_path, corpus / "mirp-breast-mr-seg", text, "mr")
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
    ran = build(sa_med2d, tmp_path, corpus / "mirp-breast-mr-seg", text, "mr")
    assert ran.code == 3
    assert "the file holds Breast, which [labels] does not name (it names lung)" in ran.err


def test_file_without_any_named_segment_gives_no_sample(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    files = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n'
    text = (
        files
        + '[labels]\nlung = "lung"\n[regions]\nchest = ["lung"]\n[masks]\nsegments = true\n[gates]\nunnamed_values = "flag"\n'
    )
    ran = build(sa_med2d, tmp_path, corpus / "mirp-breast-mr-seg", text, "mr")
    assert ran.code == 0, ran.err
    assert "1 cases gave no sample, every slice was dropped by a rule: UCSF-BR-06" in ran.err


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


def write_case(raw: Path, change: Callable[[int, Dataset], None] | None = None) -> None:
    write_series(raw / "p1/ct", ct_like(), change)
    mask = sitk.GetImageFromArray((ct_like() > 0).astype(np.uint8))
    mask.SetSpacing((0.7, 0.8, 2))
    mask.SetOrigin((-10, -20, 30))
    sitk.WriteImage(mask, str(raw / "p1/seg.nrrd"))


CASE = '[files]\nimage = "{case}/ct/"\nmask = "{case}/seg.nrrd"\n[labels]\n1 = "bone"\n'


def test_points_in_time_of_a_series_are_cases(sa_med2d: Command, tmp_path: Path) -> None:
    """Two volumes of one patient in one folder, one mask for both; without a word in the recipe it is asked for one."""
    volumes = np.stack([ct_like(), ct_like(8)])

    def change(number: int, data: Dataset) -> None:
        point, place = divmod(number, volumes.shape[1])
        data.ImagePositionPatient = [-10, -20, 30 + 2 * place]
        data.TemporalPositionIdentifier = point + 1

    write_case(tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw/p1/ct")
    write_series(tmp_path / "raw/p1/ct", volumes.reshape(-1, *volumes.shape[2:]), change)
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 3
    assert "it holds 2 images (4D, pages or frames), expected one" in ran.err
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE.replace("[labels]", "frames = true\n[labels]"))
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    cases = sorted({record["case"] for record in records})
    assert len(cases) == 2
    for case, volume in zip(cases, volumes, strict=True):
        axial = {
            record["index"]: record["intensity"]
            for record in records
            if (record["case"], record["axis"]) == (case, "x")
        }
        assert axial
        for index, intensity in axial.items():
            assert (intensity["min"], intensity["max"]) == (volume[index].min() - 1024, volume[index].max() - 1024)
    assert len({record["patient"] for record in records}) == 1


@pytest.mark.parametrize(
    ("gate", "attribute", "value", "said"),
    [
        ("burned_in_text", "BurnedInAnnotation", "YES", "text is part of its pixels"),
        ("modality_mismatch", "Modality", "MR", "the image says it is MR, the recipe ct"),
    ],
)
def test_gates_over_what_an_image_says(
    sa_med2d: Command, tmp_path: Path, gate: str, attribute: str, value: str, said: str
) -> None:
    def change(number: int, data: Dataset) -> None:
        if gate != "burned_in_text" or number == 7:  # one image with text is one too many
            setattr(data, attribute, value)

    write_case(tmp_path / "raw", change)
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 3
    assert f"p1/ct/: gate: {gate}: " in ran.err
    assert said in ran.err
    assert build(sa_med2d, tmp_path, tmp_path / "raw", CASE + f'[gates]\n{gate} = "off"\n').code == 0


def test_mask_of_another_patient_is_held_back(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(corpus / "mirp-breast-mr-seg/UCSF-BR-06", raw / "a")
    for name, text in (("PatientID", "somebody else"), ("FrameOfReferenceUID", "1.2.3.4")):
        seg = pydicom.dcmread(corpus / "mirp-breast-mr-seg/UCSF-BR-06/mask/1-1.dcm")
        setattr(seg, name, text)
        (raw / "a/mask/1-1.dcm").chmod(0o644)
        seg.save_as(raw / "a/mask/1-1.dcm")
        files = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n'
        ran = build(sa_med2d, tmp_path, raw, files + '[labels]\nbreast = "breast"\n[masks]\nsegments = true\n', "mr")
        assert ran.code == 3
        assert "gate: patient_mismatch: image and mask name different " in ran.err
        assert text not in ran.err


def test_nothing_of_the_patient_reaches_the_output(sa_med2d: Command, tmp_path: Path) -> None:
    write_case(tmp_path / "raw")
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 0, ran.err
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    series = pydicom.dcmread(next((tmp_path / "raw/p1/ct").iterdir()))
    for secret in ("Roe", "secret-17", str(series.SeriesInstanceUID)):
        assert secret.encode() not in everything
        assert secret not in ran.err


SLIDE = """[files]
image = "{{case}}/image.dcm"
mask = "{{case}}/seg.dcm"
[labels]
"rgb(*" = "cell"
[masks]
segments = true
instances = true
"""


@pytest.mark.parametrize("seg", ["seg_image_sm_control.dcm", "seg_image_sm_control_labelmap.dcm"])
def test_slide_and_its_segments(sa_med2d: Command, corpus: Path, tmp_path: Path, seg: str) -> None:
    files, case = corpus / "highdicom-seg/test_files", tmp_path / "raw/a"
    case.mkdir(parents=True)
    shutil.copyfile(files / "sm_image_control.dcm", case / "image.dcm")
    shutil.copyfile(files / seg, case / "seg.dcm")
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", SLIDE.format(), "microscopy")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    key = "microscopy_00--Dicom--a--2d_none"
    tiles = pydicom.dcmread(case / "image.dcm").pixel_array.reshape(5, 5, 10, 10, 3)
    assert np.array_equal(decode_png(found[f"{key}.png"]), tiles.transpose(0, 2, 1, 3, 4).reshape(50, 50, 3))
    masks = decode_masks({"json": found[f"{key}.json"], "mask.png": found[f"{key}.mask.png"]})
    judge = highdicom.seg.segread(case / "seg.dcm")
    whole = judge.get_total_pixel_matrix(combine_segments=True, relabel=True, skip_overlap_checks=True)
    expected = sum(
        int((areas >= 100 / 256**2 * 50 * 50).sum())
        for number in np.unique(whole[whole > 0])
        for areas in [np.bincount(scipy.ndimage.label(whole == number, np.ones((3, 3)))[0].ravel())[1:]]
    )
    assert len(masks) == expected
    assert np.array_equal(masks.any(axis=0), whole > 0)


def test_frames_of_a_cine_are_cases(sa_med2d: Command, tmp_path: Path) -> None:
    file = next(Path(pydicom.__file__).parent.glob("data/test_files/examples_ybr_color.dcm"))
    (tmp_path / "raw").mkdir()
    shutil.copyfile(file, tmp_path / "raw/a.dcm")
    frames = pydicom.dcmread(file).pixel_array
    mask = np.zeros(frames.shape[1:3], np.uint8)
    mask[50:100, 80:200] = 1
    sitk.WriteImage(sitk.GetImageFromArray(mask), tmp_path / "raw/a.png")
    text = '[files]\nimage = "{case}.dcm"\nmask = "{case}.png"\nFRAMES\n[labels]\n1 = "heart"\n[gates]\nburned_in_text = "off"\n'
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", text.replace("FRAMES", ""), "ultrasound")
    assert "it holds 30 images (4D, pages or frames), expected one; name them" in ran.err
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", text.replace("FRAMES", "frames = true"), "ultrasound")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    assert len(found) == 90
    for number in (0, 17, 29):
        shown = decode_png(found[f"ultrasound_00--Dicom--a_frame{number:04d}--2d_none.png"])
        assert np.array_equal(shown, frames[number])


def test_one_of_several_series(sa_med2d: Command, tmp_path: Path) -> None:
    for number, name in enumerate(("T1 Axial", "T2 FLAIR Axial")):

        def describe(_: int, data: Dataset, number: int = number, name: str = name) -> None:
            data.SeriesNumber, data.SeriesDescription = 10 + number, name

        write_series(tmp_path / "raw/p1/more", ct_like(number), describe)
        for file in (tmp_path / "raw/p1/more").iterdir():
            (tmp_path / "raw/p1/ct").mkdir(exist_ok=True)
            file.rename(tmp_path / f"raw/p1/ct/{number}_{file.name}")
    (tmp_path / "raw/p1/more").rmdir()
    mask = sitk.GetImageFromArray((ct_like() > 0).astype(np.uint8))
    mask.SetSpacing((0.7, 0.8, 2))
    mask.SetOrigin((-10, -20, 30))
    sitk.WriteImage(mask, str(tmp_path / "raw/p1/seg.nrrd"))
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 3
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

    write_series(tmp_path / "s", ct_like(), colour)
    volume = read(tmp_path / "s")
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.array, colours)
