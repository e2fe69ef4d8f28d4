"""DICOM Segmentation (SEG): BINARY, FRACTIONAL and LABELMAP, of volumes, of pictures and of tiled slides.

Standard: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20 (its modules) and Supplement 243 (label maps). Frames are
decoded by pydicom, one by one, and placed by their own geometry: neither the order of the frames nor the instances
that the file refers to matter, so that a SEG which names no image, or another copy of it, fits all the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset

from builder.annotations.segments import DEFAULT_REQUEST, AnnotationRequest, NamedMasks, Segment
from builder.errors import UnreadableError
from builder.readers.dicom import tiles
from builder.readers.dicom.file import kind_of, open_dicom, parsing
from builder.readers.dicom.geometry import ImagePlane, frame_plane, functional_group
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.dicom.identity import REFERENCE_ATTRIBUTES, identity_of_masks
from builder.readers.dicom.pixels import decode_frame, syntax_of
from builder.readers.dicom.tiles import corner_of, full_corners, full_count, is_full, matrix_of
from builder.readers.identity import Identity
from builder.readers.image import Picture, Volume
from builder.readers.rules import ReadRules

ATTRIBUTES: Final = (
    *tiles.ATTRIBUTES,
    *REFERENCE_ATTRIBUTES,
    "BitsAllocated",
    "BitsStored",
    "CodeValue",
    "Columns",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "MaximumFractionalValue",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelData",
    "PixelMeasuresSequence",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PixelSpacing",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "ReferencedSegmentNumber",
    "Rows",
    "SOPClassUID",
    "SamplesPerPixel",
    "SegmentIdentificationSequence",
    "SegmentLabel",
    "SegmentNumber",
    "SegmentSequence",
    "SegmentationType",
    "SegmentedPropertyTypeCodeSequence",
    "SharedFunctionalGroupsSequence",
    "TransferSyntaxUID",
)
"""Every attribute that is read, at any depth, next to what `builder.readers.dicom.identity` reads; the rest of the file
is skipped or left as undecoded bytes."""

TOLERANCE: Final = 0.1
"""How far, in voxels of the image, a frame's pixels may lie from the image's voxels."""

_PACKED: Final = 64
"""How many times as many pixels as an image the frames of all segments may have; they are decoded one by one."""
_BACKGROUND_CODE: Final = "125040"
"""Background, among the codes of DICOM itself (PS3.16 annex D)."""
_KINDS: Final = ("BINARY", "FRACTIONAL", "LABELMAP")

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Frame:
    """What a frame says of itself.

    Attributes:
        segment: Number of its segment, None in a label map.
        plane: Where it lies in the patient, None where it has none.
        tile: Row and column of its first pixel in the total pixel matrix, from 0; None where it is no tile.
    """

    segment: int | None
    plane: ImagePlane | None
    tile: tuple[int, int] | None


@dataclass(frozen=True)
class _Segmentation:
    """What a SEG says before its pixels are decoded.

    Attributes:
        kind: One of `_KINDS`.
        names: Number of a segment -> its label.
        sides: Rows and columns of every frame.
        maximum: Stored value of a fraction of 1.
        padding: Value of the background in a label map, as the file names it.
        matrix: Rows and columns of the total pixel matrix, None where the frames are no tiles.
        frames: All frames, as stored.
    """

    kind: str
    names: dict[int, str]
    sides: tuple[int, int]
    maximum: float
    padding: int
    matrix: tuple[int, int] | None
    frames: tuple[_Frame, ...]


@dataclass(frozen=True)
class _IndexPlane:
    """Where a frame lies in the voxel indices of the image: pixel (i, j) is voxel ``start + i * down + j * right``.

    Attributes:
        start: (3,) voxel index (x, y, z) of the first pixel.
        down: (3,) unit step of the rows, along one axis, either way.
        right: (3,) unit step of the columns, along another axis.
    """

    start: _Ints
    down: _Ints
    right: _Ints


def read_named_masks(path: Path, request: AnnotationRequest = DEFAULT_REQUEST) -> NamedMasks:
    """Read all segments of a SEG, to be put onto the grid of their image.

    A slice without a frame is empty, and segments may overlap; two frames of one segment may not lie on the same
    pixels. The segment of a label map that is its background (its number is the Pixel Padding Value, 0 if there is
    none, or 0 under the name or code of background; Supplement 243) is left out.

    A picture has no place in the patient: a frame fits it by its size alone, so there can be only one per segment.
    Tiles are put together to their total pixel matrix (PS3.3 C.7.6.17.3), which must have the picture's size.

    Args:
        path: The file.
        request: A pixel of a FRACTIONAL segment, be it occupancy or probability, belongs to it from ``threshold`` of
            Maximum Fractional Value on.

    Returns:
        The segments in the order of the file, for an image in LPS axes; those without a pixel are False all over.

    Raises:
        UnreadableError: The file is damaged, or no SEG; later, its grid is not that of the image.
        OSError: It cannot be opened.
        ValueError: ``threshold`` is out of its range.
    """
    if not 0 < request.threshold <= 1:
        raise ValueError(f"threshold is {request.threshold}, allowed: above 0, up to 1")
    dataset = open_dicom(path, (*ATTRIBUTES, *IDENTITY_ATTRIBUTES), rules=request.rules)
    file = _parse(dataset, request.rules)
    return NamedMasks(partial(_segments_on, dataset, file, request.threshold), _identity(dataset))


def _identity(dataset: Dataset) -> Identity:
    """What the file says of itself and its images: those it lists, else those that its frames name."""
    identity = identity_of_masks(dataset)
    if identity.series or identity.instances:
        return identity
    with parsing("DICOM SEG: the description of its frames"):
        groups = [dataset.get(f"{kind}FunctionalGroupsSequence") or [] for kind in ("Shared", "PerFrame")]
        return identity_of_masks(dataset, itertools.chain(*groups))


def _segments_on(dataset: FileDataset, file: _Segmentation, threshold: float, image: Picture | Volume) -> list[Segment]:
    """The segments on the grid of an image in LPS axes."""
    planes = _on_picture(file, image) if isinstance(image, Picture) else _on_volume(file, image)
    _refuse_doubles(file, planes)
    shape = (1, *image.array.shape[:2]) if isinstance(image, Picture) else image.shape
    placed = _PlacedSegmentation(dataset, file, planes, shape, threshold)
    if file.kind == "LABELMAP":
        return [Segment(name, partial(_mask_of_value, placed, number)) for number, name in file.names.items()]
    return [Segment(name, partial(_mask_of_frames, placed, number)) for number, name in file.names.items()]


@dataclass(frozen=True)
class _PlacedSegmentation:
    """A segmentation on the grid of its image.

    Attributes:
        dataset: The file with its pixels.
        file: What it says of them.
        planes: Where each frame lies.
        shape: (Z, Y, X) of the image.
        threshold: See `builder.annotations.segments.AnnotationRequest`.
    """

    dataset: FileDataset
    file: _Segmentation
    planes: list[_IndexPlane]
    shape: tuple[int, int, int]
    threshold: float

    @cached_property
    def label_map(self) -> npt.NDArray[np.uint16]:
        """All frames of a label map on the grid of the image; decoded once for all of its segments."""
        whole = np.full(self.shape, self.file.padding, np.uint16)
        for number, plane in enumerate(self.planes):
            pixels = _decoded(self.dataset, self.file, number)
            for value in np.unique(pixels).tolist():
                if value not in self.file.names and value not in (self.file.padding, 0):
                    raise UnreadableError(
                        f"frame {number + 1} holds the value {value}, but the file describes no such segment"
                    )
            _write_frame(whole, plane, pixels, pixels != self.file.padding)
        return whole


def _mask_of_value(placed: _PlacedSegmentation, number: int) -> npt.NDArray[np.bool_]:
    """The mask of one segment of a label map."""
    inside: npt.NDArray[np.bool_] = placed.label_map == number
    return inside


def _mask_of_frames(placed: _PlacedSegmentation, number: int) -> npt.NDArray[np.bool_]:
    """The mask of one segment from its own frames."""
    file, mask = placed.file, np.zeros(placed.shape, np.bool_)
    least = placed.threshold * file.maximum if file.kind == "FRACTIONAL" else 1
    for at, (frame, plane) in enumerate(zip(file.frames, placed.planes, strict=True)):
        if frame.segment == number:
            inside = _decoded(placed.dataset, file, at) >= least
            _write_frame(mask, plane, inside, inside)
    return mask


def _parse(dataset: FileDataset, rules: ReadRules) -> _Segmentation:
    """Take everything but the pixels from the file, as plain numbers."""
    if "SegmentSequence" not in dataset or "SegmentationType" not in dataset:
        if "Segmentation" in kind_of(dataset):
            raise UnreadableError("damaged DICOM SEG: it does not describe its segments, perhaps it breaks off")
        raise UnreadableError(f"no DICOM segmentation (SEG): the file is {kind_of(dataset)}")
    if "PixelData" not in dataset:
        raise UnreadableError("damaged DICOM SEG: it has no pixels, perhaps it breaks off before them")
    syntax_of(dataset)
    with parsing("DICOM SEG: the description of its frames or segments"):
        return _parse_checked(dataset, rules)


def _parse_checked(dataset: Dataset, rules: ReadRules) -> _Segmentation:
    kind = str(dataset.SegmentationType)
    if kind not in _KINDS:
        raise UnreadableError(f"a SEG of an unknown type, known are {', '.join(_KINDS)}")
    sides = int(dataset.Rows), int(dataset.Columns)
    count = int(dataset.get("NumberOfFrames") or 1)
    if min(*sides, count) < 1:
        raise UnreadableError(f"damaged DICOM SEG: it has {count} frames of {sides[0]} x {sides[1]} pixels")
    if count * math.prod(sides) > _PACKED * rules.pixels:
        rules.check_size((count, *sides), 1)
    if count > 8 * len(dataset.PixelData):
        raise UnreadableError(f"damaged DICOM SEG: {count} frames in {len(dataset.PixelData)} bytes of pixels")
    padding = int(dataset.get("PixelPaddingValue") or 0) % 2**16  # as unsigned as the values of label maps
    items = {int(item.SegmentNumber): item for item in dataset.SegmentSequence}
    if len(items) != len(dataset.SegmentSequence):
        raise UnreadableError("damaged DICOM SEG: two of its segments have the same number")
    segments = (item for item in items.items() if kind != "LABELMAP" or not _is_background(item[1], padding))
    names = {number: str(item.get("SegmentLabel") or "") for number, item in segments}
    matrix = matrix_of(dataset)
    frames = tuple(_frames(dataset, count, matrix, None if kind == "LABELMAP" else list(names)))
    for number, frame in enumerate(frames, 1):
        if frame.segment is not None and frame.segment not in names:
            raise UnreadableError(f"frame {number} is of segment {frame.segment}, which the file does not describe")
    maximum = float(dataset.get("MaximumFractionalValue") or 0) if kind == "FRACTIONAL" else 1.0
    if maximum <= 0:
        raise UnreadableError("a FRACTIONAL SEG without Maximum Fractional Value: its fractions have no scale")
    return _Segmentation(kind, names, sides, maximum, padding, matrix, frames)


def _is_background(segment: Dataset, padding: int) -> bool:
    """Whether a segment of a label map is no segment: its value is the padding, or 0 and it says so."""
    number = int(segment.SegmentNumber)
    if number:
        return number == padding
    codes = {str(code.get("CodeValue") or "") for code in segment.get("SegmentedPropertyTypeCodeSequence") or []}
    label = str(segment.get("SegmentLabel") or "").strip().lower()
    return padding == 0 or _BACKGROUND_CODE in codes or label in ("", "background")


def _frames(
    dataset: Dataset, count: int, matrix: tuple[int, int] | None, segments: list[int] | None
) -> Iterator[_Frame]:
    if matrix and is_full(dataset):
        yield from _all_tiles((int(dataset.Rows), int(dataset.Columns)), count, matrix, segments)
        return
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), Dataset())
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [Dataset()] * count)
    if len(groups) != count:
        raise UnreadableError(f"damaged DICOM SEG: it has {count} frames and describes {len(groups)}")
    for number, own in enumerate(groups, 1):
        segment = None if segments is None else _segment(own, shared, number)
        tile = corner_of(own, number) if matrix else None
        yield _Frame(segment, None if matrix else _plane(own, shared, number), tile)


def _all_tiles(
    sides: tuple[int, int], count: int, matrix: tuple[int, int], segments: list[int] | None
) -> Iterator[_Frame]:
    """Tiles that lie without gap or overlap: along a row, row by row, segment by segment (PS3.3 C.7.6.17.3)."""
    channels: list[int] | list[None] = [None] if segments is None else segments
    tiles = full_count(sides, matrix)
    if tiles * len(channels) != count:
        raise UnreadableError(f"damaged DICOM SEG: {len(channels)} segments of {tiles} tiles each, but {count} frames")
    for segment in channels:
        for corner in full_corners(sides, matrix):
            yield _Frame(segment, None, corner)


def _segment(own: Dataset, shared: Dataset, number: int) -> int:
    group = functional_group("SegmentIdentificationSequence", own, shared)
    if group is None:
        raise UnreadableError(f"damaged DICOM SEG: frame {number} does not say of which segment it is")
    return int(group.ReferencedSegmentNumber)


def _plane(own: Dataset, shared: Dataset, number: int) -> ImagePlane | None:
    try:
        return frame_plane(own, shared, None, None)
    except UnreadableError as error:
        raise UnreadableError(f"damaged DICOM SEG: frame {number}: {error}") from None


def _on_volume(file: _Segmentation, image: Volume) -> list[_IndexPlane]:
    if image.affine is None:
        raise UnreadableError(
            "its image says nothing of where it lies in the patient, so the SEG cannot be placed on it"
        )
    if file.matrix:
        raise UnreadableError("a tiled SEG of a slide, but its image is a volume")
    return [_placed(frame.plane, file.sides, image, number) for number, frame in enumerate(file.frames, 1)]


def _placed(plane: ImagePlane | None, sides: tuple[int, int], image: Volume, number: int) -> _IndexPlane:
    """The voxels that a frame's pixels coincide with."""
    if plane is None:
        raise UnreadableError(f"frame {number} of the SEG does not say where in the patient it lies")
    assert image.affine is not None
    inverse: _Floats = np.linalg.inv(image.affine).astype(np.float64)
    steps = plane.down * plane.spacing[0], plane.right * plane.spacing[1], plane.origin
    exact: _Floats = inverse[:3, :3] @ np.stack(steps, axis=1)
    exact[:, 2] += inverse[:3, 3]
    if np.abs(exact).max() > np.iinfo(np.int32).max:
        _refuse_outside(number)
    whole = np.stack([_unit(exact[:, 0]), _unit(exact[:, 1]), np.rint(exact[:, 2])], axis=1)
    last = [max(side - 1, 1) for side in sides]
    corners = np.array([[i, j, 1] for i in (0, last[0]) for j in (0, last[1])], np.float64).T
    off = (exact - whole) @ corners
    if np.abs(off).max() > TOLERANCE:
        millimetres = np.linalg.norm(image.affine[:3, :3] @ off, axis=0).max()
        raise UnreadableError(
            f"its grid is not that of the image: pixels of frame {number} lie up to {np.abs(off).max():.2f} voxels "
            f"({millimetres:.2f} mm) beside the image's, allowed are {TOLERANCE} voxels"
        )
    corners[:2] = np.minimum(corners[:2], np.array(sides)[:, None] - 1)
    reached = whole @ corners
    if (reached < 0).any() or (reached >= np.array(image.array.shape[2::-1])[:, None]).any():
        _refuse_outside(number)
    down, right, start = whole.astype(np.int64).T
    return _IndexPlane(start, down, right)


