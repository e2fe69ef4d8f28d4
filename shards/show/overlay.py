"""Masks drawn over an image."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

OPACITY: Final = 0.35
"""Share of a mask's colour in the pixels inside it; its outline has the colour alone."""

# Okabe and Ito (2008), "Color universal design": told apart with any common kind of colour blindness
_PALETTE: Final = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_GOLDEN: Final = 0.618034
"""Hues at steps of the golden section of the circle stay apart, however many there are. Pale and full take turns."""

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def colors_of(labels: Iterable[str]) -> dict[str, Color]:
    """A colour for each class, by its place among the names.

    Args:
        labels: Names of classes, in any order and repeated.

    >>> colors_of(["spleen", "liver", "spleen"])
    {'liver': (230, 159, 0), 'spleen': (86, 180, 233)}
    """
    return {label: _color(at) for at, label in enumerate(sorted(set(labels)))}


def _color(at: int) -> Color:
    if at < len(_PALETTE):
        return _PALETTE[at]
    red, green, blue = colorsys.hsv_to_rgb((at * _GOLDEN) % 1, (0.45, 0.95)[at % 2], 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def eight_bit(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Pixels to look at: those of 16 bit between their first and last hundredth.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or uint16.

    Returns:
        The same shape, uint8; ``pixels`` itself where it is that already.
    """
    if pixels.dtype == np.uint8:
        return pixels
    low, high = np.percentile(pixels, (1, 99))
    scaled = (pixels.astype(np.float32) - low) / max(high - low, 1) * 255
    return np.asarray(np.clip(scaled.round(), 0, 255), dtype=np.uint8)


def overlay(
    pixels: npt.NDArray[Any],
    masks: npt.NDArray[np.bool_],
    labels: Iterable[str],
    colors: Mapping[str, Color],
    side: int | None = None,
) -> npt.NDArray[np.uint8]:
    """An image with masks drawn over it: filled lightly, with an outline of one pixel.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or uint16.
        masks: (N, H, W).
        labels: Class of each mask.
        colors: Colour of each class.
        side: Longest side of the picture in pixels; None: as the image.

    Returns:
        (H, W, 3) uint8, RGB, in the image's proportions.
    """
    shown = eight_bit(pixels)
    shown = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown
    height, width = _size(shown.shape[:2], side)
    larger = height >= shown.shape[0]
    shown = cv2.resize(shown, (width, height), interpolation=cv2.INTER_LINEAR if larger else cv2.INTER_AREA)  # type: ignore[assignment]
    painted = shown.astype(np.float32)
    outlines = np.zeros((height, width, 3), np.uint8)
    for mask, label in zip(masks, labels, strict=True):
        inside = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        painted[inside > 0] = painted[inside > 0] * (1 - OPACITY) + np.asarray(colors[label], np.float32) * OPACITY
        outlines[_outline(inside)] = colors[label]
    drawn = outlines.any(axis=2)
    painted[drawn] = outlines[drawn]
    return painted.round().astype(np.uint8)


def _outline(inside: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The pixels of a mask beside one outside of it; what lies beyond the image is outside."""
    framed = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    kernel = np.ones((3, 3), np.uint8)
    kept = cv2.erode(framed, kernel)[1:-1, 1:-1]
    return np.asarray((inside > 0) & (kept == 0))


def _size(shape: tuple[int, ...], side: int | None) -> tuple[int, int]:
    scale = 1 if side is None else side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
