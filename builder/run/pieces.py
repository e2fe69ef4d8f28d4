"""Pieces: the finished bytes of cases on their way into a shard.

A process appends what a case became to a log below ``build/pieces``, and only says where it lies there. So neither
pipes nor the memory of the building process hold pictures, however fast the workers are, and a build that was killed
finds every case that was finished. A log goes when its shard is finished.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
from isal import isal_zlib

from sa_med2d_20m import DatasetError
from shards.index import index_table
from shards.paths import PIECES, ShardId
from shards.receipt import Piece, piece_from
from shards.store import is_here, listing, open_object, parts_of
from shards.writer import EncodedCase, StoredCase

_HEAD: Final = struct.Struct(">8sIQQI")
"""Mark, bytes of record, rows and blocks, and the check sum of record and rows."""
_MARK: Final = b"SAMED2D1"
_SUFFIX: Final = ".pieces"


@dataclass(frozen=True)
class LoggedCase:
    """A case in a log.

    Attributes:
        piece: What became of it; its offset is that in the log.
        license: Licence that its metadata names.
        log: Path of the log below the output folder; None for a case without samples that was never written.
        rows_offset: Where its rows of the index lie.
        rows_size: Bytes of them.
    """

    piece: Piece
    license: str
    log: str | None = None
    rows_offset: int = 0
    rows_size: int = 0

    def read(self, out: Path) -> StoredCase:
        """Its samples."""
        if self.log is None or not self.piece.samples:
            return StoredCase((), index_table([]))
        path = out / self.log
        rows = b"".join(parts_of(path, self.rows_offset, self.rows_size))
        with pa.ipc.open_stream(rows) as stream:
            table = stream.read_all()
        return StoredCase(parts_of(path, self.piece.offset, self.piece.bytes), table)


class PieceLog:
    """A log that one process writes.

    Args:
        name: Its path below the output folder.
        file: Where its bytes go.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name, self._file, self._end = name, file, 0

    def append(self, piece: Piece, license_id: str, encoded: EncodedCase) -> LoggedCase:
        """Write a case; ``offset``, ``bytes`` and ``crc32`` of its piece are set here."""
        rows = _to_bytes(encoded.rows)
        about = {**asdict(piece), "bytes": encoded.size, "crc32": crc32_of(encoded.blocks), "offset": 0}
        record = json.dumps({"license": license_id, "piece": about}).encode("utf-8", "surrogateescape")
        check = isal_zlib.crc32(rows, isal_zlib.crc32(record))
        head = _HEAD.pack(_MARK, len(record), len(rows), encoded.size, check)
        self._file.writelines((head, record, rows, *encoded.blocks))
        self._file.flush()
        at, self._end = self._end, self._end + len(head) + len(record) + len(rows) + encoded.size
        return _logged(self._name, at + len(head), record, len(rows))


@contextmanager
def open_log(out: Path, shard: ShardId) -> Iterator[PieceLog]:
    """Open a new log for cases of a shard. In an object store it is there when the block ends."""
    name = f"{PIECES}/{shard.stem}/{uuid.uuid4().hex}{_SUFFIX}"
    path = out / name
    if is_here(out):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            yield PieceLog(name, file)
    else:
        with open_object(path) as file:
            yield PieceLog(name, file)


def logged_cases(out: Path) -> Iterator[LoggedCase]:
    """The cases of all logs of an output folder that are whole: a process that is killed leaves a part of one."""
    for name, size in listing(out, PIECES).items():
        if name.endswith(_SUFFIX):
            yield from _cases_in(out, f"{PIECES}/{name}", size)


def _cases_in(out: Path, name: str, size: int) -> Iterator[LoggedCase]:
    at = 0
    while at + _HEAD.size <= size:
        head = b"".join(parts_of(out / name, at, _HEAD.size))
        mark, record_size, rows_size, blocks_size, check = _HEAD.unpack(head)
        start = at + _HEAD.size
        at = start + record_size + rows_size + blocks_size
        if mark != _MARK or at > size:
            return
        about = b"".join(parts_of(out / name, start, record_size + rows_size))
        if isal_zlib.crc32(about) != check:
            return
        try:
            found = _logged(name, start, about[:record_size], rows_size)
        except (TypeError, KeyError, DatasetError):  # a record of another version, whose cases are converted anew
            return
        if crc32_of(parts_of(out / name, found.piece.offset, found.piece.bytes)) == found.piece.crc32:
            yield found


def crc32_of(parts: Iterable[bytes]) -> int:
    """Check sum of bytes that come in parts."""
    check = 0
    for part in parts:
        check = isal_zlib.crc32(part, check)
    return check


def _logged(name: str, start: int, record: bytes, rows_size: int) -> LoggedCase:
    """A case by its record, which begins at a byte of the log."""
    about = json.loads(record.decode("utf-8", "surrogateescape"))
    rows_offset = start + len(record)
    piece = piece_from({**about["piece"], "offset": rows_offset + rows_size}, "the piece")
    return LoggedCase(piece, about["license"], name, rows_offset, rows_size)


def _to_bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue().to_pybytes())
