"""Images in memory: pictures, volumes, and series of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from builder.errors import UnreadableError
from builder.readers.identity import ANONYMOUS, Identity

_LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
FARTHEST: Final = 1e6
"""A coordinate or length in mm from here on, a kilometre, is a damaged number."""
_SMALLEST_VOXEL: Final = 1e-12
"""Cubic millimetres: smaller is none."""
SAME_SIZE: Final[dict[int, type]] = {1: np.uint8, 2: np.uint16, 4: np.int32, 8: np.float64}
"""Bytes of a value -> what OpenCV moves values of so many bytes as, without a look at them."""
_ROWS: Final = 32
"""Rows that are compared at once: they stay in the processor's cache, and most colour pictures end in the first."""
_SPACING_DIGITS: Final = 6
"""Spacings are rounded to six significant digits: formats store them as text, float32 or float64."""


@dataclass(frozen=True)
class Picture:
    """A 2D image or mask.

    Attributes:
        array: (H, W), (H, W, 3) RGB or (H, W, 4) RGBA; any numeric dtype.
        spacing: Row and column spacing in mm, or None.
        slope: Source units per stored value.
        intercept: Source value of stored value 0.
        identity: What its file says of itself.
    """

    array: npt.NDArray[Any]
    spacing: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    identity: Identity = ANONYMOUS


@dataclass(frozen=True)
class Volume:
    """A 3D image or mask.

    Values stay as they are stored, so that integers stay integers and nothing is copied; a source value is
    ``slope * stored + intercept``.

    Attributes:
        array: (Z, Y, X), or (Z, Y, X, 3) RGB: X is the first axis of the file's voxel index, as SimpleITK gives it.
        affine: (4, 4) float64, from voxel index (x, y, z) to LPS millimetres; None where the file has no geometry.
        slope: Source units per stored value, not 0.
        intercept: Source value of stored value 0.
        stored_axes: Axis codes of the file, first index axis first, such as ``RAS``: the directions in which the
            indices grow. None where the file has no geometry.
        identity: What its file says of itself.
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None
    slope: float = 1.0
    intercept: float = 0.0
    stored_axes: str | None = None
    identity: Identity = ANONYMOUS

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X), without colours."""
        z, y, x = self.array.shape[:3]
        return z, y, x

    @cached_property
    def spacing(self) -> tuple[float, float, float] | None:
        """Voxel size in mm along x, y, z, to six significant digits; None without geometry."""
        if self.affine is None:
            return None
        x, y, z = (float(f"{length:.{_SPACING_DIGITS}g}") for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z


@dataclass(frozen=True)
class VolumeSeries:
    """Several volumes on one grid: the channels or the frames of a 4D file.

    Attributes:
        array: (N, Z, Y, X); further attributes are those of `Volume`.
        affine: As in `Volume`.
        slope: As in `Volume`.
        intercept: As in `Volume`.
        stored_axes: As in `Volume`.
        identity: As in `Volume`.
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None
    slope: float = 1.0
    intercept: float = 0.0
    stored_axes: str | None = None
    identity: Identity = ANONYMOUS

    def volume(self, number: int) -> Volume:
        """One of the volumes, as a view."""
        return Volume(self.array[number], self.affine, self.slope, self.intercept, self.stored_axes, self.identity)


@dataclass(frozen=True)
class PictureSeries:
    """Several pictures of one size: the frames or channels of a file that does not say where they lie in space.

    Attributes:
        array: (N, H, W) or (N, H, W, 3) RGB; further attributes are those of `Picture`.
        spacing: As in `Picture`.
        slope: As in `Picture`.
        intercept: As in `Picture`.
        identity: As in `Picture`.
    """

    array: npt.NDArray[Any]
    spacing: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    identity: Identity = ANONYMOUS

    def picture(self, number: int) -> Picture:
        """One of the pictures, as a view."""
        return Picture(self.array[number], self.spacing, self.slope, self.intercept, self.identity)


Image = Picture | Volume | PictureSeries | VolumeSeries
"""What a file may hold."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are read.

    Attributes:
        shape: (N, Z, Y, X) or (Z, Y, X) as stored, or (H, W); without colours.
        placed: Whether it says where its pixels lie in space. Planes that do not may as well be single pictures.
    """

    shape: tuple[int, ...]
    placed: bool = True


def axis_codes(affine: npt.NDArray[np.float64]) -> str:
    """The nearest anatomical direction of each index axis.

    Args:
        affine: (4, 4), voxel index (x, y, z) to LPS millimetres.

    Returns:
        Three letters of L/R, A/P, I/S, first index axis first.
    """
    from nibabel.orientations import ornt2axcodes  # noqa: PLC0415 - half a second that pictures need not pay

    return "".join(ornt2axcodes(orientation_of(affine.tobytes())))


@lru_cache(maxsize=64)
def orientation_of(affine: bytes) -> npt.NDArray[np.float64]:
    """What nibabel says of an affine to LPS, given as bytes; the masks of a case share it, and to ask takes 0.2 ms."""
    from nibabel.orientations import io_orientation  # noqa: PLC0415 - as above

    return np.asarray(io_orientation(_LPS_TO_RAS @ np.frombuffer(affine).reshape(4, 4)))


def checked_affine(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """An affine that a volume can have.

    Raises:
        UnreadableError: A number is missing or absurd, or the axes span no space.
    """
    sane = bool(np.isfinite(affine).all()) and float(np.abs(affine).max()) < FARTHEST
    if not sane or abs(np.linalg.det(affine[:3, :3])) < _SMALLEST_VOXEL:
        raise UnreadableError("its affine is not invertible: the header gives no usable orientation")
    return affine


def grey_of(colours: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """The one channel of a picture whose red, green and blue are equal, None where they are not.

    Args:
        colours: (H, W, 3) or (H, W, 4), of which the fourth channel is not looked at.
    """
    grey = np.empty(colours.shape[:2], colours.dtype)
    for start in range(0, colours.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        three = colours[rows, :, :3] if colours.shape[2] == 3 else np.ascontiguousarray(colours[rows, :, :3])
        red = cv2.extractChannel(three, 0)
        if not np.array_equal(cv2.merge((red, red, red)), three):  # faster than to compare them one by one
            return None
        grey[rows] = red
    return grey


def source_values(image: Picture | Volume) -> npt.NDArray[Any]:
    """The stored values with slope and intercept applied; integers stay integers where both are whole numbers."""
    if image.slope == 1 and image.intercept == 0:
        return image.array
    if image.array.dtype.kind in "iu" and image.slope.is_integer() and image.intercept.is_integer():
        slope, intercept = int(image.slope), int(image.intercept)
        largest = max(abs(slope * int(end) + intercept) for end in (image.array.min(), image.array.max()))
        # what wraps around in the product comes back in the sum, because the sum fits
        whole: npt.NDArray[Any] = image.array.astype(np.int32 if largest < 2**31 else np.int64)
        whole *= slope
        whole += intercept
        return whole
    values: npt.NDArray[Any] = image.array.astype(np.float32)
    values *= np.float32(image.slope)
    values += np.float32(image.intercept)
    return values
