"""From finished cases to a finished shard: tar, then index, then receipt, each whole or not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Condition
from typing import Final, Self

from builder.run.batch import Outcome
from builder.run.earlier_shards import CaseReader, FoundCase
from builder.run.pieces import crc32_of
from builder.run.plan import ShardPlan
from builder.run.versions import versions
from sa_med2d_20m import SAMed2DError
from shards.index import receipt_of, write_index
from shards.paths import ShardId
from shards.receipt import Piece, Receipt, summed, summed_by_reason, write_receipt
from shards.writer import StoredCase, relicensed, write_shard

_THREADS: Final = 4
"""Shards that are written at a time: more than one, as one may wait long for a slow case."""


class AbandonedError(SAMed2DError):
    """The build ends before all cases of a shard are there."""


class UnfinishedShards:
    """The shards of a build that must be written, while their cases come in.

    Threads write them, beside the conversion: each takes the cases of a shard in the order of the plan, as soon as they
    are there, and copies their bytes from logs and from earlier shards, a part at a time. So memory does not grow with
    what is waiting.

    Args:
        out: Output folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._plans: dict[str, tuple[ShardPlan, str]] = {}
        self._cases: dict[str, dict[str, FoundCase]] = {}
        self._logs: dict[str, set[str]] = {}
        self._arrived = Condition()
        self._over = False
        self._threads = ThreadPoolExecutor(_THREADS)
        self._written: dict[str, Future[Receipt]] = {}
        self._failed: list[Future[Receipt]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._arrived:
            self._over = True
            self._arrived.notify_all()
        self._threads.shutdown(cancel_futures=True)

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
        if len(found) == len(plan.cases):
            self._begin(stem)

    def add(self, outcome: Outcome) -> None:
        """Take in a case, and begin to write its shard; what failed ends the build now, not when all is converted."""
        stem = outcome.shard.stem
        with self._arrived:
            self._cases[stem][outcome.task.settings] = outcome.stored
            if outcome.stored.log is not None:  # logs of earlier builds may hold cases of other shards too
                self._logs[stem].add(outcome.stored.log)
            self._arrived.notify_all()
        if stem not in self._written:
            self._begin(stem)
        if self._failed:
            self._failed[0].result()

    def receipts(self) -> dict[str, Receipt]:
        """The receipts of all shards by stem, when they are written."""
        return {stem: written.result() for stem, written in self._written.items()}

    def _begin(self, stem: str) -> None:
        self._written[stem] = self._threads.submit(self._write, *self._plans[stem])
        self._written[stem].add_done_callback(self._note_failure)

    def _note_failure(self, written: Future[Receipt]) -> None:
        if not written.cancelled() and written.exception() is not None:
            self._failed.append(written)

    def _write(self, plan: ShardPlan, license_id: str) -> Receipt:
        receipt = write_planned(self._out, plan.shard, self._in_order(plan), license_id)
        for log in self._logs[plan.shard.stem]:
            (self._out / log).unlink()
        return receipt

    def _in_order(self, plan: ShardPlan) -> Iterator[FoundCase]:
        """The cases of a shard, each when it is there."""
        cases = self._cases[plan.shard.stem]
        for task in plan.cases:
            with self._arrived:
                while not (self._over or task.settings in cases):
                    self._arrived.wait()
                if task.settings not in cases:
                    raise AbandonedError(f"{plan.shard.tar}: not all of its cases are there")
            yield cases.pop(task.settings)


def write_planned(out: Path, shard: ShardId, cases: Iterable[FoundCase], license_id: str) -> Receipt:
    """Write a shard from its cases, one after another.

    Args:
        out: Output folder.
        shard: Name of the shard.
        cases: What became of each case, in the order of the plan.
        license_id: Licence that the metadata of all samples must name.

    Raises:
        StoreError: A case is no longer where it was.
        OSError: The output folder cannot be written.
    """
    pieces: list[Piece] = []
    written = write_shard(out, shard, _samples(cases, license_id, CaseReader(out), pieces))
    write_index(out / shard.index, written.rows)
    placed = tuple(replace(piece, offset=offset) for piece, offset in zip(pieces, written.offsets, strict=True))
    receipt = replace(
        receipt_of(shard, written.rows, written.sha256, written.bytes),
        license=license_id,
        quarantined=tuple(piece.quarantined for piece in placed if piece.quarantined is not None),
        dropped=summed(piece.dropped for piece in placed),
        flagged=summed(piece.flagged for piece in placed),
        lost_pixels=summed(piece.lost_pixels for piece in placed),
        lost_by_class=summed_by_reason(piece.lost_by_class for piece in placed),
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
        pieces.append(replace(case.piece, bytes=encoded.size, crc32=crc32_of(encoded.blocks)))
        yield StoredCase(encoded.blocks, encoded.rows)
