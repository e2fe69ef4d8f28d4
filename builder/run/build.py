"""A whole build: plan, resume, run, card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from builder.cases.identifiers import identifier_key, write_table
from builder.errors import RecipeError
from builder.run.executors import EXECUTORS
from builder.run.options import Options
from builder.run.plan import SourcePlan, Task, plan_source, source_root, write_plan
from builder.run.shard import CaseDone
from builder.sources.recipe import Recipe
from shards.atomic import TEMPORARY, write_atomic
from shards.card import Config, write_card
from shards.description import SourceDescription, write_source
from shards.lock import OutputError, locked
from shards.paths import BUILD, DATA, INDEX, RECEIPTS, ShardId, stems
from shards.receipt import Quarantined, Receipt, read_receipts
from shards.store import discard_unfinished, is_here, listing


class Listener(Protocol):
    """Who is told how a build goes on."""

    def planned(self, plans: Sequence[SourcePlan], pending: Sequence[Task]) -> None:
        """The plan is made; ``pending`` has no valid receipt yet."""

    def case_done(self, case: CaseDone) -> None:
        """A case was converted or quarantined."""


@dataclass(frozen=True)
class Summary:
    """How a build ended.

    Attributes:
        receipts: Of all shards of the sources that were asked for.
        removed: Shards of earlier builds that the plan no longer holds.
        quarantined: Source -> cases in quarantine.
        without_sample: Source -> cases that the rules left no sample of.
        plans: One for each source.
        configs: What the card lists, for the whole output folder.
    """

    receipts: tuple[Receipt, ...]
    removed: tuple[str, ...]
    quarantined: dict[str, tuple[Quarantined, ...]]
    without_sample: dict[str, tuple[str, ...]]
    plans: tuple[SourcePlan, ...]
    configs: tuple[Config, ...]


def build(recipes: Sequence[Recipe], raw: Path, out: Path, options: Options, listener: Listener) -> Summary:
    """Build sources into an output folder, which may hold others already.

    Shards with a valid receipt are kept, so running it again resumes. Shards of these sources that the plan no
    longer holds are removed.

    Raises:
        RecipeError: A recipe cannot be used; nothing was written.
        OutputError: The folder cannot be written, or another build is writing to it.
        CaseError: In a strict build.
        WorkerLostError: See `builder.run.executors.Executor`.
    """
    plans = plan(recipes, raw, options, out)
    try:
        with locked(out):
            return _build(plans, out, options, listener)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise OutputError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from None


def plan(recipes: Sequence[Recipe], raw: Path, options: Options, out: Path | None = None) -> list[SourcePlan]:
    """Plan sources.

    Hashed identifiers are those of the output folder; without one they mean nothing.

    Raises:
        RecipeError: With the problems of all sources.
    """
    names = Counter(recipe.name for recipe in recipes)
    problems = [f"{name}: named by {count} recipes" for name, count in names.items() if count > 1]
    plans = []
    key = cache(lambda: identifier_key(out))
    for recipe in recipes if not problems else ():
        root = source_root(recipe, raw, alone=len(recipes) == 1)
        try:
            planned = plan_source(recipe, root, key, shard_size=options.shard_size, limit_cases=options.limit_cases)
        except RecipeError as error:
            problems += error.problems
            continue
        plans.append(planned)
        if options.strict:
            problems += [f"{recipe.name}: {sentence}" for sentence in unknown_classes(planned)]
    if problems:
        raise RecipeError(problems)
    return plans


def unknown_classes(planned: SourcePlan) -> list[str]:
    """A sentence for each class name that the vocabulary does not know."""
    return [
        f"class {name!r} is not in the vocabulary" + (f"; near are {', '.join(near)}" if near else "")
        for name, near in planned.source.classes.unknown.items()
    ]


def _build(plans: list[SourcePlan], out: Path, options: Options, listener: Listener) -> Summary:
    known = read_receipts(out)
    removed = _clean(out, plans)
    for planned in plans:
        write_source(out, _describe(planned))
        write_plan(out, planned)
        if planned.pseudonyms:
            write_table(out, planned.source.recipe.name, planned.pseudonyms)
    tasks = [task for planned in plans for task in planned.tasks]
    tars, indexes = listing(out, DATA), listing(out, INDEX)
    pending = [task for task in tasks if not _is_finished(task, known.get(task.shard.stem), tars, indexes)]
    # what is built anew must not count as finished while it is half way
    for task in pending:
        (out / task.shard.receipt).unlink(missing_ok=True)
    listener.planned(plans, pending)
    executor = EXECUTORS[options.executor](out, options)
    try:
        fresh = {receipt.shard: receipt for receipt in executor.run(pending, listener.case_done)}
    finally:
        _remove_temporary(out)
    receipts = tuple(fresh.get(task.shard.stem) or known[task.shard.stem] for task in tasks)
    quarantined = _quarantine(plans, receipts)
    _write_quarantine(out, plans, quarantined)
    return Summary(
        receipts=receipts,
        removed=tuple(removed),
        quarantined=quarantined,
        without_sample=_without_sample(plans, receipts),
        plans=tuple(plans),
        configs=tuple(write_card(out)),
    )


def _is_finished(task: Task, receipt: Receipt | None, tars: Mapping[str, int], indexes: Mapping[str, int]) -> bool:
    """Whether a shard need not be built, by its receipt and by what is listed of the output folder."""
    if receipt is None or receipt.fingerprint != task.fingerprint:
        return False
    stem = task.shard.stem
    return tars.get(f"{stem}.tar") == receipt.bytes and f"{stem}.parquet" in indexes


def _describe(planned: SourcePlan) -> SourceDescription:
    recipe = planned.source.recipe
    return SourceDescription(
        name=recipe.name,
        title=recipe.title,
        homepage=recipe.homepage,
        license=recipe.license,
        license_evidence=recipe.license_evidence,
        access=recipe.access,
        citation=recipe.citation,
        modality=recipe.modality,
        classes=planned.source.classes.classes,
    )


def _clean(out: Path, plans: Iterable[SourcePlan]) -> list[str]:
    """Delete what killed processes left, and shards of these sources that are no longer planned."""
    _remove_temporary(out)
    wanted = {task.shard.stem for planned in plans for task in planned.tasks}
    sources = {planned.source.recipe.name for planned in plans}
    removed = set()
    for folder, suffix in ((RECEIPTS, ".json"), (INDEX, ".parquet"), (DATA, ".tar")):
        for stem, path in stems(out, folder, suffix).items():
            if _source_of(stem) in sources and stem not in wanted:
                path.unlink()
                removed.add(stem)
    return sorted(removed)


def _remove_temporary(out: Path) -> None:
    """Delete what killed processes left."""
    if not is_here(out):
        discard_unfinished(out)
        return
    for folder in (DATA, INDEX, BUILD):
        for path in (out / folder).rglob(f".*{TEMPORARY}"):
            path.unlink()


def _source_of(stem: str) -> str | None:
    try:
        return ShardId.parse(stem).source
    except ValueError:  # not a file of ours; verify names it
        return None


def _quarantine(plans: Iterable[SourcePlan], receipts: Iterable[Receipt]) -> dict[str, tuple[Quarantined, ...]]:
    found = {planned.source.recipe.name: list(planned.discovery.quarantined) for planned in plans}
    for receipt in receipts:
        found[receipt.id.source] += receipt.quarantined
    return {name: tuple(entries) for name, entries in found.items() if entries}


def _without_sample(plans: Iterable[SourcePlan], receipts: Iterable[Receipt]) -> dict[str, tuple[str, ...]]:
    accounted = {
        receipt.shard: {*receipt.cases, *(entry.case for entry in receipt.quarantined)} for receipt in receipts
    }
    return {
        planned.source.recipe.name: tuple(
            case.name for task in planned.tasks for case in task.cases if case.name not in accounted[task.shard.stem]
        )
        for planned in plans
    }


def _write_quarantine(out: Path, plans: Iterable[SourcePlan], quarantined: dict[str, tuple[Quarantined, ...]]) -> None:
    folder = out / BUILD / "quarantine"
    for name in (planned.source.recipe.name for planned in plans):
        entries = quarantined.get(name, ())
        text = json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False)
        write_atomic(folder / f"{name}.json", text.encode("utf-8", "surrogateescape") + b"\n")
