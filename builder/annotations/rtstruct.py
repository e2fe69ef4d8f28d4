"""DICOM RT Structure Set (RTSTRUCT): contours in the patient to masks on the grid of an image.

Standard: DICOM PS3.3 A.19 (IOD), C.8.8.5 (Structure Set) and C.8.8.6 (ROI Contour). Contours are placed by their
coordinates alone, for the images they name often are another copy of the series; those tell of whom they are.

A pixel belongs to a region when its centre does. The rule at the border is half open: a centre exactly on a contour is
inside where the region follows it in the direction of growing indices (left, posterior or superior of it), outside
where the region ends there. So regions that share an edge share no pixel and leave none out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from builder.annotations.segments import DEFAULT_REQUEST, AnnotationRequest, NamedMasks, Segment
from builder.errors import UnreadableError
from builder.readers.dicom.file import kind_of, open_dicom, parsing
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.dicom.identity import REFERENCE_ATTRIBUTES, identity_of_masks
from builder.readers.image import FARTHEST, Picture, Volume

ATTRIBUTES: Final = (
    "ContourData",
    "ContourGeometricType",
    "ContourSequence",
    "ROIContourSequence",
    "ROIName",
    "ROINumber",
    "ReferencedROINumber",
    *REFERENCE_ATTRIBUTES,
    "SOPClassUID",
    "StructureSetROISequence",
    "TransferSyntaxUID",
)
"""Every attribute that is read, at any depth, next to what `builder.readers.dicom.identity` reads; the rest of the file
is skipped or left as undecoded bytes."""

_REGIONS: Final = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")
"""Types of contours that enclose pixels; the standard writes the second (PS3.3 C.8.8.6.1), some programs the third."""
_HALF: Final = 0.5
"""How far, in slices, a contour's points may lie from a slice."""
_SAME_PLANE: Final = 0.1
"""Contours that are further apart than this, in slices, were drawn on two planes."""
_DECIMALS: Final = 3
"""Voxel coordinates are rounded, so that a contour through pixel centres does not hang on the file's rounding of mm."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Roi:
    """A region of interest.

    Attributes:
        number: Its number in the file.
        name: Its name.
        contours: (points, 3) each: closed contours in LPS mm.
    """

    number: int
    name: str
    contours: tuple[_Floats, ...]


def read_named_masks(path: Path, request: AnnotationRequest = DEFAULT_REQUEST) -> NamedMasks:
    """Read all ROIs of a structure set, to be put onto the grid of their image.

    Several contours of a ROI on one slice combine by the even-odd rule: one inside another is a hole, one beside
    another is a second region. Nothing is interpolated between slices. Open contours and points enclose no pixel and
    are left out. What a contour has beyond the edge of its slice is cut off. Contours on planes without a slice are not
    drawn; `Segment.without_slice` says so.

    Args:
        path: The file.
        request: Of which the rules count.

    Returns:
        The ROIs in the order of the file, for a volume in LPS axes; those without a contour are False all over.

    Raises:
        UnreadableError: The file is damaged, or no RTSTRUCT; later, its contours do not lie on slices of the image.
        OSError: It cannot be opened.
    """
    dataset = open_dicom(path, (*ATTRIBUTES, *IDENTITY_ATTRIBUTES), rules=request.rules)
    rois = _parse(dataset)
    with parsing("RTSTRUCT: its contours"):
        contours = [item for roi in dataset.ROIContourSequence for item in roi.get("ContourSequence") or []]
    return NamedMasks(partial(_segments_on, rois), identity_of_masks(dataset, contours))


def _segments_on(rois: list[_Roi], image: Picture | Volume) -> list[Segment]:
    """The ROIs on the grid of an image in LPS axes."""
    if isinstance(image, Picture):
        raise UnreadableError(
            "its image is one picture, and contours need the slices of the series; name the folder that holds them "
            "all: files.image ends in /"
        )
    if image.affine is None:
        raise UnreadableError(
            "its image says nothing of where it lies in the patient, so contours cannot be placed on it"
        )
    inverse: _Floats = np.linalg.inv(image.affine).astype(np.float64)
    return [
        Segment(roi.name, partial(_mask, roi, inverse, image.shape), _without_slice(roi, inverse, image.shape))
        for roi in rois
    ]


def _parse(dataset: Dataset) -> list[_Roi]:
    """Take ROIs and contours from the file, as plain numbers."""
    if "StructureSetROISequence" not in dataset:
        if "RT Structure Set" in kind_of(dataset):
            raise UnreadableError("damaged RTSTRUCT: it does not list its regions (ROIs), perhaps it breaks off")
        raise UnreadableError(f"no RT structure set (RTSTRUCT): the file is {kind_of(dataset)}")
    if "ROIContourSequence" not in dataset:
        raise UnreadableError("an RTSTRUCT without contours, perhaps it breaks off before them")
    with parsing("RTSTRUCT: its regions (ROIs) or contours"):
        return _parse_checked(dataset)


def _parse_checked(dataset: Dataset) -> list[_Roi]:
    contours: dict[int, list[_Floats]] = defaultdict(list)
    for item in dataset.ROIContourSequence:
        number = int(item.ReferencedROINumber)
        for contour in item.get("ContourSequence") or []:
            if str(contour.get("ContourGeometricType") or "") in _REGIONS:
                contours[number].append(_points(contour, number))
    names = [(int(item.ROINumber), str(item.get("ROIName") or "")) for item in dataset.StructureSetROISequence]
    if len({number for number, _ in names}) != len(names):
        raise UnreadableError("damaged RTSTRUCT: two of its ROIs have the same number")
    unknown = contours.keys() - {number for number, _ in names}
    if unknown:
        raise UnreadableError(f"contours of ROI number {min(unknown)}, which the file does not list")
    return [_Roi(number, name, tuple(contours[number])) for number, name in names]


def _points(contour: Dataset, roi: int) -> _Floats:
    """The points of a contour, (points, 3) in LPS mm.

    Taken from the undecoded text where that is possible: structure sets may hold millions of points, and pydicom makes
    an object of each number.
    """
    element = contour.get_item("ContourData")
    if isinstance(element, RawDataElement):
        text = (element.value or b"").rstrip(b" \0")
        numbers = np.array(text.split(b"\\") if text else [], np.bytes_).astype(np.float64)
    else:
        numbers = np.array([] if element is None or element.value is None else element.value, np.float64)
    if numbers.size % 3 or not (np.abs(numbers) < FARTHEST).all():
        raise UnreadableError(f"damaged RTSTRUCT: a contour of ROI number {roi} is no list of points of x, y and z")
    return numbers.reshape(-1, 3)


def _in_voxels(roi: _Roi, inverse: _Floats) -> list[_Floats]:
    """The contours of a ROI that enclose something, (points, 3) each, in voxel coordinates (x, y, z)."""
    return [points @ inverse[:3, :3].T + inverse[:3, 3] for points in roi.contours if len(points) > 2]


def _without_slice(roi: _Roi, inverse: _Floats, shape: tuple[int, ...]) -> str | None:
    """How many of the planes that a ROI was drawn on are no slice of the image, in words; None where all are."""
    contours = _in_voxels(roi, inverse)
    if not contours:
        return None
    axis = _normal(contours)
    slices = shape[::-1][axis]
    planes = {round(float(points[:, axis].mean()), 2) for points in contours}
    missing = sum(not 0 <= round(plane) < slices for plane in planes)
    if not missing:
        return None
    return (
        f"{missing:,} of {len(planes):,} planes that ROI number {roi.number} was drawn on have no slice in the image, "
        f"which has {slices:,}: slices are missing, or it was drawn on another image"
    )


def _mask(roi: _Roi, inverse: _Floats, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The pixels of a ROI; (Z, Y, X)."""
    mask = np.zeros(shape, np.bool_)
    contours = _in_voxels(roi, inverse)
    if not contours:
        return mask
    axis = _normal(contours)
    within = [other for other in (0, 1, 2) if other != axis]
    slices = np.moveaxis(mask.transpose(2, 1, 0), axis, 0)
    for index, on_slice in _by_slice(roi.number, contours, axis, slices.shape).items():
        slices[index] = _inside([points[:, within] for points in on_slice], slices.shape[1:])
    return mask


