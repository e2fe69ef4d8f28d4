"""Grey values as ranks, which no strictly monotone change of them alters: scaling to 8 bit, gamma, a wider window.

A pixel's rank is the part of the image that is darker, with half of the part that is equal (the mid-rank of
statistics), so it is also what histogram equalisation makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

_QUIET: Final = 1 / 32
"""Part of the image's range of values within which a row or column counts as a border: the noise that JPEG leaves on a
black border is within 8 of 255 grey levels, and air in CT scaled by slice within 4."""
_LEAST: Final = 1 / 64
"""Part of a side from which on what lies around the content counts as a border."""


def one_channel(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The grey picture of an image: one channel of equal ones, else the luma of colours (ITU-R BT.601).

    Args:
        pixels: (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16.

    Returns:
        (H, W), contiguous, of the same dtype.
    """
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels)
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.ascontiguousarray(red)
    grey: npt.NDArray[Any] = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_RGB2GRAY)
    return grey


def ranks(grey: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The mid-rank of each pixel.

    Args:
        grey: (H, W) uint8 or uint16.

    Returns:
        (H, W), above 0 and below 1, with mean 0.5.
    """
    counts = np.bincount(grey.reshape(-1), minlength=int(np.iinfo(grey.dtype).max) + 1)
    table = ((np.cumsum(counts) - counts / 2) / grey.size).astype(np.float32)
    found: npt.NDArray[np.float32] = table[grey]
    return found


@dataclass(frozen=True)
class Box:
    """A part of an image; ``image[top:bottom, left:right]``."""

    top: int
    bottom: int
    left: int
    right: int

    def cut(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of an image, or of an array of its size."""
        return pixels[self.top : self.bottom, self.left : self.right]


def content_box(grey: npt.NDArray[Any]) -> Box | None:
    """What an even border encloses: the picture of a fundus or an endoscope, a slice that was padded.

    Args:
        grey: (H, W) uint8 or uint16.

    Returns:
        The part, or None where the image has no border that matters.
    """
    height, width = grey.shape
    low, high = int(grey.min()), int(grey.max())
    quiet = (high - low) * _QUIET
    rows = np.flatnonzero(grey.max(axis=1) - grey.min(axis=1) > quiet)
    columns = np.flatnonzero(grey.max(axis=0) - grey.min(axis=0) > quiet)
    if not rows.size or not columns.size:
        return None
    box = Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    trimmed = 1 - min((box.bottom - box.top) / height, (box.right - box.left) / width)
    return box if trimmed >= _LEAST else None


def resized(image: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """An image in a square, the same for a mirrored image but mirrored.

    Args:
        image: (H, W)
        side: Pixels of a side; what is larger is averaged, what is smaller interpolated.
    """
    height, width = image.shape
    averaged = cv2.resize(
        np.ascontiguousarray(image), (min(width, side), min(height, side)), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(averaged, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)
