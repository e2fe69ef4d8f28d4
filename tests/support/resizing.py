"""Pixels fitted into a size by the rule in words, with OpenCV and Pillow."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image


def by_hand(pixels: npt.NDArray[Any], size: tuple[int, int], resize: str, interpolate: Any) -> Any:
    """Fitted by the rule in words: ``interpolate(pixels, rows, columns)`` scales."""
    height, width = pixels.shape[:2]
    if resize == "stretch":
        return interpolate(pixels, *size)
    pick = min if resize == "pad" else max
    factor = pick(size[0] / height, size[1] / width)
    rows, columns = int(height * factor + 0.5), int(width * factor + 0.5)  # as SAM's ResizeLongestSide
    scaled = interpolate(pixels, rows, columns)
    if resize == "pad":
        below = [(0, size[0] - rows), (0, size[1] - columns), (0, 0)]
        return np.pad(scaled, below[: pixels.ndim])
    top, left = (rows - size[0]) // 2, (columns - size[1]) // 2
    return scaled[top : top + size[0], left : left + size[1]]


def by_opencv(pixels: npt.NDArray[Any], rows: int, columns: int) -> npt.NDArray[Any]:
    """By area first along sides that shrink, then bilinear along those that grow."""
    height, width = pixels.shape[:2]
    shrunk = cv2.resize(pixels, (min(columns, width), min(rows, height)), interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (columns, rows), interpolation=cv2.INTER_LINEAR)


def by_pillow(mask: npt.NDArray[np.bool_], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    picture = PIL.Image.fromarray(mask.view(np.uint8))
    return np.asarray(picture.resize((columns, rows), PIL.Image.Resampling.NEAREST)).view(bool)
