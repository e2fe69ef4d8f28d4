"""DICOM SEG and RTSTRUCT onto the grid of their image, on real files and on files with hand-counted pixels."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pydicom.dataset
import pytest
import SimpleITK
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels.utils import pack_bits
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

from builder.annotations import dicom_seg, rtstruct
from builder.annotations.segments import DEFAULT_REQUEST, AnnotationRequest, NamedMaskReader, Segment
from builder.conversion.orientation import to_lps
from builder.errors import UnreadableError
from builder.readers import nifti
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.image import Picture, Volume

PATIENT = "Doe^Jane"
SHAPE = (6, 10, 12)
"""Slices, rows and columns of the images that tests write."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def dice(one: Bools, other: Bools) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def series(files: Sequence[Path]) -> Volume:
    """A series as SimpleITK reads it, in LPS axes."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return to_lps(Volume(SimpleITK.GetArrayFromImage(image), affine))


def folder(path: Path) -> Volume:
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
    return series([Path(name) for name in names])


def empty(affine: Floats, shape: tuple[int, int, int]) -> Volume:
    return Volume(np.zeros(shape, np.int16), affine)


# RTSTRUCT: real files


@pytest.mark.parametrize(("modality", "pixels"), [("CT", 117145), ("MR_T1", 117145), ("PET", 5095)])
def test_rtstruct_is_the_mask_that_its_authors_made(corpus: Path, modality: str, pixels: int) -> None:
    case = corpus / "mirp-sts" / "STS_001" / modality
    stored = nifti.read(case / "nifti" / "mask" / "mask.nii.gz")
    assert isinstance(stored, Volume)
    expected = to_lps(stored)
    for image in (expected, folder(case / "dicom" / "image")):
        [roi] = segments_of(rtstruct, case / "dicom" / "mask" / "RS.dcm", image)
        assert roi.name == f"GTV_Mass_{modality}"
        score = dice(roi.mask, expected.array > 0)
        print(f"{modality} {roi.name}: Dice {score:.5f}")  # noqa: T201 - shown by pytest -rP
        assert score > 0.9999  # 1.0 where this was written: not one pixel differs
        assert roi.mask.sum() == pixels


def test_a_structure_set_on_the_image_of_another_patient_is_refused(corpus: Path) -> None:
    case = corpus / "mirp-sts" / "STS_001" / "CT" / "dicom"
    breast = folder(corpus / "mirp-breast-mr-seg" / "UCSF-BR-06" / "image_dce_pe1")
    with pytest.raises(UnreadableError, match="perhaps it was drawn on another image"):
        drawn(segments_of(rtstruct, case / "mask" / "RS.dcm", breast))


def segments_of(
    module: NamedMaskReader, path: Path, image: Picture | Volume, request: AnnotationRequest = DEFAULT_REQUEST
) -> list[Segment]:
    """The named masks of a file on the grid of an image."""
    found = module.read_named_masks(path, request).on(image)
    assert found is not None
    return found


def drawn(segments: list[Segment]) -> list[npt.NDArray[Any]]:
    """All masks, drawn: what is wrong with pixels shows only then."""
    return [segment.mask for segment in segments]


# RTSTRUCT: written here

Contour = tuple[str, Sequence[Sequence[float]]]


def write_rtstruct(path: Path, rois: dict[str, list[Contour] | None], *, implicit: bool = False) -> Path:
    """Write contours in LPS mm; a ROI with None has no item of contours."""
    file = dicom_file("1.2.840.10008.5.1.4.1.1.481.3", ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
    file.Modality = "RTSTRUCT"
    file.StructureSetROISequence, file.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), 1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, name
        file.StructureSetROISequence.append(roi)
        if contours is None:
            continue
        item = Dataset()
        item.ReferencedROINumber = number
        item.ContourSequence = [contour(kind, points) for kind, points in contours]
        file.ROIContourSequence.append(item)
    for keyword in ("StructureSetROISequence", "ROIContourSequence"):
        file[keyword].is_undefined_length = not implicit
    file.save_as(path, enforce_file_format=True)
    return path


def contour(kind: str, points: Sequence[Sequence[float]]) -> Dataset:
    item = Dataset()
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(points)
    with warnings.catch_warnings(action="ignore"):  # of infinity
        item.ContourData = [f"{value:.6g}" for point in points for value in point]
    return item


def dicom_file(sop_class: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(sop_class)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    file.PatientName, file.PatientID, file.PatientBirthDate, file.PatientSex = PATIENT, PATIENT, "19700102", "F"
    file.StudyInstanceUID, file.SeriesInstanceUID = generate_uid(), generate_uid()
    file.StudyDate, file.StudyTime, file.AccessionNumber, file.StudyID = "20200102", "", PATIENT, ""
    return file


def square(low: float, high: float, z: float, *, right: float = 0.0) -> Contour:
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return "CLOSED_PLANAR", [(x + right, y, z) for x, y in corners]


UNIT = np.diag([1.0, 1.0, 2.0, 1.0])
"""Voxels of 1 x 1 x 2 mm, the first at 0."""


def masks(path: Path, image: Volume | Picture) -> dict[str, Bools]:
    return {segment.name: segment.mask for segment in segments_of(rtstruct, path, image)}


def test_nested_contours_are_holes_and_separate_ones_regions(tmp_path: Path) -> None:
    outer, hole, island = square(0.5, 6.5, 4), square(1.5, 5.5, 4), square(2.5, 4.5, 4)
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        {
            "hole": [outer, hole],
            "island": [outer, hole, island],
            "two": [square(0.5, 2.5, 4), square(3.5, 5.5, 4, right=4)],
            "xor": [("CLOSEDPLANAR_XOR", outer[1]), ("CLOSEDPLANAR_XOR", hole[1])],
            "two slices": [outer, square(1.5, 5.5, 6)],
        },
    )
    found = masks(path, empty(UNIT, SHAPE))
    assert {name: int(mask.sum()) for name, mask in found.items()} == {
        "hole": 36 - 16,
        "island": 36 - 16 + 4,
        "two": 4 + 4,
        "xor": 36 - 16,
        "two slices": 36 + 16,
    }
    assert all(mask.shape == SHAPE and mask.dtype == np.bool_ for mask in found.values())
    assert found["hole"][2, 1, 1]
    assert not found["hole"][2, 3, 3]
    assert found["two"][2, 4:6, 8:10].all()  # y, x


def test_a_keyhole_contour_is_a_ring(tmp_path: Path) -> None:
    ring = [
        (0.5, 0.5),
        (6.5, 0.5),
        (6.5, 6.5),
        (0.5, 6.5),
        (0.5, 0.5),
        (2.5, 2.5),
        (2.5, 4.5),
        (4.5, 4.5),
        (4.5, 2.5),
        (2.5, 2.5),
    ]
    path = write_rtstruct(tmp_path / "rs.dcm", {"ring": [("CLOSED_PLANAR", [(x, y, 2) for x, y in ring])]})
    assert masks(path, empty(UNIT, SHAPE))["ring"].sum() == 36 - 4


def test_centres_on_the_border_belong_to_the_region_that_begins_there(tmp_path: Path) -> None:
    triangle = [(0, 0, 2), (9, 0, 2), (0, 9, 2)]
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        {
            "left": [square(2, 5, 2)],
            "right": [square(2, 5, 2, right=3)],
            "triangle": [("CLOSED_PLANAR", triangle)],
            "clockwise": [("CLOSED_PLANAR", triangle[::-1])],
            "closed twice": [("CLOSED_PLANAR", [*triangle, triangle[0]])],
        },
    )
    found = masks(path, empty(UNIT, SHAPE))
    assert found["left"].sum() == found["right"].sum() == 9
    assert found["left"][1, 2:5, 2:5].all()
    assert not (found["left"] & found["right"]).any()
    assert found["triangle"].sum() == sum(range(1, 10))  # x + y < 9
    assert (found["clockwise"] == found["triangle"]).all()
    assert (found["closed twice"] == found["triangle"]).all()


@pytest.mark.parametrize("across", [0, 1, 2])
def test_contours_may_lie_on_any_plane_of_the_image(tmp_path: Path, across: int) -> None:
    corners = np.array([(1.5, 0.5), (4.5, 0.5), (4.5, 2.5), (1.5, 2.5)])
    points = np.insert(corners, across, 3.0, axis=1)  # in voxels
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [("CLOSED_PLANAR", (points * [1, 1, 2]).tolist())]})
    expected = np.zeros(SHAPE, np.bool_).transpose(2, 1, 0)
    ranges: list[Any] = [slice(2, 5), slice(1, 3)]
    ranges.insert(across, 3)
    expected[tuple(ranges)] = True
    assert (masks(path, empty(UNIT, SHAPE))["a"] == expected.transpose(2, 1, 0)).all()


def test_an_oblique_flipped_image_gets_its_contours_in_lps_axes(tmp_path: Path) -> None:
    stored = oblique((0.8, 0.6, 0, 0.6, -0.8, 0))
    inside = np.zeros(SHAPE, np.bool_)
    inside[2, 3:7, 4:9] = True
    corners = np.array([(3.5, 2.5, 2), (8.5, 2.5, 2), (8.5, 6.5, 2), (3.5, 6.5, 2)])
    path = write_rtstruct(
        tmp_path / "rs.dcm", {"a": [("CLOSED_PLANAR", (corners @ stored[:3, :3].T + stored[:3, 3]).tolist())]}
    )
    expected = to_lps(Volume(inside, stored))
    assert expected.affine is not None
    assert (masks(path, expected)["a"] == expected.array).all()


def test_what_encloses_nothing_is_empty_and_what_sticks_out_is_cut(tmp_path: Path) -> None:
    line = [(1, 1, 2), (5, 1, 2), (5, 5, 2)]
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        {
            "none": None,
            "no contours": [],
            "point": [("POINT", [(1, 1, 900)])],
            "open": [("OPEN_PLANAR", line)],
            "degenerate": [("CLOSED_PLANAR", line[:2])],
            "sticks out": [square(-50, 3.5, 2)],
            "beyond": [square(-50, 50, 2)],
        },
        implicit=True,
    )
    found = masks(path, empty(UNIT, SHAPE))
    assert {name: int(mask.sum()) for name, mask in found.items()} == {
        **dict.fromkeys(("none", "no contours", "point", "open", "degenerate"), 0),
        "sticks out": 16,
        "beyond": 120,
    }


@pytest.mark.parametrize(
    ("contours", "words"),
    [
        ([square(0.5, 6.5, 20)], "outside the image, at slice 10 of 0 to 5"),
        ([square(50, 60, 2)], "and beside it"),
        ([("CLOSED_PLANAR", [(1, 1, 2), (7, 1, 6), (7, 7, 6), (1, 7, 2)])], "does not lie on a slice"),
        ([square(0.5, 6.5, 1.5), square(0.5, 6.5, 2.5)], "on several planes that all lie nearest to slice 1"),
        ([("CLOSED_PLANAR", [(1, 1, float("inf")), (7, 1, 6), (7, 7, 6)])], "no list of points"),
        ([("CLOSED_PLANAR", [(1, 1, 1e308), (7, 1, 6), (7, 7, 6)])], "no list of points"),
    ],
    ids=["slice outside", "beside", "oblique", "thinner slices", "infinite", "huge"],
)
def test_contours_that_do_not_fit_the_image_are_refused(tmp_path: Path, contours: list[Contour], words: str) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", {PATIENT: contours})
    with pytest.raises(UnreadableError, match=words) as caught:
        drawn(segments_of(rtstruct, path, empty(UNIT, SHAPE)))
    assert PATIENT not in str(caught.value)
    assert "ROI number 1" in str(caught.value)


def test_contours_need_an_image_with_a_place(tmp_path: Path) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [square(1, 2, 2)]})
    for image in (Picture(np.zeros((10, 12))), Volume(np.zeros(SHAPE), None)):
        with pytest.raises(UnreadableError, match="says nothing of where it lies"):
            segments_of(rtstruct, path, image)


# SEG: real files


def test_seg_that_names_no_image_lies_on_its_slices(corpus: Path) -> None:
    case = corpus / "mirp-breast-mr-seg" / "UCSF-BR-06"
    image = folder(case / "image_dce_pe1")
    [breast] = segments_of(dicom_seg, case / "mask" / "1-1.dcm", image)
    assert breast.name == "Breast"
    assert breast.mask.shape == image.array.shape == (256, 256, 60)
    assert breast.mask.sum() == 82527
    assert breast.mask.any(axis=(0, 1)).sum() == 42  # sagittal slices; 18 have no frame
    assert (breast.mask == by_itk(case / "mask" / "1-1.dcm", image)).all()


def by_itk(path: Path, image: Volume) -> Bools:
    """A SEG of one segment, frame by frame resampled onto the image by SimpleITK: another way to the same answer."""
    assert image.affine is not None
    file = pydicom.dcmread(path)
    grid = SimpleITK.GetImageFromArray(np.zeros(image.array.shape, np.uint8))
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    grid.SetSpacing(spacing.tolist())
    grid.SetOrigin(image.affine[:3, 3].tolist())
    grid.SetDirection((image.affine[:3, :3] / spacing).ravel().tolist())
    shared = file.SharedFunctionalGroupsSequence[0]
    rows, columns = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    found = np.zeros(image.array.shape, np.bool_)
    for group, pixels in zip(file.PerFrameFunctionalGroupsSequence, file.pixel_array, strict=True):
        frame = SimpleITK.GetImageFromArray((pixels > 127).astype(np.uint8)[None])
        down, right = shared.PixelMeasuresSequence[0].PixelSpacing
        frame.SetSpacing([float(right), float(down), 1.0])
        frame.SetOrigin([float(value) for value in group.PlanePositionSequence[0].ImagePositionPatient])
        frame.SetDirection(np.stack([rows, columns, np.cross(rows, columns)], axis=1).ravel().tolist())
        placed = SimpleITK.Resample(frame, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
        found |= SimpleITK.GetArrayFromImage(placed) > 0
    return found


CT2 = ("17106", "17136", "17166", "17196")


def ct2_file(corpus: Path, name: str) -> Path:
    return corpus / "highdicom-seg" / "dicomdirtests" / "77654033" / "CT2" / name


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("ct_binary", [127, 256, 255]),
        ("ct_binary_fractional", [127, 256, 255]),
        ("ct_true_fractional", [127, 256, 255]),
    ],
)
def test_seg_of_a_series(corpus: Path, name: str, pixels: list[int]) -> None:
    path = corpus / "highdicom-seg" / "test_files" / f"seg_image_{name}.dcm"
    image = series([ct2_file(corpus, file) for file in CT2[1:]])
    [segment] = segments_of(dicom_seg, path, image)
    assert segment.name == "first segment"
    assert segment.mask.sum(axis=(1, 2)).tolist() == pixels
    assert (segment.mask == by_highdicom(corpus, path, CT2[1:])[..., 0]).all()


def by_highdicom(corpus: Path, path: Path, files: Sequence[str]) -> Bools:
    """Highdicom's own way, by the instances that the SEG names; (slices, rows, columns, segments)."""
    file = highdicom.seg.segread(path)
    uids = [pydicom.dcmread(ct2_file(corpus, name), stop_before_pixels=True).SOPInstanceUID for name in files]
    values = file.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    return np.asarray(values) >= 0.5


