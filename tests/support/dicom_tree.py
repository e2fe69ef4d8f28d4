"""Trees of DICOM files as archives give them, written by pydicom and highdicom, in three shapes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import highdicom
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.support.dicom_image import image_dataset, save
from tests.support.dicom_masks import contour, dicom_file

SHAPES: Final = ("{series}/{number}", "{patient}/{study}/{series}/IM{number}.dcm", "{number}.dcm")
"""A folder for each series; all series of a patient below it; everything in one folder."""
SPACING: Final = (2.0, 0.8, 0.7)
"""Between slices, rows and columns, in mm."""


@dataclass
class Tree:
    """Files that are written below a folder, each where the shape says."""

    root: Path
    shape: str
    count: int = 0

    def add(self, dataset: Dataset) -> Path:
        self.count += 1
        place = self.shape.format(
            patient=dataset.PatientID,
            study=dataset.StudyInstanceUID,
            series=dataset.SeriesInstanceUID,
            number=f"{(self.count * 37) % 997:04d}_{self.count}",
        )
        return save(self.root / place, dataset, ExplicitVRLittleEndian)


@dataclass(frozen=True)
class Study:
    """An examination of a patient, whose series share a frame of reference."""

    patient: str
    uid: str = field(default_factory=generate_uid)
    frame: str = field(default_factory=generate_uid)

    def about(self, modality: str, description: str, series: str) -> dict[str, Any]:
        return {
            "PatientID": self.patient,
            "PatientName": f"{self.patient}^Jane",
            "PatientBirthDate": "19701231",
            "PatientSex": "F",
            "StudyInstanceUID": self.uid,
            "StudyID": "Roe-1",
            "StudyDate": "20200102",
            "StudyTime": "101112",
            "AccessionNumber": "Roe-2",
            "SeriesInstanceUID": series,
            "SeriesNumber": 1,
            "SeriesDescription": description,
            "BodyPartExamined": "CHEST",
            "FrameOfReferenceUID": self.frame,
            "Modality": modality,
        }


def series_of(
    study: Study, volume: npt.NDArray[Any], modality: str = "CT", description: str = "Thorax 1.0 Secretname"
) -> list[Dataset]:
    """The images of a volume (Z, Y, X), the lowest first, whose first voxel lies at 0."""
    series = generate_uid()
    return [
        image_dataset(
            np.ascontiguousarray(plane),
            **study.about(modality, description, series),
            InstanceNumber=number + 1,
            ImagePositionPatient=[0, 0, SPACING[0] * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=list(SPACING[1:]),
            SliceThickness=SPACING[0],
        )
        for number, plane in enumerate(volume)
    ]


def seg_of(images: Sequence[Dataset], masks: dict[str, npt.NDArray[np.bool_]], description: str = "Masks") -> Dataset:
    """A SEG by highdicom, which refers to its images; masks are (Z, Y, X)."""
    descriptions = [
        highdicom.seg.SegmentDescription(
            number, name, codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, name in enumerate(masks, 1)
    ]
    with warnings.catch_warnings(action="ignore"):
        return highdicom.seg.Segmentation(
            images,
            np.stack(list(masks.values()), axis=-1).astype(np.uint8),
            "BINARY",
            descriptions,
            generate_uid(),
            7,
            generate_uid(),
            1,
            "maker",
            "model",
            "1",
            "serial",
            series_description=description,
        )


def rtstruct_of(study: Study, name: str, mask: npt.NDArray[np.bool_], series: str | None = None) -> Dataset:
    """A structure set with one box, (Z, Y, X); it names a series, or another copy of one that is not there."""
    file = dicom_file("1.2.840.10008.5.1.4.1.1.481.3", ExplicitVRLittleEndian)
    for keyword, value in study.about("RTSTRUCT", "Contours", generate_uid()).items():
        setattr(file, keyword, value)
    del file.FrameOfReferenceUID  # the standard has it in the items alone
    frame, examination, named, roi, drawn = (Dataset() for _ in range(5))
    named.SeriesInstanceUID, examination.RTReferencedSeriesSequence = series or generate_uid(), [named]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = study.frame, [examination]
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = 1, name, study.frame
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, []
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        y, x = (np.flatnonzero(mask[z].any(axis=axis)) for axis in (1, 0))
        low, high = (x[0] - 0.5, y[0] - 0.5), (x[-1] + 0.5, y[-1] + 0.5)
        corners = [low, (high[0], low[1]), high, (low[0], high[1])]
        points = [(right * SPACING[2], down * SPACING[1], z * SPACING[0]) for right, down in corners]
        drawn.ContourSequence.append(contour("CLOSED_PLANAR", points))
    file.ReferencedFrameOfReferenceSequence, file.StructureSetROISequence = [frame], [roi]
    file.ROIContourSequence = [drawn]
    return file
