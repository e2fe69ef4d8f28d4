"""Tar shards, byte for byte the same for the same samples.

`webdataset.TarWriter` sorts the members of a sample by name and reports no offsets, and the headers of the standard
library cost as much time as a small image; so headers are packed here: POSIX ustar, time 0, owner 0. A name that ustar
cannot hold (more than 100 bytes) gets the standard library's pax header.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from sa_med2d_20m import MEMBERS, MEMORY_LIMIT, DatasetError

_BLOCK: Final = 512
_RECORD: Final = 10240
_MODE: Final = 0o444
_LONGEST_NAME: Final = 100
_LONGEST_EXTENSION: Final = 2**16
"""Bytes of a pax header: a name that an operating system can write is shorter."""
_OWNER: Final = b"%07o\0" % _MODE + b"0000000\0" * 2
_TIME: Final = b"\0" + b"00000000000\0"
_REST: Final = b"\0 0" + bytes(100) + b"ustar\00000" + bytes(247)
"""What stands between and after name, size and checksum in each header: mode and owners, time 0, a file, ustar."""
_SUM: Final = sum(_OWNER) + sum(_TIME) + sum(b" " * 8) + sum(_REST[2:])
"""Of all these bytes; the checksum counts itself as eight blanks."""


@dataclass(frozen=True)
class Sample:
    """One image with its masks, encoded.

    Attributes:
        key: WebDataset key.
        image: PNG file.
        mask: PNG file, the label map.
        record: JSON file, the metadata.
    """

    key: str
    image: bytes
    mask: bytes
    record: bytes


@dataclass(frozen=True)
class Member:
    """Where the bytes of a member lie in its shard."""

    offset: int
    size: int


@dataclass(frozen=True)
class Located:
    """Where the three members of a sample lie in their shard."""

    image: Member
    mask: Member
    record: Member


class TarWriter:
    """Writes samples to a tar stream and says where they went.

    Args:
        file: Binary file at its start. It stays open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._position = 0

    @property
    def position(self) -> int:
        """Bytes written so far: where the next sample begins."""
        return self._position

    def write(self, sample: Sample) -> Located:
        """Append a sample."""
        data, located = sample_blocks(sample, self._position)
        self.append(data)
        return located

    def append(self, blocks: bytes) -> None:
        """Append the blocks of whole samples, or the next part of them, as `sample_blocks` makes them."""
        self._file.write(blocks)
        self._digest.update(blocks)
        self._position += len(blocks)

    def finish(self) -> tuple[int, str]:
        """Write the end of the archive.

        Returns:
            Size in bytes and sha256 of the whole archive.
        """
        end = self._position + 2 * _BLOCK
        self.append(bytes(2 * _BLOCK + -end % _RECORD))
        return self._position, self._digest.hexdigest()


def sample_blocks(sample: Sample, start: int = 0) -> tuple[bytes, Located]:
    """The tar blocks of a sample: what they are does not depend on where they stand.

    Args:
        sample: The sample.
        start: Byte of the archive that they begin at.

    Returns:
        The blocks, and where the members lie in the archive.
    """
    blocks, members, end = [], [], start
    for name, data in zip(MEMBERS, (sample.image, sample.mask, sample.record), strict=True):
        header = tar_header(f"{sample.key}.{name}", len(data))
        first = end + len(header)
        blocks += [header, data, bytes(-len(data) % _BLOCK)]
        members.append(Member(first, len(data)))
        end = first + len(data) + len(blocks[-1])
    return b"".join(blocks), Located(*members)


def tar_header(name: str, size: int) -> bytes:
    """The header of a regular file as tar blocks: equal to what `tarfile` writes for the same fields."""
    encoded = name.encode()
    if len(encoded) > _LONGEST_NAME or size >= 8**11:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, _MODE
        return info.tobuf(tarfile.PAX_FORMAT)
    octal = b"%011o" % size
    checksum = b"%06o" % (_SUM + sum(encoded) + sum(octal))
    return b"".join((encoded, bytes(_LONGEST_NAME - len(encoded)), _OWNER, octal, _TIME, checksum, _REST))


class BrokenShardError(DatasetError):
    """A tar file is no shard: not a tar, truncated, or its members are not three a sample in order."""


def samples_in(blocks: bytes) -> Iterator[Sample]:
    """The samples of tar blocks that `sample_blocks` made.

    Raises:
        BrokenShardError: They are not whole samples.
    """
    for sample, _ in read_open_shard(io.BytesIO(blocks + bytes(2 * _BLOCK)), Path("piece")):
        yield sample


def read_shard(path: Path) -> Iterator[tuple[Sample, Located]]:
    """Read a shard from its tar alone.

    Yields:
        Each sample with the places of its members, in order.

    Raises:
        BrokenShardError: See there.
    """
    with path.open("rb") as file:
        yield from read_open_shard(file, path)


def read_open_shard(file: BinaryIO, path: Path) -> Iterator[tuple[Sample, Located]]:
    """As `read_shard`, from a file that is open: what is read is one file, whatever takes its name meanwhile.

    Args:
        file: Its content, from the start.
        path: Its name, for messages.
    """
    for key, located in places_in(file, path):
        members = (located.image, located.mask, located.record)
        yield Sample(key, *(read_member(file, member) for member in members)), located


def read_member(file: BinaryIO, member: Member) -> bytes:
    """The bytes of a member that `places_in` found."""
    file.seek(member.offset)
    return file.read(member.size)