def test_seg_with_overlapping_segments_and_a_gap(corpus: Path) -> None:
    path = corpus / "highdicom-seg" / "test_files" / "seg_image_ct_binary_overlap.dcm"
    spaced = np.diag([0.488281, 0.488281, 1.25, 1.0])
    spaced[:3, 3] = (-125.0, -128.100006, -99.480003)
    first, second = segments_of(dicom_seg, path, empty(spaced, (165, 16, 16)))
    expected = by_highdicom(corpus, path, CT2)
    with_frames = [0, 162, 163, 164]  # the other slices of the series are not in the corpus
    for segment, name, channel in ((first, "first segment", 0), (second, "second segment", 1)):
        assert segment.name == name
        assert (segment.mask[with_frames] == expected[..., channel]).all()
        assert segment.mask.sum() == expected[..., channel].sum()
    assert (first.mask & second.mask).any()


def test_slices_that_only_seem_evenly_spaced_are_refused(corpus: Path) -> None:
    """SimpleITK takes the mean distance of these four slices, 68 mm: three lie within a tenth of it."""
    path = corpus / "highdicom-seg" / "test_files" / "seg_image_ct_binary.dcm"
    image = series([ct2_file(corpus, file) for file in CT2])
    with pytest.raises(UnreadableError, match="frames 1 and 2 of the SEG are of the same segment"):
        segments_of(dicom_seg, path, image)


