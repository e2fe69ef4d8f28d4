"""What tells a DICOM file from others: of which series it is, and to which images its masks refer.

Only the header is read, and of it only named attributes. What comes out holds identifiers: it never leaves the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset, FileDataset

from builder.errors import UnreadableError
from builder.readers.dicom.file import kind_of, open_dicom, parsing, text_of
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.dicom.identity import REFERENCE_ATTRIBUTES, identity_of, identity_of_masks
from builder.readers.dicom.series import NOT_IMAGES
from builder.readers.files import DICOM, is_dicom
from builder.readers.rules import DEFAULT_RULES

_TEXTS: Final = (
    "BodyPartExamined",
    "Modality",
    "PatientID",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesDescription",
    "SeriesInstanceUID",
    "StudyInstanceUID",
)
ATTRIBUTES: Final = (
    *IDENTITY_ATTRIBUTES,
    *REFERENCE_ATTRIBUTES,
    *_TEXTS,
    "ImagePositionPatient",
    "ROIName",
    "Rows",
    "SegmentLabel",
    "SegmentNumber",
    "SegmentSequence",
    "SharedFunctionalGroupsSequence",
    "TotalPixelMatrixRows",
)
"""Every attribute that is read, at any depth."""

_MASKS: Final = {"SEG": ("SegmentSequence", "SegmentLabel"), "RTSTRUCT": ("StructureSetROISequence", "ROIName")}
"""Modality of named masks -> sequence of them, and where an item has its name."""
_DIGITS: Final = 16
"""Hexadecimal digits of a hash that stands for a UID: 64 bits, which no two of a tree share."""


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What the files of one series have in common.

    Attributes:
        image: Whether they are images.
        modality: Modality.
        description: Series Description.
        body_part: Body Part Examined.
        patient: PatientID; empty where there is none.
        study: Study Instance UID.
        series: Series Instance UID.
        series_hash: Its hash.
        frame: Hash of the frame of reference; empty where there is none.
        placed: Whether they say where in the patient they lie, so that they may make one volume.
    """

    image: bool
    modality: str
    description: str
    body_part: str
    patient: str
    study: str
    series: str
    series_hash: str
    frame: str
    placed: bool


@dataclass(frozen=True, slots=True)
class References:
    """Which images a SEG or RTSTRUCT is about, by hashes, and the names of its masks.

    Attributes:
        frames: Frames of reference.
        series: Series.
        instances: Single images.
        names: Segment labels or ROI names.
    """

    frames: tuple[str, ...]
    series: tuple[str, ...]
    instances: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says of itself.

    Attributes:
        about: What it shares with its series.
        instance: SOP Instance UID.
        instance_hash: Its hash.
        references: Of a SEG or RTSTRUCT, else None.
    """

    about: SeriesFacts
    instance: str
    instance_hash: str
    references: References | None


def facts_of(path: Path) -> Facts | None:
    """What a file says of itself; None where it is no DICOM image, SEG or RTSTRUCT.

    Raises:
        UnreadableError: It is damaged, or says too little.
        OSError: It cannot be opened.
    """
    if not is_dicom(path) and not path.name.lower().endswith(DICOM.endings):
        return None
    dataset = open_dicom(path, ATTRIBUTES, pixels=False)
    texts = {keyword: text_of(dataset, keyword) for keyword in _TEXTS}
    modality = texts["Modality"]
    image = modality not in NOT_IMAGES and ("Rows" in dataset or "Image Storage" in kind_of(dataset))
    if not image and modality not in _MASKS:
        if not modality and not texts["SOPClassUID"]:
            _refuse_nameless(dataset)
        return None
    own = identity_of(dataset)
    about = SeriesFacts(
        image=image,
        modality=modality,
        description=texts["SeriesDescription"],
        body_part=texts["BodyPartExamined"],
        patient=texts["PatientID"],
        study=texts["StudyInstanceUID"],
        series=texts["SeriesInstanceUID"],
        series_hash=_only(own.series),
        frame=_only(own.frames_of_reference),
        placed=_is_placed(dataset),
    )
    references = None if image else _references_of(path, dataset, modality)
    return Facts(about, texts["SOPInstanceUID"], _only(own.instances), references)


def _refuse_nameless(dataset: FileDataset) -> None:
    """Refuse a file that is of no kind: it breaks off. A list of files (DICOMDIR) says it in its meta information."""
    if text_of(dataset.file_meta, "MediaStorageSOPClassUID"):
        return
    raise UnreadableError("damaged DICOM file: it does not say what it is, perhaps it breaks off; fetch it again")


def _is_placed(dataset: Dataset) -> bool:
    """Whether an image says where it lies (PS3.3 C.7.6.2 and C.7.6.16); tiles of a slide lie on no patient."""
    shared = "SharedFunctionalGroupsSequence" in dataset and "TotalPixelMatrixRows" not in dataset
    return bool(text_of(dataset, "ImagePositionPatient")) or shared


def _references_of(path: Path, dataset: Dataset, modality: str) -> References:
    found = identity_of_masks(dataset)
    if not (found.series or found.instances) and modality == "SEG":
        groups = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        further = open_dicom(path, (*ATTRIBUTES, *groups), pixels=False, rules=DEFAULT_RULES)
        with parsing("DICOM SEG: the description of its frames"):
            found = identity_of_masks(further, [item for group in groups for item in further.get(group) or []])
    sequence, keyword = _MASKS[modality]
    with parsing(f"DICOM {modality}: the names of its masks"):
        # number 0 is what a label map calls its background
        items = [item for item in dataset.get(sequence) or [] if str(item.get("SegmentNumber", "")) != "0"]
        names = tuple(str(item.get(keyword) or "") for item in items)
    return References(
        _shortened(found.frames_of_reference), _shortened(found.series), _shortened(found.instances), names
    )


def _only(hashes: frozenset[str]) -> str:
    """The one hash of a file's own UID, empty where it has none."""
    return next(iter(_shortened(hashes)), "")


def _shortened(hashes: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(one[:_DIGITS] for one in hashes))
