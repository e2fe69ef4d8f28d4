"""PNG encoding with one fixed row filter, deflated by ISA-L.

Images take the SUB filter (each byte minus the one a pixel to its left), label maps none. Choosing a filter per row,
as other encoders do, is most of their time and gains little on these pictures; see tests/benchmarks. Any PNG reader
reads the result; `sa_med2d_20m.decode_png` undoes the filter by a cumulative sum.

Format: W3C PNG (Third Edition), sections 5 (chunks), 9 (filtering) and 11.2.1 (IHDR).
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_END: Final = struct.pack(">I4sI", 0, b"IEND", 0xAE426082)
_NONE, _SUB = 0, 1
_ZEROS: Final = 16
_FIRST: Final = 4
"""Bytes of the first block: fewer than four have no hash, and would not count as begun."""
_LEVEL: Final = 2
"""ISA-L level. On 512 x 512 MR slices level 2 is 4 % slower than 1 and smaller; 3 is twice as slow and larger."""


def encode_image(pixels: npt.NDArray[np.uint8 | np.uint16]) -> bytes:
    """Encode an image.

    Args:
        pixels: (H, W) greyscale or (H, W, 3) RGB, uint8 or uint16, at least 1 x 1.

    Raises:
        ValueError: Another shape or dtype.
    """
    return _encode(pixels, _SUB)


def encode_label_map(pixels: npt.NDArray[np.uint8 | np.uint16]) -> bytes:
    """Encode a label map, (H, W) uint8 or uint16; raises ValueError on anything else."""
    if pixels.ndim != 2:
        raise ValueError(f"expected a label map of shape (H, W), got {pixels.shape}")
    return _encode(pixels, _NONE)


def _encode(pixels: npt.NDArray[Any], row_filter: int) -> bytes:
    grey = pixels.ndim == 2
    if not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
        raise ValueError(f"expected pixels of shape (H, W) or (H, W, 3), none of them 0, got {pixels.shape}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected uint8 or uint16 pixels, got {pixels.dtype}")
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, pixels.dtype.itemsize * 8, 0 if grey else 2, 0, 0, 0)
    body = _deflate(_filter_rows(pixels, row_filter))
    return b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", body), _END))


def _deflate(rows: npt.NDArray[np.uint8]) -> bytes:
    """Deflate rows: the same bytes for the same rows, in whatever process and thread.

    ISA-L does not give these by itself. At levels 1 and 2 (`igzip_icf_body_h1_gr_bt.asm`, label ``write_first_byte``,
    release 2.31) it files the third position of a stream in its table under a hash of its own address instead of the
    bytes there, so that in about one of 700 places a small image gets other matches. The two ways round it: a stream
    whose first bytes have gone before in a block of their own does not come to that line (6 to 12 bytes more), and
    where it begins with zeros only, the first match writes over the entry (as most label maps do).
    """
    data = rows.reshape(-1).data
    if not any(data[:_ZEROS]):
        return isal_zlib.compress(data, _LEVEL)
    stream = isal_zlib.compressobj(_LEVEL)
    begun = stream.compress(data[:_FIRST]) + stream.flush(isal_zlib.Z_SYNC_FLUSH)
    return b"".join((begun, stream.compress(data[_FIRST:]), stream.flush()))


def _filter_rows(pixels: npt.NDArray[Any], row_filter: int) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    big_endian = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">"))
    stored = big_endian.reshape(height, -1).view(np.uint8)
    step = stored.shape[1] // width
    rows = np.empty((height, stored.shape[1] + 1), np.uint8)
    rows[:, 0] = row_filter
    if row_filter == _SUB:
        rows[:, 1 : step + 1] = stored[:, :step]
        np.subtract(stored[:, step:], stored[:, :-step], out=rows[:, step + 1 :])
    else:
        rows[:, 1:] = stored
    return rows


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join(
        (
            struct.pack(">I", len(data)),
            kind,
            data,
            struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(kind))),
        )
    )
