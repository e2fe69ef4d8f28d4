"""PNG, JPEG, BMP, Netpbm and TIFF, by OpenCV, and GIF, by Pillow: 8 and 16 bit, float, grey, RGB(A), palette.

Netpbm may be in a gzip file (``.ppm.gz``). A TIFF of many pages is a volume; a GIF of several frames is refused.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import tifffile
from isal import igzip

from builder.errors import UnreadableError
from builder.readers.compressed import ends_as_lzw, inflated_size
from builder.readers.image import Header, Picture, Volume, grey_of
from builder.readers.quiet import caught_stderr, quiet_logger
from builder.readers.rules import DEFAULT_RULES, ReadRules

CARRIES_IDENTIFIERS: Final = False
"""See `builder.readers.files.Reader`."""

_TIFF: Final = (".tif", ".tiff")
_GIF: Final = ".gif"
_GZIP: Final = ".gz"
_GIF_END: Final = b";"
"""GIF89a, section 27."""
_PLAIN_LIMIT: Final = re.compile(rb"P[23](?:(?:\s|#[^\n]*\n)+\d+){2}(?:\s|#[^\n]*\n)+(\d{1,5})\s")
"""Start of a Netpbm picture in plain text, up to its largest value."""
_ZLIB: Final = (8, 32946)
_LZW: Final = 5
"""Values of the TIFF field Compression."""
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_JPEG_START: Final = b"\xff\xd8"
_JPEG_SCAN: Final = b"\xff\xda"
_JPEG_END: Final = b"\xff\xd9"
_LOST: Final = re.compile(
    "^libpng error|^Premature end|^Inconsistent progression"
    "|^Corrupt JPEG data: (premature|bad Huffman|bad arithmetic|found marker)"
    "|^(LZW|ZIP|PackBits)Decode: |Using code not yet in table"
)
"""What decoders say of pixels that they make up. What else they name, such as bytes before the end of a JPEG, unknown
tags and colour profiles, costs nothing."""
_BYTES_PER_PIXEL: Final = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 4, "I": 4, "F": 4}
"""Mode in which Pillow shows a picture -> what OpenCV makes of it takes at most; 16 bit where it is not listed."""


@contextmanager
def _quiet_and_unlimited() -> Iterator[None]:
    """Keep OpenCV and tifffile from the terminal, and let the rules alone say how large a picture may be.

    See `builder.readers.quiet`.
    """
    level, limit = cv2.utils.logging.getLogLevel(), PIL.Image.MAX_IMAGE_PIXELS
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        with quiet_logger("tifffile"):
            yield
    finally:
        cv2.utils.logging.setLogLevel(level)
        PIL.Image.MAX_IMAGE_PIXELS = limit


def read_patient(_path: Path, _rules: ReadRules = DEFAULT_RULES) -> str | None:
    """See `builder.readers.files.Reader`; the format has no place for it that people fill."""
    return None


def files_of(path: Path) -> tuple[Path, ...]:
    """See `builder.readers.files.Reader`."""
    return (path,)


@_quiet_and_unlimited()
def read_header(path: Path, rules: ReadRules = DEFAULT_RULES) -> Header:
    """See `builder.readers.files.Reader`."""
    if path.suffix.lower() in _TIFF:
        shape = _tiff_shape(path, rules)
        return Header((*shape[:-2], *_half_of(shape[-2:], rules)[0]), placed=False)
    return Header(_half_of(_picture_size(_opened(path, rules))[0], rules)[0])


@_quiet_and_unlimited()
def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Picture | Volume:
    """See `builder.readers.files.Reader`."""
    image = _read_whole(path, rules)
    if rules.half is None:
        return image
    start = 0 if isinstance(image, Picture) else 1
    _, where = _half_of(image.array.shape[start : start + 2], rules)
    return replace(image, array=np.ascontiguousarray(image.array[(slice(None),) * start + where]))


def _half_of(sides: Sequence[int], rules: ReadRules) -> tuple[tuple[int, int], tuple[slice, slice]]:
    """Rows and columns of the half of a picture that is meant, and where it lies; all of it where none is."""
    rows, columns = sides
    across = rules.half in ("left", "right")
    if rules.half is None:
        return (rows, columns), (slice(rows), slice(columns))
    if (columns if across else rows) % 2:
        what = f"{columns} columns" if across else f"{rows} rows"
        raise UnreadableError(f"it has {what}, which make no two halves, but files.halves names one")
    if across:
        middle = columns // 2
        return (rows, middle), (slice(rows), slice(middle) if rules.half == "left" else slice(middle, columns))
    middle = rows // 2
    return (middle, columns), (slice(middle) if rules.half == "top" else slice(middle, rows), slice(columns))


def _read_whole(path: Path, rules: ReadRules) -> Picture | Volume:
    if path.suffix.lower() in _TIFF:
        return _read_tiff(path, rules)
    size, bytes_per_pixel = _picture_size(_opened(path, rules))
    rules.check_size(size, bytes_per_pixel)
    if path.suffix.lower() == _GIF:
        return _read_gif(path)
    packed = _inflated(path, rules)
    content = _with_stored_values(path.read_bytes() if packed is None else packed)
    _check_png(content)
    try:
        with caught_stderr() as said:
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableError(f"OpenCV cannot decode it: {error.err}") from None
    if content[:2] == _JPEG_START and content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN):
        raise UnreadableError("truncated: the JPEG has no end mark; fetch it again from its source")
    _refuse_lost_pixels(said)
    if pixels is None:
        raise UnreadableError("OpenCV cannot decode it: it is damaged, or no picture of the kind its name says")
    return Picture(_rgb(pixels))


def _refuse_lost_pixels(said: Sequence[str]) -> None:
    """Refuse what a decoder calls damaged and fills up with something, by its own words."""
    lost = next((line for line in said if _LOST.search(line)), None)
    if lost is not None:
        raise UnreadableError(f"damaged: its decoder says '{lost}'; fetch it again from its source")


def _opened(path: Path, rules: ReadRules) -> Path | io.BytesIO:
    packed = _inflated(path, rules)
    return path if packed is None else io.BytesIO(packed)


def _inflated(path: Path, rules: ReadRules) -> bytes | None:
    """The picture in a gzip file, whose check sum and size come first; None for a file that is none."""
    if path.suffix.lower() != _GZIP:
        return None
    with path.open("rb") as file:
        inflated_size(file, None, rules)
    with igzip.open(path) as unpacked:
        content: bytes = unpacked.read()
    return content


def _picture_size(file: Path | io.BytesIO) -> tuple[tuple[int, int], int]:
    """Rows and columns, and bytes a pixel, as the header says."""
    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(file) as image:
            return (image.height, image.width), _BYTES_PER_PIXEL.get(image.mode, 8)
    except PIL.UnidentifiedImageError:
        raise UnreadableError("it is damaged, or no picture of the kind its name says") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        what = "its header cannot be read"
        raise UnreadableError(f"{what}: {error}", withheld=what) from None


def _read_gif(path: Path) -> Picture:
    """Read the one frame of a GIF: grey where all its colours are, else RGB(A).

    GIF has no check sum; Pillow takes a stream that breaks off for an end, so the end mark is looked for.
    """
    content = path.read_bytes()
    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(io.BytesIO(content), formats=["GIF"]) as image:
            if getattr(image, "is_animated", False):
                raise UnreadableError("a GIF of several frames, expected one; put the frame that is meant into a file")
            transparent = "transparency" in image.info
            pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    except PIL.UnidentifiedImageError:
        raise UnreadableError("it is damaged, or no picture of the kind its name says") from None
    except UnreadableError:
        raise
    except Exception as error:  # what Pillow raises for damaged blocks is not documented
        what = "damaged GIF; fetch it again from its source"
        raise UnreadableError(f"damaged GIF ({error}); fetch it again from its source", withheld=what) from None
    if not content.rstrip(b"\0").endswith(_GIF_END):
        raise UnreadableError("truncated: the GIF has no end mark; fetch it again from its source")
    grey = None if transparent else grey_of(pixels)
    return Picture(pixels if grey is None else grey)


def _with_stored_values(content: bytes) -> bytes:
    """A picture that OpenCV gives with its values as stored.

    It stretches a plain Netpbm picture from its largest value to 255, unlike a binary one, and needs a line end behind
    the last number.
    """
    header = _PLAIN_LIMIT.match(content)
    if header is None:
        return content
    start, end = header.span(1)
    limit = content[start:end] if int(header[1]) > 255 else b"255"
    return content[:start] + limit + content[end:] + b"\n"


def _check_png(content: bytes) -> None:
    """Refuse a PNG with a chunk that breaks off or whose check sum is wrong (PNG section 5.3), up to its end.

    OpenCV takes memory for a chunk that is longer than the file.
    """
    at = len(_PNG_SIGNATURE)
    while content.startswith(_PNG_SIGNATURE):
        kind, end = content[at + 4 : at + 8], at + 12 + int.from_bytes(content[at : at + 4], "big")
        if len(kind) < 4 or end > len(content):
            raise UnreadableError("truncated: the PNG breaks off within a chunk; fetch it again from its source")
        if zlib.crc32(memoryview(content)[at + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise UnreadableError("damaged: the check sum of a chunk of the PNG is wrong; fetch it again")
        if kind == b"IEND":
            return
        at = end


def _tiff_shape(path: Path, rules: ReadRules) -> tuple[int, ...]:
    """(pages, rows, columns), or (rows, columns) of a single page; all pages within the rules."""
    try:
        with tifffile.TiffFile(path) as file:
            pages = [
                (
                    int(page.imagelength),
                    int(page.imagewidth),
                    int(page.samplesperpixel) * max(1, int(page.bitspersample) // 8),
                )
                for page in (file.pages.get(number) for number in range(len(file.pages)))
                if isinstance(page, tifffile.TiffPage)
            ]
    except OSError as error:
        if error.errno is not None:
            raise
        raise UnreadableError(f"damaged TIFF: {error}", withheld="damaged TIFF") from None
    except Exception as error:  # what a damaged directory raises is not documented
        what = "damaged TIFF, or none"
        raise UnreadableError(f"{what}: {error}", withheld=what) from None
    if not pages:
        raise UnreadableError("damaged TIFF: it has no page")
    if len({page[:2] for page in pages}) > 1:
        raise UnreadableError(_unlike(len(pages)))
    rows, columns, bytes_per_pixel = max(pages)
    sides = (rows, columns) if len(pages) == 1 else (len(pages), rows, columns)
    rules.check_size(sides, bytes_per_pixel)
    return sides


def _read_tiff(path: Path, rules: ReadRules) -> Picture | Volume:
    _tiff_shape(path, rules)
    _check_strips(path, rules)
    content = path.read_bytes()
    pages = _pages(np.frombuffer(content, np.uint8))
    _check_tiff(content)
    if len(pages) == 1:
        return Picture(_rgb(pages[0]))
    if len({(page.shape, page.dtype) for page in pages}) > 1:
        raise UnreadableError(_unlike(len(pages)))
    return Volume(np.stack([_rgb(page) for page in pages]), affine=None)


def _check_strips(path: Path, rules: ReadRules) -> None:
    """Refuse strips and tiles whose check sum is wrong (zlib), or that have no mark of their end (LZW).

    libtiff stops once a strip is full, without a look at what stands behind it.
    """
    with tifffile.TiffFile(path) as file:
        for number in range(len(file.pages)):
            page = file.pages.get(number)
            if not isinstance(page, tifffile.TiffPage) or int(page.compression) not in (*_ZLIB, _LZW):
                continue
            for start, length in zip(page.dataoffsets, page.databytecounts, strict=False):
                file.filehandle.seek(start)
                if not length:  # a tile that nothing was written into
                    continue
                if int(page.compression) in _ZLIB:
                    inflated_size(io.BytesIO(file.filehandle.read(length)), None, rules)
                elif not ends_as_lzw(file.filehandle.read(length)):
                    raise UnreadableError("damaged TIFF: a strip does not end as LZW does; fetch it again")


def _unlike(count: int) -> str:
    return f"a TIFF of {count} pages that are not of one size and kind; expected those"


def _pages(data: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
    try:
        with caught_stderr():  # Pillow says the same, with a reason
            whole, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableError(f"OpenCV cannot decode it: {error.err}") from None
    if not whole or not pages:
        raise UnreadableError("OpenCV cannot decode it: it is damaged, or no TIFF")
    return list(pages)


def _check_tiff(content: bytes) -> None:
    """Let Pillow look for damaged strips, which OpenCV fills with whatever was in memory."""
    said: list[str] = []
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            caught_stderr() as said,
            PIL.Image.open(io.BytesIO(content)) as image,
        ):
            for page in range(getattr(image, "n_frames", 1)):
                image.seek(page)
                image.load()
    except PIL.UnidentifiedImageError:  # a kind that Pillow does not know, such as 16-bit RGB
        return
    except Exception as error:  # what Pillow raises for a damaged directory is not documented
        _refuse_lost_pixels(said)
        withheld = "damaged TIFF; fetch it again from its source"
        raise UnreadableError(f"damaged TIFF ({error}); fetch it again from its source", withheld=withheld) from None
    _refuse_lost_pixels(said)


def _rgb(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 2:
        raise UnreadableError("has 2 channels, expected 1 (grey), 3 (RGB) or 4 (RGBA)")
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(pixels, order)
