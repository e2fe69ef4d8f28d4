"""What an executor is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from builder.run.contents import FileContent
from builder.run.pieces import LoggedCase
from builder.run.plan import CaseTask
from builder.sources.source import Source
from shards.paths import ShardId

_BYTES: Final = 8 << 20
"""Images of a batch before compression: some hundredths of a second of work, so that handing it over costs little."""
_CASES: Final = 64


@dataclass(frozen=True)
class Batch:
    """Neighbouring cases of one shard, which one process converts one after another.

    Attributes:
        shard: The shard that they go into.
        source: What they come from.
        cases: The cases, in the order of the plan.
    """

    shard: ShardId
    source: Source
    cases: tuple[CaseTask, ...]

    @property
    def memory(self) -> int:
        """Bytes that converting it may take, by an estimate."""
        return max(case.memory for case in self.cases)

    def without(self, count: int) -> Batch | None:
        """The batch without its first cases, None if that leaves none."""
        return replace(self, cases=self.cases[count:]) if count < len(self.cases) else None


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        shard: The shard that it goes into.
        task: The case.
        stored: Its samples; without any where it is quarantined or the rules left none.
        files: The files that it was read from.
    """

    shard: ShardId
    task: CaseTask
    stored: LoggedCase
    files: tuple[FileContent, ...] = ()


def batches_of(shard: ShardId, source: Source, cases: Iterable[CaseTask]) -> Iterator[Batch]:
    """Cut the cases of a shard that must be converted into batches: a large case alone, small ones together."""
    chosen: list[CaseTask] = []
    for case in cases:
        if chosen and (len(chosen) == _CASES or _size(chosen) + case.size > _BYTES):
            yield Batch(shard, source, tuple(chosen))
            chosen = []
        chosen.append(case)
    if chosen:
        yield Batch(shard, source, tuple(chosen))


def _size(cases: Sequence[CaseTask]) -> int:
    return sum(case.size for case in cases)