def test_seg_of_one_slice_fits_it_as_a_volume_and_as_a_picture(corpus: Path) -> None:
    files = corpus / "highdicom-seg" / "test_files"
    path = files / "seg_image_ct_binary_single_frame.dcm"
    expected = pydicom.dcmread(path).pixel_array > 0
    volume = series([files / "ct_image.dcm"])
    for image in (volume, Picture(volume.array[0])):
        [segment] = segments_of(dicom_seg, path, image)
        assert segment.mask.shape == (1, 128, 128)
        assert segment.mask.sum() == 1832
        assert (segment.mask[0] == expected).all()


def test_seg_of_a_radiograph(corpus: Path) -> None:
    files = corpus / "highdicom-seg"
    image = Picture(pydicom.dcmread(files / "dicomdirtests" / "77654033" / "CR1" / "6154").pixel_array)
    path = files / "test_files" / "seg_image_cr_binary.dcm"
    [segment] = segments_of(dicom_seg, path, image)
    assert segment.mask.sum() == 151
    assert (segment.mask[0] == (pydicom.dcmread(path).pixel_array > 0)).all()
    with pytest.raises(UnreadableError, match="16 x 16 pixels, its image 20 x 16"):
        segments_of(dicom_seg, path, Picture(np.zeros((20, 16))))
    with pytest.raises(UnreadableError, match="does not say where in the patient"):
        segments_of(dicom_seg, path, empty(UNIT, (1, 16, 16)))


