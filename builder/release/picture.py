"""The pictures of the release: PNG of any kind, decoded to the values that they hold."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from builder.errors import UnreadableError
from builder.readers.image import grey_of
from sa_med2d_20m import DatasetError, decode_png

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER: Final = struct.Struct(">IIBBBBB")
_PALETTE: Final = 3
_GREY_ALPHA: Final = 4
_FULL: Final = 255


def read_image(data: bytes) -> npt.NDArray[Any]:
    """Decode an image.

    Args:
        data: A whole PNG.

    Returns:
        (H, W) where it is grey or has three equal channels, else (H, W, 3); uint8 or uint16.

    Raises:
        UnreadableError: It is no PNG, damaged, or has an alpha channel that says something.
    """
    pixels = _decoded(data)
    if pixels.ndim == 3 and pixels.shape[2] == 4 and (pixels[..., 3] != np.iinfo(pixels.dtype).max).any():
        raise UnreadableError("some of it is transparent, which shards cannot hold")
    if pixels.ndim == 2:
        return pixels
    grey = grey_of(pixels)
    return np.ascontiguousarray(pixels[..., :3]) if grey is None else grey


def has_grey_levels(pixels: npt.NDArray[Any]) -> bool:
    """Whether an image has a value between its lowest and its highest: what has none has one or two values."""
    flat = pixels.reshape(pixels.shape[0], -1)
    low, high = int(flat.min()), int(flat.max())
    return low + 1 < high and cv2.countNonZero(cv2.inRange(flat, low + 1, high - 1)) > 0


def read_mask(data: bytes, *, inverted: bool, any_value: bool) -> tuple[npt.NDArray[np.uint8], bool]:
    """Decode a mask.

    Args:
        data: A whole PNG.
        inverted: Whether object and background are swapped.
        any_value: Whether whatever is not 0 is the object; else it must be 255.

    Returns:
        (H, W) of 0 and 255, and whether it was stored in another way.

    Raises:
        UnreadableError: It is no PNG, damaged, or holds other values and may not.
    """
    pixels = _decoded(data)
    plain = pixels if pixels.ndim == 2 else pixels[..., :3].max(axis=2)
    repaired = pixels.ndim == 3 or plain.dtype != np.uint8
    if repaired or int(cv2.sumElems(plain)[0]) != _FULL * cv2.countNonZero(plain):
        if not any_value:
            raise UnreadableError(f"it is no mask of 0 and 255: {_other_than_mask(pixels)}; mask-values repairs that")
        plain, repaired = np.where(plain != 0, np.uint8(_FULL), np.uint8(0)), True
    return (cv2.bitwise_not(plain) if inverted else plain), repaired  # type: ignore[return-value]


def _other_than_mask(pixels: npt.NDArray[Any]) -> str:
    if pixels.ndim == 3:
        return f"it has {pixels.shape[2]} channels"
    if pixels.dtype != np.uint8:
        return "it has 16 bit"
    return f"it has the value {int(pixels[(pixels != 0) & (pixels != _FULL)][0])}"


def _decoded(data: bytes) -> npt.NDArray[Any]:
    if not data:
        raise UnreadableError("it is empty, 0 bytes")
    if data[:8] != _SIGNATURE or len(data) < 33:
        raise UnreadableError("it is no PNG")
    _, _, depth, colour, *_ = _HEADER.unpack_from(data, 16)
    try:
        # the decoder of ours refuses what breaks off; OpenCV fills it up in silence
        if depth >= 8 and colour not in (_PALETTE, _GREY_ALPHA):
            return decode_png(data)
        return _by_pillow(data)
    except DatasetError as error:
        raise UnreadableError(f"{error}; fetch it again") from None


def _by_pillow(data: bytes) -> npt.NDArray[Any]:
    """Palette, 1 to 4 bit and grey with alpha, which are rare."""
    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode in ("1", "L"):
                return np.asarray(image.convert("L"))
            return np.asarray(image.convert("RGBA" if image.mode == "LA" or "transparency" in image.info else "RGB"))
    except Exception as error:  # what Pillow raises for damaged blocks is not documented
        raise UnreadableError(f"damaged PNG ({error}); fetch it again") from None