def _refuse_outside(number: int) -> NoReturn:
    raise UnreadableError(
        f"frame {number} of the SEG lies outside the image, in whole or in part: perhaps another image"
    )


def _unit(step: _Floats) -> _Floats:
    """The index axis, with its sign, that a step comes nearest to; (3,)."""
    unit = np.zeros(3)
    axis = int(np.argmax(np.abs(step)))
    unit[axis] = np.sign(step[axis])
    return unit


def _on_picture(file: _Segmentation, image: Picture) -> list[_IndexPlane]:
    expected, got = image.array.shape[:2], file.matrix or file.sides
    if got != expected:
        raise UnreadableError(f"the SEG has {got[0]} x {got[1]} pixels, its image {expected[0]} x {expected[1]}")
    return [_on_matrix(frame.tile or (0, 0), got, number) for number, frame in enumerate(file.frames, 1)]


def _refuse_doubles(file: _Segmentation, planes: list[_IndexPlane]) -> None:
    """One segment has one frame per place: more are points in time or other slices, and their union is neither."""
    seen: dict[tuple[int | None, ...], int] = {}
    for number, (frame, plane) in enumerate(zip(file.frames, planes, strict=True), 1):
        first = seen.setdefault((frame.segment, *plane.start.tolist()), number)
        if first != number:
            raise UnreadableError(
                f"frames {first} and {number} of the SEG are of the same segment and lie on the same pixels: perhaps "
                "they are points in time, or slices that are closer than the image's"
            )


