"""The files of a case as a few bytes each: the whole release has twenty million of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from builder.release.names import IMAGES, MASKS

_ROW: Final = struct.Struct("<QIIIBH")
_FAST: Final = 1
_KINDS: Final = ((IMAGES, "i"), (MASKS, "m"))


class Row(NamedTuple):
    """A file of the release.

    Attributes:
        path: Below the release's top folder.
        address: Of its header in the archive; in a folder the time of its last change in ns.
        packed: Bytes in the archive; in a folder of the file.
        size: Bytes of its content.
        crc32: Of its content; 0 in a folder.
        method: As in `builder.release.directory.Member`.
    """

    path: str
    address: int
    packed: int
    size: int
    crc32: int
    method: int


def pack_row(row: Row, between: str) -> bytes:
    """A row as bytes.

    Args:
        row: The row.
        between: What all paths of the case have in common, ``--SOURCE--CASE--``; it is left out.
    """
    path = row.path.removesuffix(".png").replace(between, "\0", 1)
    for folder, letter in _KINDS:
        if path.startswith(folder):
            path = letter + path.removeprefix(folder)
    name = path.encode("utf-8", "surrogateescape")
    return _ROW.pack(row.address, row.packed, row.size, row.crc32, row.method, len(name)) + name


def unpack_rows(data: bytes | bytearray, between: str) -> Iterator[Row]:
    """The rows that bytes hold, see `pack_row`."""
    at, end, unpack, head = 0, len(data), _ROW.unpack_from, _ROW.size
    folders = {letter: folder for folder, letter in _KINDS}
    while at < end:
        address, packed, size, crc, method, length = unpack(data, at)
        at += head
        name = data[at : at + length].decode("utf-8", "surrogateescape")
        at += length
        path = f"{folders[name[0]]}{name[1:].replace(chr(0), between, 1)}.png"
        yield Row(path, address, packed, size, crc, method)


def pack_rows(rows: Iterable[Row], between: str) -> bytes:
    """Rows as bytes that are small enough to be kept for every case of the release."""
    return zlib.compress(b"".join(pack_row(row, between) for row in rows), _FAST)


def unpack_case(data: bytes, between: str) -> list[Row]:
    """The rows of `pack_rows`."""
    return list(unpack_rows(zlib.decompress(data), between))


def between_of(source: str, case: str) -> str:
    """What the paths of a case have in common, in the release's naming."""
    return f"--{source}--{case}--"


@dataclass(frozen=True)
class PackedCase:
    """The files of a case, small enough to be kept for every case of the release.

    Attributes:
        source: Name of the source.
        modality: Of its images, repaired.
        name: Of the case.
        between: What the paths of its files have in common and ``packed`` leaves out.
        packed: Its files, see `pack_rows`.
        first_image: Path of its first image.
        size: Bytes of its files in the release.
        files: How many there are.
    """

    source: str
    modality: str
    name: str
    between: str
    packed: bytes
    first_image: str
    size: int
    files: int

    @property
    def rows(self) -> list[Row]:
        """Its files, ordered by path."""
        return unpack_case(self.packed, self.between)

    def holding(self, rows: Sequence[Row]) -> PackedCase:
        """The case with these of its files, among which is an image."""
        first = next(row.path for row in rows if row.path.startswith(IMAGES))
        size = sum(row.packed for row in rows)
        return replace(self, packed=pack_rows(rows, self.between), first_image=first, size=size, files=len(rows))
