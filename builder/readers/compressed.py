"""Compressed streams, inflated to their end for their check sums alone.

Most decoders stop once they have as many bytes as a header promises. The check sum of a stream stands behind its last
byte (gzip: RFC 1952 section 2.3.1, zlib: RFC 1950 section 2.2), so that they take damaged pixels for sound ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from isal import igzip_lib, isal_zlib

from builder.errors import UnreadableError
from builder.readers.rules import ReadRules

DAMAGED: Final = (zlib.error, cast("type[Exception]", igzip_lib.IsalError))
"""What zlib and ISA-L raise for a damaged stream."""
_PIECE: Final = 1 << 14
"""Bytes that are inflated at once; they become 16 MiB at most (deflate packs up to 1,032 to one)."""
_ZLIB_OR_GZIP: Final = zlib.MAX_WBITS + 32
_LZW_END: Final = 0b1_0000_0001
_LZW_PADDING: Final = 2
"""Bytes of padding behind the last code that are borne with: some writers fill strips up to an even length."""


def inflated_size(file: BinaryIO, length: int | None, rules: ReadRules) -> int:
    """Inflate zlib or gzip data, one or several gzip members, and keep nothing.

    Args:
        file: Open where the data begin.
        length: Bytes to read, None up to the end of the file.
        rules: How much it may become.

    Returns:
        Bytes that it inflates to.

    Raises:
        UnreadableError: A check sum or a length is wrong, the data break off, something else follows than zeros, or it
            becomes more than the rules allow.
    """
    size, inflater = 0, None
    for piece in _pieces(file, length):
        data = piece
        while data:
            if inflater is None or inflater.eof:
                if inflater is not None and not data.strip(b"\0"):
                    break
                inflater = isal_zlib.decompressobj(wbits=_ZLIB_OR_GZIP)
            try:
                size += len(inflater.decompress(data))
            except DAMAGED as error:
                raise UnreadableError(f"damaged: its compressed data are not whole ({error}); fetch it again") from None
            rules.check_bytes(size)
            data = inflater.unused_data if inflater.eof else b""
    if inflater is None or not inflater.eof:
        raise UnreadableError("truncated: its compressed data break off; fetch it again")
    return size


def _pieces(file: BinaryIO, length: int | None) -> Iterator[bytes]:
    left = length
    while piece := file.read(_PIECE if left is None else min(_PIECE, left)):
        yield piece
        left = None if left is None else left - len(piece)


def ends_as_lzw(strip: bytes) -> bool:
    """Whether a strip of a TIFF ends with the code that marks its end (TIFF 6.0 section 13).

    LZW has no check sum. The code takes nine to twelve bits, and up to seven zeros fill its last byte.
    """
    end = strip.rstrip(b"\0")
    if not end or len(strip) - len(end) > _LZW_PADDING + 1:
        return False
    bits = int.from_bytes(end[-3:], "big")
    # the code ends in a one, so all zeros behind it are padding
    return (bits >> ((bits & -bits).bit_length() - 1)) & 0x1FF == _LZW_END