@pytest.mark.parametrize(
    ("name", "segments", "pixels"),
    [
        ("control", 20, 523),
        ("control_labelmap", 20, 523),
        ("control_labelmap_palette_color", 20, 523),
        ("dots", 50, 200),
        ("dots_tiled_full", 50, 200),
        ("numbers", 20, 523),
    ],
)
def test_tiles_of_a_slide_are_put_together(corpus: Path, name: str, segments: int, pixels: int) -> None:
    path = corpus / "highdicom-seg" / "test_files" / f"seg_image_sm_{name}.dcm"
    found = segments_of(dicom_seg, path, Picture(np.zeros((50, 50, 3), np.uint8)))
    expected = highdicom.seg.segread(path).get_total_pixel_matrix(combine_segments=False)
    assert len(found) == segments
    assert sum(int(segment.mask.sum()) for segment in found) == pixels
    assert all(segment.name.startswith("RGB(") for segment in found)
    assert (np.stack([segment.mask[0] for segment in found], axis=-1) == (expected > 0)).all()
    with pytest.raises(UnreadableError, match="50 x 50 pixels, its image 50 x 40"):
        segments_of(dicom_seg, path, Picture(np.zeros((50, 40))))
    with pytest.raises(UnreadableError, match="a tiled SEG of a slide, but its image is a volume"):
        segments_of(dicom_seg, path, empty(UNIT, (1, 50, 50)))


