"""DICOM images that tests write, file by file, with a patient's name in each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
SECRET = "Secretname"  # noqa: S105 - stands for the name of a patient
SERIES = "1.2.826.0.1.3680043.8.498.77"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


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
