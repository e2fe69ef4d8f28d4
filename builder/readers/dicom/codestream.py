"""What compressed pixels say of their size.

Standards: JPEG, ISO/IEC 10918-1 B.2.2; JPEG-LS, 14495-1 C.2.2; JPEG 2000, 15444-1 A.5.1.
"""

from __future__ import annotations

import struct
from typing import Final

from builder.errors import UnreadableError

_JP2_SIGNATURE: Final = bytes.fromhex("0000000c6a502020")
_START_OF_IMAGE: Final = b"\xff\xd8"
_START_OF_CODESTREAM: Final = b"\xff\x4f\xff\x51"
_FRAME_MARKERS: Final = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start of frame of JPEG and of JPEG-LS (0xF7); the three left out mark tables and extensions."""
_SCAN: Final = 0xDA


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 codestream; None where it does not tell, or is none of them.

    >>> codestream_size(bytes.fromhex("ffd8" "ffc0000b08" "0010" "0020" "010111 00"))
    (16, 32)
    """
    if data.startswith(_START_OF_IMAGE):
        return _jpeg_size(data)
    if data.startswith(_JP2_SIGNATURE):
        _check_boxes(data)
    start = data.find(_START_OF_CODESTREAM)
    if start >= 0 and len(data) >= start + 24:
        columns, rows, left, top = struct.unpack_from(">4I", data, start + 8)
        return rows - top, columns - left
    return None


def _check_boxes(data: bytes) -> None:
    """Refuse a JP2 file with a box of no length before its codestream (15444-1 I.4): readers follow it for ever."""
    at = 0
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(data[at : at + 4], "big")
        if length < 8:
            raise UnreadableError("damaged: a box of its JP2 file has no length; fetch it again")
        at += length


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", data, at + 5)
            return (rows, columns) if rows and columns else None
        if marker == _SCAN:
            return None
        # a marker may follow any number of fill bytes (B.1.1.2)
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