def test_seg_on_other_images_is_refused(corpus: Path) -> None:
    path = corpus / "highdicom-seg" / "test_files" / "seg_image_ct_binary.dcm"
    with pytest.raises(UnreadableError, match=r"frame 1 lie up to [\d.]+ voxels \([\d.]+ mm\) beside"):
        segments_of(dicom_seg, path, folder(corpus / "mirp-breast-mr-seg" / "UCSF-BR-06" / "image_dce_pe1"))
    with pytest.raises(UnreadableError, match="frames 1 and 2 of the SEG are of the same segment"):
        segments_of(dicom_seg, path, Picture(np.zeros((16, 16))))
    with pytest.raises(UnreadableError, match="says nothing of where it lies"):
        segments_of(dicom_seg, path, Volume(np.zeros((3, 16, 16)), None))


# SEG: written here

AXIAL = (1, 0, 0, 0, 1, 0)


def oblique(cosines: Sequence[float], *, back: bool = False) -> Floats:
    """Affine of an image whose rows and columns run along ``cosines``, 0.7 x 0.9 mm, 1.5 mm apart."""
    right, down = np.reshape(cosines, (2, 3)).astype(float)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([right * 0.7, down * 0.9, np.cross(right, down) * (-1.5 if back else 1.5)], axis=1)
    affine[:3, 3] = (-11.25, 30.5, 7.0)
    return affine


