"""How far two images are apart, on their pixels: whether the one is the other, or only looks like it.

What neighbouring slices and other patients share is coarse: where bright and dark lies. What only a copy shares is
fine. So fine detail is compared, of images of ranks, each place by its own contrast: a window or a scaling changes how
strong an edge is and leaves where it is. Places that are flat in one of the two (clipped by a window) say nothing.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from shards.duplicates.ranks import resized

Image = npt.NDArray[np.float32]

SIDE: Final = 128
"""Pixels of a side in which images are compared: coarser than what JPEG and scaling change."""
_DETAIL: Final = 2.0
"""Sigma of the smoothing that detail is the rest of, in pixels."""
_AROUND: Final = 4.0
"""Sigma of the surroundings whose contrast counts for a place, in pixels."""
_FLAT: Final = 0.01
"""Detail, in ranks, below which a place is flat: two grey levels and a half of an even histogram of 255."""
_LEAST: Final = 0.04
"""Part of the picture that must show detail in both."""
_COARSE, _ALIKE = 16, 0.7
"""Side of the images whose correlation says that two are alike, and how large it must be: of crops up to 8 % it is."""
_STEPS: Final = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
_SMOOTHED: Final = 5
"""Pixels over which images are smoothed while they are laid on each other."""
_SCALE: Final = 0.25
"""How much larger or smaller one of two may be in a framing, and how far off, as a part of its side."""


def flipped(pixels: npt.NDArray[Any], flip: int) -> npt.NDArray[Any]:
    """An image mirrored.

    Args:
        pixels: (H, W)
        flip: Place in `shards.duplicates.sign_hash.FLIPS`.
    """
    if flip & 1:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if flip & 2 else pixels


def thumbnail(ranks: Image) -> Image:
    """An image as it is compared, (128, 128)."""
    return resized(ranks, SIDE)


def distance(one: Image, other: Image, *, aligned: bool = False) -> float:
    """How far two images are apart: 0 for copies, about 1 for images that share no detail.

    Args:
        one: (128, 128), see `thumbnail`.
        other: The same, mirrored as the first.
        aligned: Whether the one is laid on the other first: it may show a little more or less around the same.

    Returns:
        One minus the correlation of their detail, 0 to 2; 1 where there is too little that both show.
    """
    seen = np.ones(one.shape, np.bool_)
    if aligned:
        found = _laid_on(one, other)
        if found is None:
            return 1.0
        other, seen = found
    first, second = _detail(one), _detail(other)
    strength, strength_other = _contrast(first), _contrast(second)
    both = (strength > _FLAT) & (strength_other > _FLAT) & seen
    if both.mean() < _LEAST:
        return 1.0
    a, b = (first / (strength + _FLAT))[both], (second / (strength_other + _FLAT))[both]
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return 1 - float(a @ b) / scale if scale else 1.0


def alike(one: Image, other: Image) -> bool:
    """Whether two images show the same coarsely, so that it is worth to lay them on each other.

    Args:
        one: (128, 128)
        other: (128, 128)
    """
    small = (cv2.resize(image, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA).reshape(-1) for image in (one, other))
    a, b = (values - values.mean() for values in small)
    return float(a @ b) >= _ALIKE * float(np.sqrt((a @ a) * (b @ b)))


def _detail(image: Image) -> Image:
    return np.asarray(image - cv2.GaussianBlur(image, (0, 0), _DETAIL), np.float32)


def _contrast(detail: Image) -> Image:
    squares = cv2.GaussianBlur(detail * detail, (0, 0), _AROUND)
    return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)


def _laid_on(one: Image, other: Image) -> tuple[Image, npt.NDArray[np.bool_]] | None:
    """The second image as it lies best on the first, and where it does; None where it fits nowhere near.

    An affine transform by enhanced correlation (Evangelidis and Psarakis, 2008), begun at none.
    """
    nothing = np.eye(2, 3, dtype=np.float32)
    everywhere = np.ones(other.shape, np.uint8)
    try:
        _, warp = cv2.findTransformECC(one, other, nothing, cv2.MOTION_AFFINE, _STEPS, everywhere, _SMOOTHED)
    except cv2.error:  # it does not converge: the images have nothing in common
        return None
    off = np.abs(warp - np.eye(2, 3)) / np.array([[1, 1, SIDE], [1, 1, SIDE]])
    if off.max() > _SCALE:
        return None
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (SIDE, SIDE)
    laid = np.asarray(cv2.warpAffine(other, warp, size, flags=how, borderMode=cv2.BORDER_REPLICATE), np.float32)
    seen = cv2.warpAffine(everywhere, warp, size, flags=how)
    return laid, cv2.erode(seen, np.ones((5, 5), np.uint8)) > 0