def _on_matrix(corner: tuple[int, int], matrix: tuple[int, int], number: int) -> _IndexPlane:
    row, column = corner
    if not (0 <= row < matrix[0] and 0 <= column < matrix[1]):
        _refuse_outside(number)
    return _IndexPlane(np.array([column, row, 0]), np.array([0, 1, 0]), np.array([1, 0, 0]))


def _decoded(dataset: FileDataset, file: _Segmentation, number: int) -> npt.NDArray[Any]:
    """A frame as it is stored, (rows, columns); numbers count from 0."""
    try:
        pixels = decode_frame(dataset, number, len(file.frames))
    except UnreadableError as error:
        raise UnreadableError(f"damaged DICOM SEG: frame {number + 1} of {len(file.frames)}: {error}") from None
    if pixels.shape != file.sides:
        raise UnreadableError(f"damaged DICOM SEG: frame {number + 1} of {len(file.frames)} has another size")
    return pixels


def _write_frame(
    whole: npt.NDArray[Any], plane: _IndexPlane, values: npt.NDArray[Any], inside: npt.NDArray[np.bool_]
) -> None:
    """Write a frame's pixels where they lie; what a tile at the edge has beyond the total pixel matrix is dropped."""
    i, j = np.nonzero(inside)
    x, y, z = plane.start[:, None] + plane.down[:, None] * i + plane.right[:, None] * j
    kept = (y < whole.shape[1]) & (x < whole.shape[2])
    whole[z[kept], y[kept], x[kept]] = values[i[kept], j[kept]]