def ct_slices(affine: Floats, cosines: Sequence[float]) -> list[Dataset]:
    """What highdicom wants to know of the images that a SEG is of."""
    series_uid, study_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    slices: list[Dataset] = []
    for index in range(SHAPE[0]):
        file = dicom_file(CTImageStorage, ExplicitVRLittleEndian)
        file.SeriesInstanceUID, file.StudyInstanceUID, file.FrameOfReferenceUID = series_uid, study_uid, frame_uid
        file.Modality, file.SeriesNumber, file.InstanceNumber = "CT", 1, index + 1
        file.Rows, file.Columns = SHAPE[1:]
        file.ImagePositionPatient = [round(float(value), 9) for value in affine[:3] @ [0, 0, index, 1]]
        file.ImageOrientationPatient = list(cosines)
        file.PixelSpacing, file.SliceThickness = [0.9, 0.7], 1.5
        slices.append(file)
    return slices


@dataclass(frozen=True)
class Written:
    """A SEG that a test wrote, in the axes it is stored in."""

    file: highdicom.seg.Segmentation
    image: Volume


def write_seg(
    pixels: npt.NDArray[Any],
    kind: str = "BINARY",
    cosines: Sequence[float] = AXIAL,
    *,
    back: bool = False,
    syntax: str = ExplicitVRLittleEndian,
) -> Written:
    """A SEG by highdicom.

    Args:
        pixels: (slices, rows, columns, segments) or, for a label map, (slices, rows, columns).
        kind: Segmentation type.
        cosines: Image orientation.
        back: The slices follow each other against the normal.
        syntax: Transfer syntax.
    """
    affine = oblique(cosines, back=back)
    count = int(pixels.max()) if pixels.ndim == 3 else pixels.shape[-1]
    descriptions = [
        highdicom.seg.SegmentDescription(
            number,
            f"segment {number}",
            codes.SCT.Organ,
            codes.SCT.Liver,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in range(1, count + 1)
    ]
    with warnings.catch_warnings(action="ignore"):
        file = highdicom.seg.Segmentation(
            ct_slices(affine, cosines),
            pixels,
            kind,
            descriptions,
            generate_uid(),
            1,
            generate_uid(),
            1,
            "maker",
            "model",
            "1",
            "serial",
            transfer_syntax_uid=syntax,
        )
    return Written(file, Volume(np.zeros(SHAPE, np.int16), affine))


def save(file: Dataset, path: Path) -> Path:
    file.save_as(path)
    return path


def blobs() -> npt.NDArray[np.uint8]:
    """Two segments that overlap and leave slices empty, nowhere symmetric; (slices, rows, columns, 2)."""
    pixels = np.zeros((*SHAPE, 2), np.uint8)
    pixels[1:3, 2:6, 1:8, 0] = 1
    pixels[1, 2, 9, 0] = 1
    pixels[2:5, 4:9, 5:11, 1] = 1
    return pixels


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
    "cosines",
    [
        AXIAL,
        (-1, 0, 0, 0, -1, 0),
        (0, 1, 0, 0, 0, -1),
        (1, 0, 0, 0, 0, -1),
        (0, -1, 0, 1, 0, 0),
        (0.8, 0.6, 0, 0, 0, -1),
    ],
    ids=["axial", "axial prone", "sagittal", "coronal", "rows along y", "oblique"],
)
def test_frames_lie_where_they_were_drawn_in_any_orientation(
    tmp_path: Path, cosines: Sequence[float], back: bool
) -> None:
    written = write_seg(blobs(), cosines=cosines, back=back)
    found = segments_of(dicom_seg, save(written.file, tmp_path / "seg.dcm"), to_lps(written.image))
    for channel, segment in enumerate(found):
        expected = to_lps(Volume(blobs()[..., channel] > 0, written.image.affine))
        assert segment.name == f"segment {channel + 1}"
        assert (segment.mask == expected.array).all()
    assert [int(segment.mask.sum()) for segment in found] == [2 * 4 * 7 + 1, 3 * 5 * 6]
    assert (found[0].mask & found[1].mask).sum() == 2 * 3


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_the_order_of_frames_does_not_matter(tmp_path: Path, kind: str) -> None:
    written = write_seg(blobs() if kind == "BINARY" else blobs().astype(float), kind)
    order = random.Random(0).sample(range(written.file.NumberOfFrames), written.file.NumberOfFrames)
    assert order != sorted(order)
    path = save(written.file, tmp_path / "seg.dcm")
    file = pydicom.dcmread(path)
    frames = file.pixel_array[order]
    file.PerFrameFunctionalGroupsSequence = [file.PerFrameFunctionalGroupsSequence[index] for index in order]
    file.PixelData = pack_bits(frames.ravel()) if kind == "BINARY" else frames.tobytes()
    found = segments_of(dicom_seg, save(file, path), written.image)
    assert (np.stack([segment.mask for segment in found], axis=-1) == (blobs() > 0)).all()


