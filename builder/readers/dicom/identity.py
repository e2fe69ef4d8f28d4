"""What a DICOM file says it shows, for the gates: nothing of it is kept or shown, it is only compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from builder.errors import UnreadableError
from builder.readers.dicom.file import open_dicom, parsing, text_of
from builder.readers.dicom.series import series_files
from builder.readers.files import is_dicom, may_be_dicom
from builder.readers.rules import ReadRules

ATTRIBUTES: Final = ("BurnedInAnnotation", "FrameOfReferenceUID", "Modality", "PatientID")
"""All that is read. PatientID and FrameOfReferenceUID leave `identity_of` as hashes."""

MODALITIES: Final = {
    "ct": ("CT",),
    "mr": ("MR",),
    "pet": ("PT",),
    "ultrasound": ("US", "IVUS"),
    "x_ray": ("CR", "DX", "IO", "MG", "PX", "RF", "XA"),
    "fundus_photography": ("OP",),
    "dermoscopy": ("DMS", "XC"),
    "endoscopy": ("ES",),
    "oct": ("OPT", "IVOCT"),
    "microscopy": ("GM", "SM"),
    "histopathology": ("GM", "SM"),
}
"""Modality of a recipe -> DICOM modalities that fit it (PS3.3 section C.7.3.1.1.1)."""


@dataclass(frozen=True)
class Identity:
    """What a DICOM file says it shows.

    Attributes:
        modality: DICOM modality, such as ``CT``; empty where the file has none.
        burned_in: Whether text is part of the pixels.
        patient: Hash of the patient's id; empty where the file has none.
        frame: Hash of the frame of reference; empty where the file has none.
    """

    modality: str
    burned_in: bool
    patient: str
    frame: str


def identity_of(path: Path, rules: ReadRules) -> Identity | None:
    """What a file, or the images of the series of a folder, say they show; None where nothing is DICOM.

    A series speaks by its first image, and has burned-in text if any of its images has.

    Raises:
        UnreadableError: A DICOM file is damaged.
    """
    if not path.is_dir():
        return _identity(path, rules) if is_dicom(path) else None
    images = [_identity(file, rules) for file in series_files(path, rules)]
    return replace(images[0], burned_in=any(image.burned_in for image in images))


def patient_of(path: Path, rules: ReadRules) -> str:
    """The PatientID of a DICOM file, or of the first image of a series folder, as it stands there.

    Raises:
        UnreadableError: It has none, is damaged, or no DICOM.
    """
    if not may_be_dicom(path):
        raise UnreadableError("no DICOM file, but files.patient is PatientID")
    file = series_files(path, rules)[0] if path.is_dir() else path
    patient = text_of(open_dicom(file, ATTRIBUTES, pixels=False, rules=rules), "PatientID")
    if not patient:
        raise UnreadableError("it names no patient, but files.patient is PatientID")
    return patient


def fits(identity: Identity, modality: str) -> bool:
    """Whether a DICOM modality fits that of a recipe; one that is not told fits."""
    return not identity.modality or identity.modality in MODALITIES[modality]


def contradict(image: Identity, mask: Identity) -> str | None:
    """What says that a mask is not of the patient of an image; None where nothing does."""
    if image.patient and mask.patient and image.patient != mask.patient:
        return "image and mask name different patients"
    if image.frame and mask.frame and image.frame != mask.frame:
        return "image and mask name different frames of reference"
    return None


def _identity(file: Path, rules: ReadRules) -> Identity:
    data = open_dicom(file, ATTRIBUTES, pixels=False, rules=rules)
    with parsing("DICOM file: what it says of itself"):
        texts = {name: str(data.get(name) or "").strip() for name in ATTRIBUTES}
    return Identity(
        modality=texts["Modality"],
        burned_in=texts["BurnedInAnnotation"].upper() == "YES",
        patient=_hash(texts["PatientID"]),
        frame=_hash(texts["FrameOfReferenceUID"]),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if text else ""