def _normal(contours: list[_Floats]) -> int:
    """The index axis along which the contours of a ROI are flattest."""
    extents = np.array([np.ptp(points, axis=0) for points in contours])
    return int(np.argmin(extents.sum(axis=0)))


def _by_slice(roi: int, contours: list[_Floats], axis: int, shape: tuple[int, ...]) -> dict[int, list[_Floats]]:
    """Contours by the slice they lie on, but for those that lie on none.

    Args:
        roi: Its number, for messages.
        contours: (points, 3) each, voxel coordinates (x, y, z).
        axis: The axis across the slices.
        shape: Slices, then the two sides of a slice in the order of their axes.
    """
    slices: dict[int, list[_Floats]] = defaultdict(list)
    planes: dict[int, float] = {}
    sides = np.array([shape[1], shape[2]])
    for points in contours:
        plane = float(points[:, axis].mean())
        index = round(plane)
        if not 0 <= index < shape[0]:
            continue
        off = float(np.abs(points[:, axis] - index).max())
        if off > _HALF + 10**-_DECIMALS:
            raise UnreadableError(
                f"a contour of ROI number {roi} does not lie on a slice of the image: its points are up to {off:.2f} "
                f"slices off, allowed are {_HALF}; perhaps it was drawn on another image or on oblique planes"
            )
        within = np.delete(points, axis, 1)
        if (within.max(axis=0) < -_HALF).any() or (within.min(axis=0) > sides - _HALF).any():
            raise UnreadableError(
                f"a contour of ROI number {roi} lies beside the image, at slice {index}: perhaps it is of another image"
            )
        if abs(planes.setdefault(index, plane) - plane) > _SAME_PLANE:
            raise UnreadableError(
                f"contours of ROI number {roi} were drawn on several planes that all lie nearest to slice {index} of "
                "the image: perhaps it was drawn on an image with thinner slices"
            )
        slices[index].append(points)
    if not slices:
        raise UnreadableError(
            f"no contour of ROI number {roi} lies on a slice of the image: perhaps it was drawn on another image"
        )
    return slices


