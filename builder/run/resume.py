"""What a build need not do: shards that are finished, and cases that are converted already.

A case is the same if all that shaped its bytes is the same: settings, which the plan knows, and the content of its
files, which is hashed anew only where size or time of a file have changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from builder.run.earlier_shards import (
    FoundCase,
    ShardCase,
    ShardPlace,
    cases_of,
    relocated,
    shards_aside,
    stand_aside,
    undamaged,
    whole_shards,
)
from builder.run.origin import Contents
from builder.run.pieces import logged_cases
from builder.run.plan import ShardPlan, SourcePlan
from shards.paths import DATA, INDEX, PIECES, PREVIOUS, RECEIPTS, ShardId, stems
from shards.receipt import Receipt, read_receipts
from shards.store import listing, remove_empty_folders


@dataclass(frozen=True)
class Resumption:
    """What is there of what is planned.

    Attributes:
        finished: Stem -> receipt of a shard that stays as it is.
        found: Stem of a shard that must be written -> number of a case in it -> where its samples lie.
        removed: Stems of shards of earlier builds that the plan no longer holds.
    """

    finished: Mapping[str, Receipt]
    found: Mapping[str, Mapping[int, FoundCase]]
    removed: tuple[str, ...]


def resume(
    out: Path,
    plans: Sequence[SourcePlan],
    contents: Mapping[str, Contents],
    *,
    threads: int,
    on_case: Callable[[int, int], None],
) -> Resumption:
    """Find what is there, and move aside or delete the shards that the plan does not hold as they are.

    Args:
        out: Output folder.
        plans: The sources that are built.
        contents: Source -> what is known of its files.
        threads: How many files are hashed at once.
        on_case: Told how many cases, of how many, have been compared with their files.
    """
    names = {plan.source.recipe.name for plan in plans}
    receipts = [receipt for receipt in read_receipts(out).values() if receipt.id.source in names]
    whole = whole_shards(out, receipts)
    known = _by_settings(out, whole.values())
    found: dict[str, dict[int, FoundCase]] = {shard.shard.stem: {} for plan in plans for shard in plan.shards}
    wanted = [
        (plan, shard, number)
        for plan in plans
        for shard in plan.shards
        for number, task in enumerate(shard.cases)
        if task.settings in known
    ]

    def same(entry: tuple[SourcePlan, ShardPlan, int]) -> FoundCase | None:
        plan, shard, number = entry
        task = shard.cases[number]
        content = contents[plan.source.recipe.name].of(task.case)
        if content is None:  # a file cannot be read; another try may be luckier
            return None
        return next((case for case in known[task.settings] if case.piece.content == content), None)

    with ThreadPoolExecutor(threads) as pool:
        for done, ((_, shard, number), case) in enumerate(zip(wanted, pool.map(same, wanted), strict=True), 1):
            on_case(done, len(wanted))
            if case is not None:
                found[shard.shard.stem][number] = case
    finished = {
        shard.shard.stem: whole[shard.shard.stem]
        for plan in plans
        for shard in plan.shards
        if _is_finished(shard, plan.source.recipe.license, whole, found[shard.shard.stem])
    }
    pending = {stem: cases for stem, cases in found.items() if stem not in finished}
    there = _stems_there(out, names)
    moved = _make_room(out, there - finished.keys(), whole, pending)
    return Resumption(
        finished,
        {
            stem: undamaged(out, {number: relocated(case, moved) for number, case in cases.items()})
            for stem, cases in pending.items()
        },
        tuple(sorted(there - found.keys())),
    )


def forget(out: Path, sources: Set[str]) -> None:
    """Delete logs and shards aside of sources, all of whose shards are finished."""
    for folder, source in ((PIECES, 2), (PREVIOUS, 3)):  # where in a path below it the source stands
        for name in listing(out, folder):
            if not sources.isdisjoint(name.split("/")[source : source + 1]):
                (out / folder / name).unlink()
        remove_empty_folders(out, folder)


def _by_settings(out: Path, receipts: Iterable[Receipt]) -> dict[str, list[FoundCase]]:
    """All cases that an output folder holds, in shards, in shards aside, and in logs."""
    known: defaultdict[str, list[FoundCase]] = defaultdict(list)
    for receipt in receipts:
        for case in cases_of(receipt, ShardPlace.of(receipt.id)):
            known[case.piece.settings].append(case)
    for receipt, place in shards_aside(out):
        for case in cases_of(receipt, place):
            known[case.piece.settings].append(case)
    for logged in logged_cases(out):
        known[logged.piece.settings].append(logged)
    return known


def _is_finished(
    plan: ShardPlan, license_id: str, whole: Mapping[str, Receipt], found: Mapping[int, FoundCase]
) -> bool:
    receipt = whole.get(plan.shard.stem)
    if receipt is None or receipt.license != license_id or len(found) != len(plan.cases):
        return False
    planned = [(task.settings, found[number].piece.content) for number, task in enumerate(plan.cases)]
    return planned == [(piece.settings, piece.content) for piece in receipt.pieces]


def _stems_there(out: Path, sources: set[str]) -> set[str]:
    """Shards of sources of which anything is there."""
    places = ((DATA, ".tar"), (INDEX, ".parquet"), (RECEIPTS, ".json"))
    every = {stem for folder, suffix in places for stem in stems(out, folder, suffix)}
    return {stem for stem in every if _source_of(stem) in sources}


def _source_of(stem: str) -> str | None:
    try:
        return ShardId.parse(stem).source
    except ValueError:  # not a file of ours; verify names it
        return None


def _make_room(
    out: Path, unwanted: set[str], whole: Mapping[str, Receipt], pending: Mapping[str, Mapping[int, FoundCase]]
) -> dict[ShardPlace, ShardPlace]:
    """Move aside the shards that cases are taken from, and delete the others; a shard anew must not look finished."""
    used = {case.place for cases in pending.values() for case in cases.values() if isinstance(case, ShardCase)}
    moved = {}
    for stem in sorted(unwanted):
        here = ShardPlace.of(ShardId.parse(stem))
        if here in used:
            moved[here] = stand_aside(out, whole[stem])
    discard_shards(out, (ShardId.parse(stem) for stem in unwanted))
    return moved


def discard_shards(out: Path, shards: Iterable[ShardId]) -> None:
    """Delete what there is of shards, and the folders that hold nothing after that."""
    paths = [path for shard in shards for path in (shard.receipt, shard.index, shard.tar)]
    for path in paths:
        (out / path).unlink(missing_ok=True)
    for folder in (DATA, INDEX, RECEIPTS) if paths else ():
        remove_empty_folders(out, folder)