def test_a_fraction_counts_from_the_threshold_on(tmp_path: Path) -> None:
    pixels = np.zeros((*SHAPE, 1))
    pixels[2, 3, :4, 0] = (0.2, 0.4, 0.6, 1.0)
    written = write_seg(pixels, "FRACTIONAL", syntax=RLELossless)
    path = save(written.file, tmp_path / "seg.dcm")
    counts = [
        int(segments_of(dicom_seg, path, written.image, AnnotationRequest(threshold=threshold))[0].mask.sum())
        for threshold in (0.1, 0.2, 0.3, 0.5, 0.6, 0.9, 1.0)
    ]
    assert counts == [4, 4, 3, 2, 2, 1, 1]
    assert segments_of(dicom_seg, path, written.image)[0].mask.sum() == 2
    for threshold in (0.0, 1.1):
        with pytest.raises(ValueError, match="above 0, up to 1"):
            segments_of(dicom_seg, path, written.image, AnnotationRequest(threshold=threshold))
    del written.file.MaximumFractionalValue
    with pytest.raises(UnreadableError, match="without Maximum Fractional Value"):
        segments_of(dicom_seg, save(written.file, path), written.image)


def labels() -> npt.NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 2:6, 1:8] = 1
    labels[2, 4:6, 3:5] = 3
    return labels


def test_label_map(tmp_path: Path) -> None:
    written = write_seg(labels(), "LABELMAP")
    path = save(written.file, tmp_path / "seg.dcm")
    found = segments_of(dicom_seg, path, written.image)
    assert [(segment.name, int(segment.mask.sum())) for segment in found] == [
        ("segment 1", 2 * 4 * 7 - 4),
        ("segment 2", 0),
        ("segment 3", 4),
    ]
    assert (found[2].mask == (labels() == 3)).all()
    file = pydicom.dcmread(path)
    file.SegmentSequence = [item for item in file.SegmentSequence if item.SegmentNumber != 3]
    with pytest.raises(UnreadableError, match="holds the value 3, but the file describes no such segment"):
        drawn(segments_of(dicom_seg, save(file, path), written.image))


def shifted(image: Volume, *voxels: float) -> Volume:
    assert image.affine is not None
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ voxels
    return Volume(image.array, affine)


def test_frames_beside_the_voxels_or_outside_the_image_are_refused(tmp_path: Path) -> None:
    written = write_seg(blobs())
    path = save(written.file, tmp_path / "seg.dcm")
    near = segments_of(dicom_seg, path, shifted(written.image, 0.05, -0.05, 0.08))
    assert (near[0].mask == (blobs()[..., 0] > 0)).all()
    with pytest.raises(UnreadableError, match=r"lie up to 0\.30 voxels \(0\.21 mm\) beside"):
        segments_of(dicom_seg, path, shifted(written.image, 0.3, 0, 0))
    with pytest.raises(UnreadableError, match=r"lie up to 0\.50 voxels \(0\.75 mm\) beside"):
        segments_of(dicom_seg, path, shifted(written.image, 0, 0, 0.5))
    for shift in ((3, 0, 0), (0, -2, 0), (0, 0, 2)):
        with pytest.raises(UnreadableError, match=r"frame \d of the SEG lies outside the image"):
            segments_of(dicom_seg, path, shifted(written.image, *shift))
    assert written.image.affine is not None
    coarse = Volume(np.zeros(SHAPE), written.image.affine @ np.diag([2.0, 2.0, 1.0, 1.0]))
    with pytest.raises(UnreadableError, match="its grid is not that of the image"):
        segments_of(dicom_seg, path, coarse)
    larger = Volume(np.zeros((9, 14, 15)), shifted(written.image, -1, -2, -3).affine)
    assert segments_of(dicom_seg, path, larger)[1].mask[3:, 2:12, 1:13].sum() == 90


# What only half works, and what is private


