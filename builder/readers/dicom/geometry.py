"""Where the images of a DICOM series lie in the patient, and whether they make one regular volume.

Standard: DICOM PS3.3 C.7.6.2 (Image Plane), C.7.6.16 (Multi-frame Functional Groups). The patient's coordinates are
LPS, in mm. Names, Instance Number, Slice Thickness and Spacing Between Slices play no part: only positions tell in
which order and how far apart images lie. `builder.readers.dicom.temporal` tells which of several images at one place
belong together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from builder.errors import UnreadableError
from builder.readers.image import FARTHEST

_Floats = npt.NDArray[np.float64]

GAP_TOLERANCE: Final = 0.01
"""A distance of neighbours may differ from the median by this part of it, or by `ROUNDING` if that is more."""
ROUNDING: Final = 0.01
"""Millimetres: many scanners write positions with two decimals."""
DRIFT_TOLERANCE: Final = 0.05
"""Pixels by which one image may be shifted sideways against its neighbour; see `_refuse_tilt`."""
STACK_DRIFT_TOLERANCE: Final = 0.5
"""Pixels by which the last image may be shifted sideways against the first."""
GRID_TOLERANCE: Final = 0.1
"""Voxels by which any image may lie off the regular grid that the first and the last image span."""
LONE_STEP: Final = 1.0
"""Step in mm of a volume of one slice, which no position tells."""

_COSINE_TOLERANCE: Final = 1e-4
"""Orientation and pixel size may differ by this within a series: less than 0.1 pixel at the far edge of 512."""
_UNIT_TOLERANCE: Final = 0.01
"""Cosines are text of few digits: their length may be off 1, and their scalar product off 0, by this."""
_FLOAT_ERROR: Final = 1e-6
"""What decimal positions lose, in mm, when they become binary numbers and are projected on the normal."""
_SAME_PLACE: Final = 1e-3
"""Images that lie no further apart than this, in mm, lie at one place."""
_MISSING_TOLERANCE: Final = 0.05
"""A gap is one of missing images if it is a multiple of the median up to this part of the median."""


@dataclass(frozen=True)
class ImagePlane:
    """Where one image lies in the patient, in LPS mm.

    Attributes:
        origin: (3,) centre of the first pixel.
        right: (3,) unit vector from a pixel to the next column.
        down: (3,) unit vector from a pixel to the next row.
        spacing: Distance of rows and of columns.
    """

    origin: _Floats
    right: _Floats
    down: _Floats
    spacing: tuple[float, float]

    @property
    def normal(self) -> _Floats:
        """(3,) unit vector from the image to the next, if images follow each other as in a right-handed stack."""
        normal: _Floats = np.cross(self.right, self.down)
        return normal / np.linalg.norm(normal)


@dataclass(frozen=True)
class Frame:
    """What a frame says of itself.

    Attributes:
        plane: Its place in the patient, None where it has none.
        slope: Source units per stored value (C.11.1.1.2).
        intercept: Source value of stored value 0.
    """

    plane: ImagePlane | None
    slope: float
    intercept: float


def plane_of(position: Sequence[float], orientation: Sequence[float], spacing: Sequence[float]) -> ImagePlane:
    """The plane that Image Position, Image Orientation (Patient) and Pixel Spacing describe.

    The first three numbers of the orientation are the direction in which columns follow each other (C.7.6.2.1.1); the
    first number of the spacing is the distance of rows (10.7.1.3).

    Raises:
        UnreadableError: A number is missing or absurd.
    """
    origin, cosines, lengths = (np.array(values, np.float64) for values in (position, orientation, spacing))
    if origin.shape != (3,) or cosines.shape != (6,) or lengths.shape != (2,):
        raise UnreadableError(
            "damaged: position, orientation and pixel size of an image are 3, 6 and 2 numbers, "
            f"but {origin.size}, {cosines.size} and {lengths.size} came"
        )
    right, down = cosines[:3], cosines[3:]
    sides = np.linalg.norm(right), np.linalg.norm(down)
    unit = all(abs(side - 1) <= _UNIT_TOLERANCE for side in sides) and abs(right @ down) <= _UNIT_TOLERANCE
    if not unit:
        raise UnreadableError("damaged: its Image Orientation (Patient) is no pair of perpendicular directions")
    if not (np.abs(origin) < FARTHEST).all() or not ((lengths > 0) & (lengths < FARTHEST)).all():
        raise UnreadableError("damaged: its Image Position (Patient) or Pixel Spacing is no sensible number of mm")
    return ImagePlane(origin, right / sides[0], down / sides[1], (float(lengths[0]), float(lengths[1])))


def frames_of(dataset: Dataset, count: int) -> Iterator[Frame]:
    """Geometry and rescale of each frame: its own, that of all frames, or that of the file (C.7.6.16.1)."""
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), Dataset())
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if groups and len(groups) != count:
        raise UnreadableError(f"damaged: it has {count} frames and describes {len(groups)}")
    for own in groups or [Dataset()] * count:
        position = None if count > 1 and not groups else dataset
        plane = frame_plane(own, shared, position, dataset)
        values = functional_group("PixelValueTransformationSequence", own, shared) or dataset
        slope, intercept = (_numbers(values, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
        yield _frame(plane, 1.0 if slope is None else slope[0], 0.0 if intercept is None else intercept[0])


def _frame(plane: ImagePlane | None, slope: float, intercept: float) -> Frame:
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise UnreadableError("damaged: its Rescale Slope or Intercept is 0 or no number")
    return Frame(plane, slope, intercept)


def functional_group(macro: str, own: Dataset, shared: Dataset) -> Dataset | None:
    """A functional group of a frame: its own, or that of all frames (C.7.6.16.1); None where it has none."""
    return next(iter(own.get(macro) or shared.get(macro) or []), None)


def frame_plane(own: Dataset, shared: Dataset, position: Dataset | None, file: Dataset | None) -> ImagePlane | None:
    """Where a frame lies, by its functional groups (C.7.6.16.2.1, .3 and .4).

    Args:
        own: Its item of the Per-Frame Functional Groups Sequence.
        shared: The item of the Shared Functional Groups Sequence.
        position: Where its position stands if in neither; None where nothing else may tell it.
        file: Where its orientation and pixel size stand if in neither; as above.

    Returns:
        None where a part of that is missing.

    Raises:
        UnreadableError: As `plane_of`.
    """
    where = _numbers(functional_group("PlanePositionSequence", own, shared) or position, "ImagePositionPatient")
    axes = _numbers(functional_group("PlaneOrientationSequence", own, shared) or file, "ImageOrientationPatient")
    spacing = _numbers(functional_group("PixelMeasuresSequence", own, shared) or file, "PixelSpacing")
    return None if where is None or axes is None or spacing is None else plane_of(where, axes, spacing)


def spacing_of(dataset: Dataset) -> tuple[float, float] | None:
    """Pixel size: in the patient, else on the detector, which is larger by the magnification (10.7.1.3)."""
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), Dataset())
    own = next(iter(dataset.get("PerFrameFunctionalGroupsSequence") or []), Dataset())
    measures = functional_group("PixelMeasuresSequence", own, shared) or dataset
    spacing = _numbers(measures, "PixelSpacing") or _numbers(dataset, "ImagerPixelSpacing")
    if spacing is None or len(spacing) != 2 or not all(0 < side < math.inf for side in spacing):
        return None
    return spacing[0], spacing[1]


def _numbers(dataset: Dataset | None, keyword: str) -> list[float] | None:
    """A list of numbers, None where there is none."""
    value = None if dataset is None else dataset.get(keyword)
    if value is None or value == "":
        return None
    return [float(number) for number in ([value] if isinstance(value, (int, float, str)) else value)] or None


def places_of(planes: Sequence[ImagePlane]) -> list[int]:
    """The number of each image's place along their normal, from 0; images at one place have one number.

    Raises:
        UnreadableError: The images have unlike orientations or pixel sizes.
    """
    _refuse_unlike(planes)
    heights = _heights(planes)
    order = np.argsort(heights, kind="stable")
    numbers = np.zeros(len(planes), np.int64)
    numbers[order[1:]] = np.cumsum(np.diff(heights[order]) > _SAME_PLACE)
    return [int(number) for number in numbers]


def _heights(planes: Sequence[ImagePlane]) -> _Floats:
    """Positions in mm along the normal of the first."""
    normal = planes[0].normal
    return np.array([plane.origin @ normal for plane in planes])


def grid_of(planes: Sequence[ImagePlane]) -> _Floats:
    """The grid of the images of a volume.

    Args:
        planes: At least one, in the order of their places; see `places_of`.

    Returns:
        (4, 4) affine from voxel index (x: column, y: row, z: slice) to LPS mm.

    Raises:
        UnreadableError: They are no regular volume: missing images, varying distances, or a tilted gantry.
    """
    first = planes[0]
    origins = np.stack([plane.origin for plane in planes])
    if len(planes) > 1:
        _refuse_gaps(_heights(planes))
        step = (origins[-1] - origins[0]) / (len(planes) - 1)
        _refuse_tilt(step, len(planes), first)
    else:
        step = first.normal * LONE_STEP
    affine = np.eye(4)
    affine[:3, :3] = np.stack([first.right * first.spacing[1], first.down * first.spacing[0], step], axis=1)
    affine[:3, 3] = origins[0]
    _refuse_crooked(origins, affine)
    return affine


def _refuse_unlike(planes: Sequence[ImagePlane]) -> None:
    first = planes[0]
    axes = np.array([[*plane.right, *plane.down] for plane in planes])
    turned = int((np.abs(axes - axes[0]).max(axis=1) > _COSINE_TOLERANCE).sum())
    if turned:
        raise UnreadableError(
            f"{turned} of its {len(planes)} images have another orientation than the first, as scouts do: "
            "expected parallel images; put the others elsewhere"
        )
    sizes = np.array([plane.spacing for plane in planes])
    unlike = int((np.abs(sizes / sizes[0] - 1).max(axis=1) > _COSINE_TOLERANCE).sum())
    if unlike:
        raise UnreadableError(
            f"{unlike} of its {len(planes)} images have another pixel size than the first ({first.spacing[0]:g} x "
            f"{first.spacing[1]:g} mm): expected one size; put the others elsewhere"
        )


def _refuse_gaps(heights: _Floats) -> None:
    """Look for missing and unevenly spaced images; ``heights``: (N,) sorted positions in mm."""
    gaps = np.diff(heights)
    median = float(np.median(gaps))
    allowed = max(GAP_TOLERANCE * median, ROUNDING)
    odd = gaps[np.abs(gaps - median) > allowed + _FLOAT_ERROR]
    if not odd.size:
        return
    steps = odd / median
    if (np.rint(steps) >= 2).all() and (np.abs(steps - np.rint(steps)) <= _MISSING_TOLERANCE).all():
        missing = int((np.rint(steps) - 1).sum())
        raise UnreadableError(
            f"{missing} {'image is' if missing == 1 else 'images are'} missing: most of its images lie {median:.4g} mm "
            f"apart, but somewhere the gap is {odd.max():.4g} mm; fetch the series again, in full, or put each part "
            "into its own folder"
        )
    raise UnreadableError(
        f"its images lie {gaps.min():.4g} to {gaps.max():.4g} mm apart, most of them {median:.4g} mm: expected equal "
        f"distances (up to {allowed:.2g} mm); such a series is no regular volume, or a part of it is missing"
    )


def _refuse_tilt(step: _Floats, count: int, plane: ImagePlane) -> None:
    """Refuse a sheared stack, as a tilted CT gantry makes it.

    Measured over the whole stack, where a small tilt adds up; per image in short stacks, where rounded positions
    weigh more.
    """
    shift = max(abs(step @ plane.right) / plane.spacing[1], abs(step @ plane.down) / plane.spacing[0])
    if shift <= DRIFT_TOLERANCE and shift * (count - 1) <= STACK_DRIFT_TOLERANCE:
        return
    degrees = math.degrees(math.acos(min(1.0, float(abs(step @ plane.normal) / np.linalg.norm(step)))))
    raise UnreadableError(
        f"its images are shifted sideways against each other, by {degrees:.1f} degrees, as with a tilted CT gantry: "
        "expected images right above each other; correct the tilt first (dcm2niix does so)"
    )


def _refuse_crooked(origins: _Floats, affine: _Floats) -> None:
    """Refuse a stack that no regular grid describes, though each distance alone is within its tolerance."""
    steps = np.arange(len(origins), dtype=np.float64)[:, None]
    off = origins - (affine[:3, 3] + steps * affine[:3, 2])
    voxels = float(np.abs(np.linalg.solve(affine[:3, :3], off.T)).max())
    if voxels > GRID_TOLERANCE:
        raise UnreadableError(
            f"its images lie up to {voxels:.2g} voxels beside a regular grid (allowed are {GRID_TOLERANCE:g}): "
            "their distances or their sideways places vary"
        )
