"""Tar shards, byte for byte the same for the same samples.

`webdataset.TarWriter` sorts the members of a sample by name and reports no offsets, and the headers of the standard
library cost as much time as a small image; so headers are packed here: POSIX ustar, time 0, owner 0. A name that ustar
cannot hold (more than 100 bytes) gets the standard library's pax header.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from sa_med2d_20m import MEMBERS, DatasetError

_BLOCK: Final = 512
_RECORD: Final = 10240
_MODE: Final = 0o444
_LONGEST_NAME: Final = 100
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
    with tarfile.open(fileobj=io.BytesIO(blocks + bytes(2 * _BLOCK)), mode="r:") as tar:
        members = [(info, _content(tar, info, Path("piece"))) for info in tar]
    for first in range(0, len(members), len(MEMBERS)):
        yield _sample(members[first : first + len(MEMBERS)], Path("piece"))[0]


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
    end = 0
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            members: list[tuple[tarfile.TarInfo, bytes]] = []
            for info in tar:
                members.append((info, _content(tar, info, path)))
                end = info.offset_data + info.size + -info.size % _BLOCK
                if len(members) == len(MEMBERS):
                    yield _sample(members, path)
                    members = []
    except tarfile.TarError as error:
        raise BrokenShardError(f"{path}: no readable tar ({error})") from None
    if members:
        raise BrokenShardError(f"{path}: ends within a sample, after {members[-1][0].name}")
    _check_end(file, path, end)


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> bytes:
    file = tar.extractfile(info) if info.isreg() else None
    if file is None:
        raise BrokenShardError(f"{path}: {info.name} is not a regular file")
    return file.read()


def _check_end(file: BinaryIO, path: Path, end: int) -> None:
    """Whether nothing but the end-of-archive mark follows; tarfile stops silently at a header that it cannot read."""
    file.seek(end)
    rest = file.read()
    if any(rest):
        raise BrokenShardError(f"{path}: a damaged header at byte {end}, what follows cannot be read")
    if len(rest) < 2 * _BLOCK:
        raise BrokenShardError(f"{path}: the end-of-archive mark is missing, the file is truncated")


def _sample(members: list[tuple[tarfile.TarInfo, bytes]], path: Path) -> tuple[Sample, Located]:
    key = members[0][0].name.split(".")[0]
    names = tuple(info.name for info, _ in members)
    expected = tuple(f"{key}.{member}" for member in MEMBERS)
    if names != expected:
        raise BrokenShardError(f"{path}: expected the members {', '.join(expected)}, got {', '.join(names)}")
    for info, data in members:
        if len(data) != info.size:
            raise BrokenShardError(f"{path}: {info.name} has {len(data)} of {info.size} bytes, the file is truncated")
    sample = Sample(key, *(data for _, data in members))
    return sample, Located(*(Member(info.offset_data, info.size) for info, _ in members))


def sha256_of(file: BinaryIO) -> tuple[str, int]:
    """Sha256 and size in bytes of an open file, from its start to its end."""
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest(), file.tell()
