"""Cases in shards of earlier builds, which need not be converted again.

A shard that gives way to another stands aside, below ``build/previous``, until every shard that takes cases from it is
finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from builder.run.pieces import LoggedCase, crc32_of
from sa_med2d_20m import DatasetError
from shards.atomic import write_atomic
from shards.paths import DATA, INDEX, PREVIOUS, ShardId
from shards.receipt import Piece, Receipt, read_receipt
from shards.store import StoreError, copied, listing, move, parts_of
from shards.writer import StoredCase


@dataclass(frozen=True)
class ShardPlace:
    """Where a shard of an earlier build lies; paths are below the output folder.

    Attributes:
        tar: Its tar.
        index: Its index.
        receipt: Its receipt.
    """

    tar: str
    index: str
    receipt: str

    @classmethod
    def of(cls, shard: ShardId) -> ShardPlace:
        """Where it lies as a part of the folder."""
        return cls(shard.tar, shard.index, shard.receipt)

    @classmethod
    def aside(cls, receipt: Receipt) -> ShardPlace:
        """Where it stands aside; shards of one name and other bytes do not meet there."""
        base = f"{PREVIOUS}/{receipt.sha256[:16]}/{receipt.shard}"
        return cls(f"{base}.tar", f"{base}.parquet", f"{base}.json")


@dataclass(frozen=True)
class ShardCase:
    """A case in a shard of an earlier build.

    Attributes:
        piece: What became of it.
        license: Licence that its metadata names.
        place: Where the shard lies.
        first_row: Number of its first row in the shard's index.
    """

    piece: Piece
    license: str
    place: ShardPlace
    first_row: int


FoundCase = LoggedCase | ShardCase
"""A case that is converted, wherever its samples lie."""


def cases_of(receipt: Receipt, place: ShardPlace) -> Iterator[ShardCase]:
    """The cases of a shard, by its receipt."""
    rows = accumulate((piece.samples for piece in receipt.pieces), initial=0)
    for piece, first_row in zip(receipt.pieces, rows, strict=False):
        yield ShardCase(piece, receipt.license, place, first_row)


def whole_shards(out: Path, receipts: Iterable[Receipt]) -> dict[str, Receipt]:
    """Those receipts, by stem, whose shard has an index and the size that it should have; found without opening any."""
    tars, indexes = listing(out, DATA), listing(out, INDEX)
    return {
        receipt.shard: receipt
        for receipt in receipts
        if tars.get(f"{receipt.shard}.tar") == receipt.bytes and f"{receipt.shard}.parquet" in indexes
    }


def shards_aside(out: Path) -> Iterator[tuple[Receipt, ShardPlace]]:
    """The shards that a build which was killed left standing aside; one whose receipt cannot be read counts as gone."""
    listed = listing(out, PREVIOUS)
    for name in listed:
        base = name.removesuffix(".json")
        if base != name and {f"{base}.tar", f"{base}.parquet"} <= listed.keys():
            try:
                receipt = read_receipt(out / PREVIOUS / name)
            except DatasetError:
                continue
            yield receipt, ShardPlace.aside(receipt)


def stand_aside(out: Path, receipt: Receipt) -> ShardPlace:
    """Move a shard out of the way; one that is moved when the process dies is found again, or gone."""
    here, there = ShardPlace.of(receipt.id), ShardPlace.aside(receipt)
    write_atomic(out / there.receipt, (out / here.receipt).read_bytes())
    (out / here.receipt).unlink()
    move(out, here.index, there.index)
    move(out, here.tar, there.tar)
    return there


def undamaged(out: Path, cases: Mapping[int, FoundCase]) -> dict[int, FoundCase]:
    """Those cases whose samples are what they were when they were written; logs are checked when they are found."""
    return {number: case for number, case in cases.items() if isinstance(case, LoggedCase) or _is_whole(out, case)}


def _is_whole(out: Path, case: ShardCase) -> bool:
    try:
        return crc32_of(parts_of(out / case.place.tar, case.piece.offset, case.piece.bytes)) == case.piece.crc32
    except StoreError:
        return False


class CaseReader:
    """Reads the samples of cases. The index of the last shard is kept, as its cases are asked for in a row.

    Args:
        out: Output folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = ""
        self._index = pa.table({})

    def read(self, case: FoundCase) -> StoredCase:
        """The samples of a case; `StoreError` where they are no longer there."""
        if isinstance(case, LoggedCase):
            return case.read(self._out)
        if self._path != case.place.index:
            with copied(self._out, [case.place.index]) as near:
                self._path, self._index = case.place.index, pq.read_table(near / case.place.index)
        rows = self._index.slice(case.first_row, case.piece.samples)
        blocks = parts_of(self._out / case.place.tar, case.piece.offset, case.piece.bytes)
        return StoredCase(blocks, rows, case.piece.offset)


def relocated(case: FoundCase, places: Mapping[ShardPlace, ShardPlace]) -> FoundCase:
    """The case, after shards have moved."""
    return case if isinstance(case, LoggedCase) else replace(case, place=places.get(case.place, case.place))