def places_in(file: BinaryIO, path: Path) -> Iterator[tuple[str, Located]]:
    """Where the samples of a shard lie, from its headers alone; nothing of a size that they claim is taken.

    Args:
        file: The tar, open.
        path: Its name, for messages.

    Yields:
        Key and places of each sample, in order; each lies within the file.

    Raises:
        BrokenShardError: See there.
    """
    length = file.seek(0, io.SEEK_END)
    members: list[tuple[str, Member]] = []
    end = 0
    while (found := _member_at(file, path, end, length)) is not None:
        members.append(found)
        end = found[1].offset + found[1].size + -found[1].size % _BLOCK
        if len(members) == len(MEMBERS):
            yield _located(members, path)
            members = []
    if members:
        raise BrokenShardError(f"{path}: ends within a sample, after {members[-1][0]!r:.200}")
    _check_end(file, path, end, length)


def _member_at(file: BinaryIO, path: Path, start: int, length: int) -> tuple[str, Member] | None:
    """Name and place of the member whose header stands at a byte; None at the end-of-archive mark."""
    header = _header_at(file, path, start)
    if header is None:
        return None
    said: dict[str, str] = {}
    if header.type == tarfile.XHDTYPE:
        if not 0 < header.size <= _LONGEST_EXTENSION:
            raise BrokenShardError(
                f"{path}: byte {start}: size of a pax header: expected 1 to {_LONGEST_EXTENSION}, got {header.size}"
            )
        said = _pax_fields(file.read(header.size), f"{path}: byte {start}")
        start += _BLOCK + header.size + -header.size % _BLOCK
        header = _header_at(file, path, start)
    if header is None:
        raise BrokenShardError(f"{path}: byte {start}: expected the header of a file, the file is truncated")
    name, size = said.get("path", header.name), int(said.get("size", header.size))
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise BrokenShardError(f"{path}: {name!r:.200} is not a regular file")
    place = Member(start + _BLOCK, size)
    if not 0 <= size <= length - place.offset:
        raise BrokenShardError(
            f"{path}: {name!r:.200}: its header says {size:,} bytes, {max(0, length - place.offset):,} follow; it is "
            "truncated or damaged"
        )
    if size > MEMORY_LIMIT:
        raise BrokenShardError(f"{path}: {name!r:.200}: expected at most {MEMORY_LIMIT:,} bytes, got {size:,}")
    return name, place


def _header_at(file: BinaryIO, path: Path, start: int) -> tarfile.TarInfo | None:
    file.seek(start)
    try:
        return tarfile.TarInfo.frombuf(file.read(_BLOCK), "utf-8", "strict")
    except (tarfile.EmptyHeaderError, tarfile.EOFHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
        return None  # what else stands there is told by `_check_end`
    except (tarfile.TarError, ValueError) as error:
        what = "a damaged header" if start else "no readable tar, a damaged header"
        raise BrokenShardError(f"{path}: {what} at byte {start} ({error}), what follows cannot be read") from None


def _pax_fields(data: bytes, where: str) -> dict[str, str]:
    """The records of a pax extended header (POSIX.1-2024, pax, "pax Extended Header"): of those that we write."""
    fields = {}
    while data:
        record = re.match(rb"(\d{1,5}) (path|size)=", data)
        length = int(record[1]) if record else 0
        if record is None or not record.end() < length <= len(data) or data[length - 1 : length] != b"\n":
            raise BrokenShardError(f"{where}: expected a pax header of path and size, got {data[:60]!r}")
        value, data = data[record.end() : length - 1], data[length:]
        if record[2] == b"size" and not re.fullmatch(rb"\d{1,18}", value):
            raise BrokenShardError(f"{where}: size: expected a number of bytes, got {value[:60]!r}")
        try:
            fields[record[2].decode()] = value.decode()
        except UnicodeDecodeError:
            raise BrokenShardError(f"{where}: path: expected UTF-8, got {value[:60]!r}") from None
    return fields


def _check_end(file: BinaryIO, path: Path, end: int, length: int) -> None:
    """Whether nothing but the end-of-archive mark follows, which fills the last record."""
    file.seek(end)
    rest = file.read(_RECORD + 2 * _BLOCK)
    if any(rest):
        what = "a damaged header" if end else "no readable tar, a damaged header"
        raise BrokenShardError(f"{path}: {what} at byte {end}, what follows cannot be read")
    if length > end + len(rest):
        raise BrokenShardError(
            f"{path}: expected its end after the end-of-archive mark at byte {end}, {length - end:,} bytes follow"
        )
    if len(rest) < 2 * _BLOCK:
        raise BrokenShardError(f"{path}: the end-of-archive mark is missing, the file is truncated")


def _located(members: list[tuple[str, Member]], path: Path) -> tuple[str, Located]:
    key = members[0][0].split(".")[0]
    names = tuple(name for name, _ in members)
    expected = tuple(f"{key}.{member}" for member in MEMBERS)
    if names != expected:
        raise BrokenShardError(f"{path}: expected the members {', '.join(expected):.600}, got {', '.join(names):.600}")
    return key, Located(*(place for _, place in members))


def sha256_of(file: BinaryIO) -> tuple[str, int]:
    """Sha256 and size in bytes of an open file, from its start to its end."""
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest(), file.tell()
