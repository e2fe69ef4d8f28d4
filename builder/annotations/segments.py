"""Named masks that only make sense on the grid of their image: DICOM SEG and RTSTRUCT, COCO, YOLO, XML, run lengths.

To read a further kind, add a module with the function of `NamedMaskReader`, a function that imports it, and one entry
to a table below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, ParamSpec, Protocol, TypeVar

import numpy.typing as npt

from builder.errors import UnreadableError
from builder.readers.files import path_below, read_error
from builder.readers.identity import ANONYMOUS, Identity
from builder.readers.image import Picture, Volume
from builder.readers.rules import DEFAULT_RULES, ReadRules

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Segment:
    """One named mask, drawn when it is asked for: a file may hold a hundred of them.

    Attributes:
        name: Segment label, ROI name or category, as the file has it.
        draw: Makes its mask; raises UnreadableError where its pixels are damaged.
        without_slice: What of it lies on no slice of the image and is not drawn, in words; None for nothing.
    """

    name: str
    draw: Callable[[], npt.NDArray[Any]]
    without_slice: str | None = None

    @property
    def mask(self) -> npt.NDArray[Any]:
        """(Z, Y, X) bool on the grid of the image; (1, H, W) for a picture. Drawn anew each time."""
        return self.draw()


@dataclass(frozen=True)
class NamedMasks:
    """The named masks of a file, before they lie on the grid of an image.

    Attributes:
        on: All of them for an image in LPS axes; None where the file is about other images alone. Raises
            UnreadableError where they do not lie on the image's grid.
        identity: What the file says of itself.
        raters: How many raters drew them, where the file keeps those of each apart; else None.
    """

    on: Callable[[Picture | Volume], list[Segment] | None]
    identity: Identity = ANONYMOUS
    raters: int | None = None


@dataclass(frozen=True)
class RunTable:
    """What a table of run lengths holds.

    Attributes:
        image: Column that names the picture.
        pixels: Column of the run lengths.
        label: Column that names the class, if there is one.
        order: Whether pixels are counted down the ``columns`` or along the ``rows``.
        first: Number of the first pixel, 0 or 1.
        relative: Whether a start is counted from the end of the run before; then the first pixel is 0.
    """

    image: str
    pixels: str
    label: str | None
    order: str
    first: int
    relative: bool


@dataclass(frozen=True)
class AnnotationRequest:
    """Which masks of a file are asked for, and how.

    Attributes:
        image_file: Path of the image below the source's root: a file may hold the masks of many images.
        threshold: Fraction from which a pixel of a fractional segment belongs to it; above 0, up to 1.
        rules: See there.
        runs: What the columns of a CSV file are, if the recipe says so.
        rater: Number, from 0, of the rater whose masks are asked for of a file with those of several; None for all.
    """

    image_file: str = ""
    threshold: float = 0.5
    rules: ReadRules = DEFAULT_RULES
    runs: RunTable | None = None
    rater: int | None = None


DEFAULT_REQUEST: Final = AnnotationRequest()


class NamedMaskReader(Protocol):
    """What a module that reads named masks offers."""

    def read_named_masks(self, path: Path, request: AnnotationRequest, /) -> NamedMasks:
        """Read a file but for what hangs on the image.

        Raises:
            UnreadableError: It is damaged.
            OSError: It cannot be opened.
        """
        ...


# mypy checks each module against `NamedMaskReader` here; each is imported with the first file that needs it


def _dicom_seg() -> NamedMaskReader:
    from builder.annotations import dicom_seg  # noqa: PLC0415

    return dicom_seg


def _rtstruct() -> NamedMaskReader:
    from builder.annotations import rtstruct  # noqa: PLC0415

    return rtstruct


def _coco() -> NamedMaskReader:
    from builder.annotations import coco  # noqa: PLC0415

    return coco


def _yolo() -> NamedMaskReader:
    from builder.annotations import yolo  # noqa: PLC0415

    return yolo


def _polygon_xml() -> NamedMaskReader:
    from builder.annotations import polygon_xml  # noqa: PLC0415

    return polygon_xml


def _lidc_xml() -> NamedMaskReader:
    from builder.annotations import lidc_xml  # noqa: PLC0415

    return lidc_xml


def _runs() -> NamedMaskReader:
    from builder.annotations import runs  # noqa: PLC0415

    return runs


BY_MODALITY: Final = {"SEG": _dicom_seg, "RTSTRUCT": _rtstruct}
"""DICOM modality -> what imports the module that reads its masks."""
BY_ENDING: Final = {".json": _coco, ".txt": _yolo, ".xml": _polygon_xml, ".csv": _runs}
"""Ending of a file name -> what imports the module that reads its masks; everything else is DICOM."""


def read_named_masks(root: Path, file: str, request: AnnotationRequest) -> NamedMasks:
    """Read the named masks of a file.

    Args:
        root: Root of the source.
        file: Path below it.
        request: See there.

    Returns:
        The masks. To put them on an image, and to draw one, raises CaseError too.

    Raises:
        CaseError: Stage ``read``; it holds no named masks, or is damaged.
    """
    path = path_below(root, file)
    named = _as_case_error(file, _read, path, request)

    def on(image: Picture | Volume) -> list[Segment] | None:
        found = _as_case_error(file, named.on, image)
        return None if found is None else [replace(one, draw=partial(_as_case_error, file, one.draw)) for one in found]

    return replace(named, on=on)


def _as_case_error(
    file: str, read: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> _Result:
    """Call something that reads, and say which file was at fault if it fails."""
    try:
        return read(*arguments, **options)
    except (UnreadableError, OSError) as error:
        raise read_error(file, error) from None


def _read(path: Path, request: AnnotationRequest) -> NamedMasks:
    named = _reader_of(path).read_named_masks(path, request)
    if request.rater is not None and named.raters is None:
        raise UnreadableError("it does not say which rater drew what; tell raters apart by {rater}, not by names")
    return named


_LIDC: Final = b"<LidcReadMessage"
"""What tells XML of LIDC-IDRI from other XML."""


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _reader_of(path: Path) -> NamedMaskReader:
    load = BY_ENDING.get(path.suffix.lower())
    if load is _polygon_xml and _LIDC in _start(path):
        return _lidc_xml()
    if load is not None:
        return load()
    from builder.readers.dicom.file import open_dicom, text_of  # noqa: PLC0415 - loads pydicom, which few need

    modality = text_of(open_dicom(path, ["Modality"], pixels=False), "Modality")
    if modality not in BY_MODALITY:
        raise UnreadableError(
            f"it is a DICOM object of modality {modality or 'unknown'}, expected SEG or RTSTRUCT",
            withheld="it is a DICOM object of another modality, expected SEG or RTSTRUCT",
        )
    return BY_MODALITY[modality]()
