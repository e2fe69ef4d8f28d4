"""SEG and RTSTRUCT files that tests write, and the images that they are drawn on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pydicom.dataset
import SimpleITK
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from builder.annotations.segments import DEFAULT_REQUEST, AnnotationRequest, NamedMaskReader, Segment
from builder.conversion.orientation import to_lps
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
