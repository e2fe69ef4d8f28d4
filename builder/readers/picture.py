"""PNG, JPEG, BMP and TIFF, by OpenCV: 8 and 16 bit, grey, RGB(A), palette; a TIFF of many pages is a volume."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from builder.readers import UnreadableError
from builder.volume import Header, Picture, Volume

_TIFF: Final = (".tif", ".tiff")
_JPEG_START: Final = b"\xff\xd8"
_JPEG_SCAN: Final = b"\xff\xda"
_JPEG_END: Final = b"\xff\xd9"

# damage is reported as an error of the case, not by OpenCV on the terminal
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_header(path: Path) -> Header:
    """See `builder.readers.Reader`."""
    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(path) as image:
            pages = getattr(image, "n_frames", 1) if path.suffix.lower() in _TIFF else 1
            size = (image.height, image.width)
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise UnreadableError(f"its header cannot be read: {error}") from None
    return Header(size if pages == 1 else (pages, *size))


def read(path: Path) -> Picture | Volume:
    """See `builder.readers.Reader`."""
    content = path.read_bytes()
    data = np.frombuffer(content, np.uint8)
    if path.suffix.lower() in _TIFF:
        pages = _pages(data)
        _check_tiff(content)
        if len(pages) > 1:
            return _stack(pages)
        return Picture(_rgb(pages[0]))
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableError(f"OpenCV cannot decode it: {error.err}") from None
    if content[:2] == _JPEG_START and content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN):
        raise UnreadableError("truncated: the JPEG has no end mark; fetch it again from its source")
    if pixels is None:
        raise UnreadableError("OpenCV cannot decode it: it is damaged, or no picture of the kind its name says")
    return Picture(_rgb(pixels))


def _pages(data: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
    try:
        whole, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableError(f"OpenCV cannot decode it: {error.err}") from None
    if not whole or not pages:
        raise UnreadableError("OpenCV cannot decode it: it is damaged, or no TIFF")
    return list(pages)


def _check_tiff(content: bytes) -> None:
    """Let Pillow look for damaged strips, which OpenCV fills with whatever was in memory."""
    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(io.BytesIO(content)) as image:
            for page in range(getattr(image, "n_frames", 1)):
                image.seek(page)
                image.load()
    except PIL.UnidentifiedImageError:  # a kind that Pillow does not know, such as 16-bit RGB
        return
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise UnreadableError(f"damaged TIFF ({error}); fetch it again from its source") from None


def _stack(pages: list[npt.NDArray[Any]]) -> Volume:
    if len({(page.shape, page.dtype) for page in pages}) > 1 or pages[0].ndim != 2:
        raise UnreadableError(f"a TIFF of {len(pages)} pages that are not grey pictures of one size; expected those")
    return Volume(np.stack(pages), affine=None)


def _rgb(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 2:
        raise UnreadableError("has 2 channels, expected 1 (grey), 3 (RGB) or 4 (RGBA)")
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(pixels, order)
