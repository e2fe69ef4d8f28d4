"""Named masks that only make sense on the grid of their image: DICOM SEG and RTSTRUCT."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from builder.problem import CaseError
from builder.readers import UnreadableError, in_words
from builder.volume import Picture, Volume


@dataclass(frozen=True)
class Segment:
    """One named mask.

    Attributes:
        name: Segment label or ROI name, as the file has it.
        mask: (Z, Y, X) bool on the grid of the image; (1, H, W) for a picture.
    """

    name: str
    mask: npt.NDArray[np.bool_]


class SegmentReader(Protocol):
    """What a module that reads named masks offers."""

    def read_segments(self, path: Path, image: Picture | Volume) -> list[Segment]:
        """Read all named masks of a file on the grid of an image in LPS axes; raises `UnreadableError`."""
        ...


SEGMENT_READERS: Final = {"SEG": "builder.readers.dicom_seg", "RTSTRUCT": "builder.readers.rtstruct"}
"""DICOM modality -> module that reads its masks."""


def read_segments(root: Path, file: str, image: Picture | Volume) -> list[Segment]:
    """Read the segments of a DICOM SEG or the ROIs of an RTSTRUCT.

    Args:
        root: Root of the source.
        file: Path below it.
        image: The image, in LPS axes.

    Raises:
        CaseError: Stage ``read``; it is neither, is damaged, or does not lie on the image's grid.
    """
    path = root / file
    try:
        kind = _modality(path)
        if kind not in SEGMENT_READERS:
            raise UnreadableError(f"it is a DICOM object of modality {kind or 'unknown'}, expected SEG or RTSTRUCT")
        reader = cast("SegmentReader", import_module(SEGMENT_READERS[kind]))
        return reader.read_segments(path, image)
    except (UnreadableError, OSError) as error:
        raise CaseError("read", file, in_words(error)) from None


def _modality(path: Path) -> str:
    from builder.readers.dicom_file import open_dicom, quiet  # noqa: PLC0415 - loads pydicom, which few sources need

    header = open_dicom(path, ["Modality"], pixels=False)
    with quiet():
        return str(header.get("Modality", ""))