def _inside(polygons: list[_Floats], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The pixels whose centres an odd number of polygons encloses, by the border rule of this module.

    Every edge is followed from line to line of pixel centres; at each crossing all pixels behind it change sides. This
    is exact, takes self-crossing and keyhole contours, and combines polygons by XOR without further ado.

    Args:
        polygons: (points, 2) each, in pixels; axis 0 of the result first. Closed without a repeated point.
        shape: Of the result.

    Returns:
        ``shape``, bool.
    """
    start = np.round(np.concatenate(polygons), _DECIMALS)
    end = np.round(np.concatenate([np.roll(points, -1, axis=0) for points in polygons]), _DECIMALS)
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.clip(np.ceil(low), 0, shape[0]).astype(np.int64)
    count = np.clip(np.ceil(high), 0, shape[0]).astype(np.int64) - first
    edge = np.repeat(np.arange(len(start)), count)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    along = (line - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
    crossing = start[edge, 1] + along * (end[edge, 1] - start[edge, 1])
    behind = np.clip(np.ceil(np.round(crossing, 9)), 0, shape[1]).astype(np.int64)
    changes = np.bincount(line * (shape[1] + 1) + behind, minlength=shape[0] * (shape[1] + 1))
    return (changes.reshape(shape[0], shape[1] + 1)[:, :-1].cumsum(axis=1) % 2).astype(np.bool_)
