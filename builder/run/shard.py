"""From finished cases to a finished shard: tar, then index, then receipt, each whole or not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self

from isal import isal_zlib

from builder.run.batch import Outcome
from builder.run.earlier_shards import CaseReader, FoundCase
from builder.run.plan import ShardPlan
from builder.run.versions import versions
from shards.index import receipt_of, write_index
from shards.paths import ShardId
from shards.receipt import Piece, Receipt, write_receipt
from shards.writer import StoredCase, relicensed, write_shard


class UnfinishedShards:
    """The shards of a build that must be written, while their cases come in.

    One thread writes them, beside the conversion: it copies bytes from logs and from earlier shards, a part at a time,
    so that memory does not grow with what is waiting.

    Args:
        out: Output folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._plans: dict[str, tuple[ShardPlan, str]] = {}
        self._cases: dict[str, dict[str, FoundCase]] = {}
        self._logs: dict[str, set[str]] = {}
        self._reader = CaseReader(out)
        self._thread = ThreadPoolExecutor(1)
        self._written: dict[str, Future[Receipt]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def open(self, plan: ShardPlan, license_id: str, found: Mapping[int, FoundCase]) -> None:
        """Begin with a shard.

        Args:
            plan: What goes into it.
            license_id: Licence that the metadata of all samples must name.
            found: Number of a case in the plan -> its samples, of those that are converted already.
        """
        stem = plan.shard.stem
        self._plans[stem] = plan, license_id
        self._logs[stem] = set()
        self._cases[stem] = {plan.cases[number].settings: case for number, case in found.items()}
        self._write_if_complete(stem)

    def add(self, outcome: Outcome) -> None:
        """Take in a case, and write its shard if it was the last one missing."""
        stem = outcome.shard.stem
        self._cases[stem][outcome.task.settings] = outcome.stored
        if outcome.stored.log is not None:  # logs of earlier builds may hold cases of other shards too
            self._logs[stem].add(outcome.stored.log)
        self._write_if_complete(stem)
        for written in self._written.values():  # what failed ends the build now, not when all is converted
            if written.done():
                written.result()

    def receipts(self) -> dict[str, Receipt]:
        """The receipts of all shards by stem, when they are written."""
        return {stem: written.result() for stem, written in self._written.items()}

    def _write_if_complete(self, stem: str) -> None:
        plan, license_id = self._plans[stem]
        if len(self._cases[stem]) == len(plan.cases):
            found = self._cases.pop(stem)
            cases = [found[task.settings] for task in plan.cases]
            self._written[stem] = self._thread.submit(self._write, plan.shard, cases, license_id)

    def _write(self, shard: ShardId, cases: Sequence[FoundCase], license_id: str) -> Receipt:
        receipt = write_planned(self._out, shard, cases, license_id, self._reader)
        for log in self._logs.pop(shard.stem):
            (self._out / log).unlink()
        return receipt


def write_planned(
    out: Path, shard: ShardId, cases: Sequence[FoundCase], license_id: str, reader: CaseReader
) -> Receipt:
    """Write a shard from its cases, one after another.

    Args:
        out: Output folder.
        shard: Name of the shard.
        cases: What became of each case, in the order of the plan.
        license_id: Licence that the metadata of all samples must name.
        reader: Reads their samples.

    Raises:
        StoreError: A case is no longer where it was.
        OSError: The output folder cannot be written.
    """
    pieces: list[Piece] = []
    written = write_shard(out, shard, _samples(cases, license_id, reader, pieces))
    write_index(out / shard.index, written.rows)
    placed = tuple(replace(piece, offset=offset) for piece, offset in zip(pieces, written.offsets, strict=True))
    receipt = replace(
        receipt_of(shard, written.rows, written.sha256, written.bytes),
        license=license_id,
        quarantined=tuple(piece.quarantined for piece in placed if piece.quarantined is not None),
        dropped=_sum(piece.dropped for piece in placed),
        flagged=_sum(piece.flagged for piece in placed),
        lost_pixels=_sum(piece.lost_pixels for piece in placed),
        pieces=placed,
        versions=versions(),
    )
    write_receipt(out, receipt)
    return receipt


def _samples(
    cases: Iterable[FoundCase], license_id: str, reader: CaseReader, pieces: list[Piece]
) -> Iterator[StoredCase]:
    """The samples of cases, under one licence; what became of each is added to ``pieces``."""
    for case in cases:
        stored = reader.read(case)
        if case.license == license_id:
            pieces.append(case.piece)
            yield stored
            continue
        encoded = relicensed(stored, license_id)
        check = isal_zlib.crc32(encoded.blocks)
        pieces.append(replace(case.piece, bytes=len(encoded.blocks), crc32=check))
        yield StoredCase((encoded.blocks,), encoded.rows)


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = sum((Counter(count) for count in counts), Counter[str]())
    return dict(sorted((+total).items()))