class Reading:
    """Both readers on a file that a test wrote."""

    def __init__(self, folder: Path) -> None:
        written = write_seg(blobs())
        self.image = written.image
        self.seg = save(written.file, folder / "seg.dcm")
        self.rtstruct = write_rtstruct(folder / "rs.dcm", {"a": [square(1.5, 3.5, 2)], "b": [square(1.5, 3.5, 4)]})

    def files(self) -> list[Path]:
        return [self.seg, self.rtstruct]

    def read(self, path: Path, kind: Path) -> list[Segment]:
        if kind == self.seg:
            return segments_of(dicom_seg, path, self.image)
        return segments_of(rtstruct, path, empty(UNIT, SHAPE))


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path)


def test_files_of_another_kind_are_refused_in_words(tmp_path: Path, reading: Reading) -> None:
    text, nothing = tmp_path / "notes.dcm", tmp_path / "empty.dcm"
    text.write_text("no DICOM " * 100)
    nothing.write_bytes(b"")
    for kind in reading.files():
        for path in (text, nothing):
            with pytest.raises(UnreadableError, match="no DICOM file"):
                reading.read(path, kind)
        with pytest.raises(FileNotFoundError):
            reading.read(tmp_path / "gone.dcm", kind)
    with pytest.raises(UnreadableError, match=r"no DICOM segmentation \(SEG\): the file is RT Structure Set Storage"):
        reading.read(reading.rtstruct, reading.seg)
    with pytest.raises(UnreadableError, match=r"no RT structure set \(RTSTRUCT\): the file is Segmentation Storage"):
        reading.read(reading.seg, reading.rtstruct)


@pytest.mark.filterwarnings("error")
def test_damaged_files_are_refused_and_nothing_else_is_raised_or_logged(
    tmp_path: Path, reading: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    rng = random.Random(0)
    damaged = tmp_path / "damaged.dcm"
    for kind in reading.files():
        whole = kind.read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                content[rng.randrange(132, len(content))] = rng.randrange(256)
            if rng.random() < 0.3:
                del content[rng.randrange(len(content)) :]
            damaged.write_bytes(content)
            try:
                drawn(reading.read(damaged, kind))
            except UnreadableError as error:
                assert_private(str(error))
    for kind in reading.files():
        whole = kind.read_bytes()
        for length in range(0, len(whole) - 2, 37):
            damaged.write_bytes(whole[:length])
            with pytest.raises(UnreadableError):
                drawn(reading.read(damaged, kind))
    assert not caplog.records  # pydicom quotes values


def test_headers_that_promise_too_much_are_refused_before_memory_is_taken(tmp_path: Path, reading: Reading) -> None:
    damaged = tmp_path / "damaged.dcm"
    for attributes in (
        {"NumberOfFrames": 2**31 - 1},
        {"NumberOfFrames": 2**31 - 1, "Rows": 1, "Columns": 1},
        {"Rows": 65535, "Columns": 65535},
        {
            "TotalPixelMatrixRows": 2**32 - 1,
            "TotalPixelMatrixColumns": 2**32 - 1,
            "DimensionOrganizationType": "TILED_FULL",
        },
    ):
        file = pydicom.dcmread(reading.seg)
        for keyword, value in attributes.items():
            setattr(file, keyword, value)
        with pytest.raises(UnreadableError, match=r"damaged DICOM SEG|limits\.pixels|not that of the image|outside"):
            reading.read(save(file, damaged), reading.seg)


def assert_private(message: str) -> None:
    for word in (PATIENT, "1970", "2020", "1.2.8", "2.25."):
        assert word not in message


def test_only_the_written_attributes_are_decoded(monkeypatch: pytest.MonkeyPatch, reading: Reading) -> None:
    seen: set[str] = set()
    convert = pydicom.dataset.convert_raw_data_element  # type: ignore[attr-defined]

    def spy(raw: Any, **options: Any) -> Any:
        seen.add(pydicom.datadict.keyword_for_tag(raw.tag))
        return convert(raw, **options)

    monkeypatch.setattr(pydicom.dataset, "convert_raw_data_element", spy)
    for kind, module in ((reading.seg, dicom_seg), (reading.rtstruct, rtstruct)):
        seen.clear()
        drawn(reading.read(kind, kind))
        attributes = cast("tuple[str, ...]", module.ATTRIBUTES)
        assert seen
        meta = {"SpecificCharacterSet", "FileMetaInformationGroupLength"}
        assert seen <= {*attributes, *IDENTITY_ATTRIBUTES, *meta}
        assert not [name for name in attributes if "UID" in name and name not in ("SOPClassUID", "TransferSyntaxUID")]
