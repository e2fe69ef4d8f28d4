"""Named masks that only make sense on the grid of their image: DICOM SEG and RTSTRUCT, COCO and YOLO annotations.

To read a further kind, add a module with the function of `SegmentReader` and one entry to a table below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import numpy.typing as npt

from builder.errors import CaseError, UnreadableError
from builder.readers.files import in_words, path_below
from builder.readers.image import Picture, Volume
from builder.readers.rules import DEFAULT_RULES, ReadRules

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Segment:
    """One named mask, drawn when it is asked for: a file may hold a hundred of them.

    Attributes:
        name: Segment label, ROI name or category, as the file has it.
        draw: Makes its mask; raises UnreadableError where its pixels are damaged.
    """

    name: str
    draw: Callable[[], npt.NDArray[Any]]

    @property
    def mask(self) -> npt.NDArray[Any]:
        """(Z, Y, X) bool on the grid of the image; (1, H, W) for a picture. Drawn anew each time."""
        return self.draw()


@dataclass(frozen=True)
class Drawing:
    """How segments are asked for.

    Attributes:
        image_file: Path of the image below the source's root: a file may hold the masks of many images.
        threshold: Fraction from which a pixel of a fractional segment belongs to it; above 0, up to 1.
        rules: See there.
    """

    image_file: str = ""
    threshold: float = 0.5
    rules: ReadRules = DEFAULT_RULES


DEFAULT_DRAWING: Final = Drawing()


class SegmentReader(Protocol):
    """What a module that reads named masks offers."""

    def read_segments(self, path: Path, image: Picture | Volume, drawing: Drawing) -> list[Segment] | None:
        """All named masks of a file for an image in LPS axes; None where it is about other images alone.

        Raises:
            UnreadableError: It is damaged, or does not lie on the image's grid.
        """
        ...


DICOM_SEGMENTS: Final = {"SEG": "builder.annotations.dicom_seg", "RTSTRUCT": "builder.annotations.rtstruct"}
"""DICOM modality -> module that reads its masks."""
SEGMENT_READERS: Final = {".json": "builder.annotations.coco", ".txt": "builder.annotations.yolo"}
"""Ending of a file name -> module that reads its masks; everything else is DICOM."""


def read_segments(root: Path, file: str, image: Picture | Volume, drawing: Drawing) -> list[Segment] | None:
    """Read the named masks of a file for one image.

    Args:
        root: Root of the source.
        file: Path below it.
        image: The image, in LPS axes.
        drawing: See there.

    Returns:
        The segments, whose masks raise CaseError too; None where the file is about other images alone.

    Raises:
        CaseError: Stage ``read``; it holds no named masks, is damaged, or does not lie on the image's grid.
    """
    path = path_below(root, file)
    found = _told(file, lambda: _reader_of(path).read_segments(path, image, drawing))
    return None if found is None else [Segment(one.name, partial(_told, file, one.draw)) for one in found]


def _told(file: str, read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except (UnreadableError, OSError) as error:
        raise CaseError("read", file, in_words(error)) from None


def _reader_of(path: Path) -> SegmentReader:
    module = SEGMENT_READERS.get(path.suffix.lower())
    if module is None:
        from builder.readers.dicom.file import open_dicom, text_of  # noqa: PLC0415 - loads pydicom, which few need

        kind = text_of(open_dicom(path, ["Modality"], pixels=False), "Modality")
        if kind not in DICOM_SEGMENTS:
            raise UnreadableError(f"it is a DICOM object of modality {kind or 'unknown'}, expected SEG or RTSTRUCT")
        module = DICOM_SEGMENTS[kind]
    return cast("SegmentReader", import_module(module))
