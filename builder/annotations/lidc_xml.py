"""Outlines of lung nodules in the XML of LIDC-IDRI: up to four readers, each a ``readingSession``, in one file.

An ``unblindedReadNodule`` has a ``roi`` for each slice: its ``imageZposition`` (the slice's z in DICOM mm), whether it
is part of the nodule or cut out of it (``inclusion``), and pixels of its outline (``edgeMap`` with ``xCoord``, the
column, and ``yCoord``, the row, from 0). The outline is the first ring of pixels outside of the nodule,
so it is no part of it, and neither is that of what is cut out; so pylidc 0.2.3 draws them, the package that most
readers of the set use. Nodules below 3 mm have one pixel and no area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from builder.annotations.segments import AnnotationRequest, NamedMasks, Segment
from builder.annotations.untrusted_xml import parse
from builder.errors import UnreadableError
from builder.readers.image import FARTHEST, Picture, Volume

ROOT: Final = "LidcReadMessage"
"""Name of the outermost element of such a file about CT."""
NODULE: Final = "nodule"
"""Name of each mask; the file has none but numbers."""
_MEMORY: Final = 32
"""Most bytes that Python takes for each byte of a file once its outlines are lists."""
_HALF: Final = 0.5
"""How far, in slices, an outline may lie from a slice."""
_FEWEST: Final = 3
"""Points that enclose something."""
_TEXTS: Final = ("imageZposition", "inclusion", "xCoord", "yCoord")


@dataclass
class _Outline:
    """An outline on one slice, as it is being read.

    Attributes:
        z: Of the slice, in mm.
        inside: Whether it belongs to the nodule; else it is cut out of it.
        columns: Of its points.
        rows: Of its points.
    """

    z: float = 0.0
    inside: bool = True
    columns: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


class _Sessions:
    """Takes sessions, nodules and outlines from the file, element by element."""

    def __init__(self) -> None:
        self.found: list[list[list[_Outline]]] = []
        self._outermost = ""
        self._within = False
        self._text: list[str] | None = None

    def start(self, tag: str, _values: dict[str, str]) -> None:
        if not self._outermost:
            self._outermost = tag
            if tag != ROOT:
                raise UnreadableError(f"its outermost element is no {ROOT}")
        if tag == "readingSession":
            self.found.append([])
        elif tag == "unblindedReadNodule" and self.found:
            self._within = True
            self.found[-1].append([])
        elif tag == "roi" and self._within:
            self.found[-1][-1].append(_Outline())
        elif tag in _TEXTS and self._within and self.found[-1][-1]:
            self._text = []

    def text(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def end(self, tag: str) -> None:
        if tag == "unblindedReadNodule":
            self._within = False
        if self._text is None or tag not in _TEXTS:
            return
        text, self._text = "".join(self._text).strip(), None
        outline = self.found[-1][-1][-1]
        try:
            if tag == "inclusion":
                outline.inside = text.upper() != "FALSE"
            elif tag == "imageZposition":
                outline.z = float(text)
            else:
                (outline.columns if tag == "xCoord" else outline.rows).append(int(text))
        except ValueError:
            raise UnreadableError(f"damaged: {tag} is no number") from None


def read_named_masks(path: Path, request: AnnotationRequest) -> NamedMasks:
    """The nodules of all readers, or of the one who is asked for, each called ``nodule``; see `NamedMaskReader`."""
    request.rules.check_bytes(_MEMORY * path.stat().st_size)
    sessions = _Sessions()
    parse(path, sessions, text=sessions.text, writers="files of LIDC-IDRI have not")
    wanted = range(len(sessions.found)) if request.rater is None else (request.rater,)
    nodules = [nodule for at in wanted if at < len(sessions.found) for nodule in sessions.found[at]]
    for nodule in nodules:
        _check(nodule)
    drawn = [nodule for nodule in nodules if any(_encloses(outline) for outline in nodule)]
    return NamedMasks(partial(_segments_on, drawn), raters=len(sessions.found))


def _check(nodule: Sequence[_Outline]) -> None:
    for outline in nodule:
        numbers = (outline.z, *outline.columns, *outline.rows)
        if len(outline.columns) != len(outline.rows) or not all(abs(number) < FARTHEST for number in numbers):
            raise UnreadableError("damaged: a point of an outline has one coordinate, or an absurd one")


def _encloses(outline: _Outline) -> bool:
    return len(outline.columns) >= _FEWEST


def _segments_on(nodules: Sequence[Sequence[_Outline]], image: Picture | Volume) -> list[Segment]:
    if isinstance(image, Picture) or image.affine is None or image.stored_axes is None:
        raise UnreadableError("outlines of LIDC-IDRI are about CT series, but the image is no volume with a place")
    if image.stored_axes[:2] != "LP":
        raise UnreadableError(f"its image is stored in {image.stored_axes}, but outlines count rows of axial slices")
    return [Segment(NODULE, partial(_mask, nodule, image), _without_slice(nodule, image)) for nodule in nodules]


def _slice_of(outline: _Outline, image: Volume) -> int | None:
    """The slice of an outline; None where there is none."""
    assert image.affine is not None
    at = (outline.z - float(image.affine[2, 3])) / float(image.affine[2, 2])
    return round(at) if -_HALF < at < image.shape[0] - _HALF and abs(at - round(at)) <= _HALF else None


def _without_slice(nodule: Sequence[_Outline], image: Volume) -> str | None:
    missing = sum(_slice_of(outline, image) is None for outline in nodule)
    if not missing:
        return None
    return (
        f"{missing:,} of {len(nodule):,} outlines of a nodule have no slice in the image, which has "
        f"{image.shape[0]:,}: slices are missing, or it is another series"
    )


def _mask(nodule: Sequence[_Outline], image: Volume) -> npt.NDArray[np.bool_]:
    """(Z, Y, X): first what outlines enclose, then what others cut out."""
    mask = np.zeros(image.shape, np.uint8)
    for outline in sorted(nodule, key=lambda outline: not outline.inside):
        at = _slice_of(outline, image)
        if at is None or not _encloses(outline):
            continue
        points = [np.stack([outline.columns, outline.rows], axis=1).astype(np.int32)]
        if outline.inside:
            filled = cv2.fillPoly(np.zeros(image.shape[1:], np.uint8), points, 1)
            mask[at] |= cv2.polylines(filled, points, isClosed=True, color=0)
        else:
            cv2.fillPoly(mask[at], points, 0)
    return mask.view(np.bool_)
