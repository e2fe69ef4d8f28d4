"""Copies of images as people make them: mirrored, windowed, scaled, compressed, cropped and padded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Change = Callable[[Array], Array]


def window(low: float, high: float) -> Change:
    """Clip to two percentiles of the image and scale to 8 bit."""

    def change(pixels: Array) -> Array:
        start, end = np.percentile(pixels, [low, high])
        scaled = (pixels - start) / max(end - start, 1) * 255
        return np.asarray(np.clip(scaled, 0, 255).round(), np.uint8)

    return change


def jpeg(quality: int) -> Change:
    def change(pixels: Array) -> Array:
        data = cv2.imencode(".jpg", to_8_bit(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))

    return change


def to_8_bit(pixels: Array) -> Array:
    return window(0, 100)(pixels) if pixels.dtype != np.uint8 else pixels


def resized(factor: float) -> Change:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return lambda pixels: cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=how)


def cropped(part: float) -> Change:
    """Without a part of each side."""

    def change(pixels: Array) -> Array:
        down, right = (round(size * part) for size in pixels.shape[:2])
        return np.ascontiguousarray(pixels[down : len(pixels) - down, right : pixels.shape[1] - right])

    return change


def cropped_once(part: float) -> Change:
    """Without a part of the top and of the left side."""

    def change(pixels: Array) -> Array:
        down, right = (round(size * part) for size in pixels.shape[:2])
        return np.ascontiguousarray(pixels[down:, right:])

    return change


def padded(part: float) -> Change:
    """With a black border."""

    def change(pixels: Array) -> Array:
        down, right = (round(size * part) for size in pixels.shape[:2])
        black = pixels.min()
        return np.pad(pixels, [(down, down), (right, right), *[(0, 0)] * (pixels.ndim - 2)], constant_values=black)

    return change


def gamma(exponent: float) -> Change:
    def change(pixels: Array) -> Array:
        values = pixels.astype(np.float64) - pixels.min()
        return np.asarray((255 * (values / max(values.max(), 1)) ** exponent).round(), np.uint8)

    return change


CHANGES: dict[str, Change] = {
    "none": lambda pixels: pixels,
    "mirrored left and right": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
    "mirrored top and bottom": lambda pixels: np.ascontiguousarray(pixels[::-1]),
    "turned by 180 degrees": lambda pixels: np.ascontiguousarray(pixels[::-1, ::-1]),
    "gamma 0.5": gamma(0.5),
    "scaled to 8 bit, 5 % clipped at each end": window(5, 95),
    "window, darkest 20 % and brightest 1 % clipped": window(20, 99),
    "window, darkest 40 % and brightest 2 % clipped": window(40, 98),
    "window, darkest 60 % and brightest 1 % clipped": window(60, 99),
    "JPEG, quality 90": jpeg(90),
    "JPEG, quality 50": jpeg(50),
    "half size": resized(0.5),
    "1.7 times the size": resized(1.7),
    "2 % cropped on each side": cropped(0.02),
    "5 % cropped on each side": cropped(0.05),
    "8 % cropped on each side": cropped(0.08),
    "5 % cropped on two sides": cropped_once(0.05),
    "black border of 10 % added": padded(0.1),
    "mirrored, window, JPEG 90 and half size": lambda pixels: resized(0.5)(jpeg(90)(window(20, 99)(pixels[:, ::-1]))),
}
"""What is done to a copy -> how; pixels are (H, W) or (H, W, 3)."""
