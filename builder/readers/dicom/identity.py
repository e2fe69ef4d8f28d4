"""What a DICOM file says it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydicom.dataset import Dataset

from builder.readers.dicom.file import parsing
from builder.readers.identity import Identity

ATTRIBUTES: Final = ("BurnedInAnnotation", "FrameOfReferenceUID", "Modality", "PatientID")
"""All that is read, at the file's first level. PatientID and FrameOfReferenceUID leave `identity_of` as hashes."""

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


def identity_of(dataset: Dataset) -> Identity:
    """What a file says of itself.

    Args:
        dataset: Opened with `ATTRIBUTES` among its attributes.

    Raises:
        UnreadableError: That is damaged.
    """
    with parsing("DICOM file: what it says of itself"):
        texts = {name: str(dataset.get(name) or "").strip() for name in ATTRIBUTES}
    modality = texts["Modality"]
    return Identity(
        modality=modality,
        fits=frozenset(name for name, fitting in MODALITIES.items() if modality in fitting),
        burned_in=texts["BurnedInAnnotation"].upper() == "YES",
        patient=_hash(texts["PatientID"]),
        frame_of_reference=_hash(texts["FrameOfReferenceUID"]),
    )


def identity_of_series(images: Sequence[Identity]) -> Identity:
    """What a series says: it speaks by its first image, and has burned-in text if any of its images has."""
    return replace(images[0], burned_in=any(image.burned_in for image in images))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if text else ""
