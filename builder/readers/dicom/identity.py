"""What a DICOM file says it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from pydicom.dataset import Dataset

from builder.readers.dicom.file import parsing
from builder.readers.identity import Identity

ATTRIBUTES: Final = (
    "BurnedInAnnotation",
    "FrameOfReferenceUID",
    "Modality",
    "PatientID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
)
"""All that `identity_of` reads, at the file's first level. PatientID and the UIDs leave it as hashes."""

_SERIES: Final = "SeriesInstanceUID"
_INSTANCE: Final = "ReferencedSOPInstanceUID"
_FRAMES: Final = ("FrameOfReferenceUID", "ReferencedFrameOfReferenceUID")
_REFERRING: Final = {
    "ContourImageSequence": (_INSTANCE,),
    "DerivationImageSequence": (),
    "RTReferencedSeriesSequence": (_SERIES,),
    "RTReferencedStudySequence": (),
    "ReferencedFrameOfReferenceSequence": _FRAMES[:1],
    "ReferencedInstanceSequence": (_INSTANCE,),
    "ReferencedSeriesSequence": (_SERIES,),
    "SourceImageSequence": (_INSTANCE,),
    "StructureSetROISequence": _FRAMES[1:],
}
"""Sequence by which a mask refers to its images -> what its items name; they may hold further ones of these (PS3.3
C.8.8.5, C.8.8.6.3, C.12.4, C.7.6.16.2.6)."""
REFERENCE_ATTRIBUTES: Final = (*_REFERRING, _INSTANCE, *_FRAMES, _SERIES)
"""All that `identity_of_masks` reads, at any depth; UIDs leave it as hashes."""

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
        frames_of_reference=_hashes([texts["FrameOfReferenceUID"]]),
        series=_hashes([texts["SeriesInstanceUID"]]),
        instances=_hashes([texts["SOPInstanceUID"]]),
    )


def identity_of_series(images: Sequence[Identity]) -> Identity:
    """What a series says.

    It speaks by its first image, and has burned-in text if any of its images has; a mask may refer to any of them.
    """
    return replace(
        images[0],
        burned_in=any(image.burned_in for image in images),
        frames_of_reference=frozenset[str]().union(*(image.frames_of_reference for image in images)),
        series=frozenset[str]().union(*(image.series for image in images)),
        instances=frozenset[str]().union(*(image.instances for image in images)),
    )


def identity_of_masks(dataset: Dataset, further: Iterable[Dataset] = ()) -> Identity:
    """What a SEG or RTSTRUCT says of itself, and to which images it refers.

    Args:
        dataset: Opened with `ATTRIBUTES` and `REFERENCE_ATTRIBUTES` among its attributes.
        further: Parts of it below the first level that refer to images too.

    Raises:
        UnreadableError: That is damaged.
    """
    own = identity_of(dataset)
    with parsing("DICOM file: the images that it refers to"):
        named = {(keyword, uid) for part in (dataset, *further) for keyword, uid in _references(part)}
    return replace(
        own,
        frames_of_reference=own.frames_of_reference | _hashes(uid for keyword, uid in named if keyword in _FRAMES),
        series=_hashes(uid for keyword, uid in named if keyword == _SERIES),
        instances=_hashes(uid for keyword, uid in named if keyword == _INSTANCE),
    )


def _references(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Keyword and UID of everything that a dataset refers to."""
    for sequence, keywords in _REFERRING.items():
        for item in dataset.get(sequence) or []:
            yield from ((keyword, str(item.get(keyword) or "").strip()) for keyword in keywords)
            yield from _references(item)


def _hashes(uids: Iterable[str]) -> frozenset[str]:
    return frozenset(_hash(uid) for uid in uids if uid)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if text else ""
