"""Sources of DICOM series that tests write and build."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.support.command import Command, Ran
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like

HASHED = RECIPE.format(name="Dicom", license="CC-BY-3.0", modality="ct").split("[files]")[0]
HEAD = f'identifiers = "public"\nidentifiers_evidence = "https://example.org/de-identified"\n{HASHED}'


def write_ct_series(
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


def write_case(raw: Path, change: Callable[[int, Dataset], None] | None = None) -> None:
    write_ct_series(raw / "p1/ct", ct_like(), change)
    mask = sitk.GetImageFromArray((ct_like() > 0).astype(np.uint8))
    mask.SetSpacing((0.7, 0.8, 2))
    mask.SetOrigin((-10, -20, 30))
    sitk.WriteImage(mask, str(raw / "p1/seg.nrrd"))


CASE = '[files]\nimage = "{case}/ct/"\nmask = "{case}/seg.nrrd"\n[labels]\n1 = "bone"\n'


def build(sa_med2d: Command, tmp_path: Path, raw: Path, text: str, modality: str = "ct") -> Ran:
    (tmp_path / "Dicom.toml").write_text(HEAD.replace('modality = "ct"', f'modality = "{modality}"') + text)
    return sa_med2d("build", tmp_path / "Dicom.toml", "--raw", raw, "--out", tmp_path / "out", "--workers", 1)
