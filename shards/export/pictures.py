"""Pixels as other tools expect them: 8 bit, one channel or three, and masks of 0 and 255."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shards.export.sample import Sample
from shards.png import encode_image, encode_label_map

_BIT_DEPTH = slice(24, 25)
_COLOUR = slice(25, 26)
"""Bytes of a PNG's header (W3C PNG, 11.2.1) that say bits of a channel, and whether there is one (0) or three (2)."""


def eight_bit(pixels: npt.NDArray[np.uint8 | np.uint16]) -> npt.NDArray[np.uint8]:
    """Pixels in 8 bit, of whatever shape.

    16 bit (``intensity.mode = "lossless"``) are scaled as the release scales a slice, `round((x - min) / (max - min) *
    255)`: readers that take the upper 8 of 16 bit would show a black picture.
    """
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    lowest, highest = int(pixels.min()), int(pixels.max())
    scaled = (pixels.astype(np.float64) - lowest) * (255 / max(1, highest - lowest))
    return np.rint(scaled).astype(np.uint8)


def eight_bit_png(sample: Sample) -> bytes:
    """The image as a PNG of 8 bit, one channel or three: the stored file itself where it is that."""
    if sample.image[_BIT_DEPTH] == b"\x08" and sample.image[_COLOUR] in (b"\x00", b"\x02"):
        return sample.image
    return encode_image(eight_bit(sample.pixels))


def three_channel_png(sample: Sample) -> bytes:
    """The image as a PNG of 8 bit and three channels, equal ones where it is grey."""
    if sample.image[_BIT_DEPTH] == b"\x08" and sample.image[_COLOUR] == b"\x02":
        return sample.image
    pixels = eight_bit(sample.pixels)
    return encode_image(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)


def mask_png(mask: npt.NDArray[np.bool_]) -> bytes:
    """A mask as a PNG of 8 bit, 0 and 255."""
    return encode_label_map(mask.view(np.uint8) * np.uint8(255))
