"""A whole build: plan, resume, run, card."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from filelock import FileLock, Timeout

from builder.executors import EXECUTORS
from builder.identifiers import identifier_key, write_table
from builder.options import Options
from builder.plan import SourcePlan, Task, plan_source, source_root, write_plan
from builder.problem import RecipeError
from builder.recipe import Recipe
from builder.task import CaseDone
from shards.atomic import TEMPORARY, write_atomic
from shards.card import Config, write_card
from shards.layout import BUILD, DATA, INDEX, ShardId
from shards.receipt import Quarantined, Receipt, read_receipts
from shards.source import Source, write_source


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


_OWNER: Final = f"{BUILD}/lock.owner"


class OutputError(Exception):
    """The output folder cannot be used."""


def build(recipes: Sequence[Recipe], raw: Path, out: Path, options: Options, listener: Listener) -> Summary:
    """Build sources into an output folder, which may hold others already.

    Shards with a valid receipt are kept, so running it again resumes. Shards of these sources that the plan no
    longer holds are removed.

    Raises:
        RecipeError: A recipe cannot be used; nothing was written.
        OutputError: The folder cannot be written, or another build is writing to it.
        CaseError: In a strict build.
        WorkerLostError: See `builder.executors.Executor`.
    """
    plans = plan(recipes, raw, options, out)
    try:
        (out / BUILD).mkdir(parents=True, exist_ok=True)
        with FileLock(out / BUILD / "lock", timeout=0):
            owner = f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M}"
            write_atomic(out / _OWNER, owner.encode())
            try:
                return _build(plans, out, options, listener)
            finally:
                (out / _OWNER).unlink(missing_ok=True)
    except Timeout:
        raise OutputError(
            f"{out}: another build ({_owner(out)}) is writing to this folder; wait for it or choose another --out"
        ) from None
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise OutputError(f"{error.filename or out}: cannot be written: {error.strerror}") from None


def _owner(out: Path) -> str:
    """Who writes to a folder."""
    try:
        return (out / _OWNER).read_text(encoding="utf-8")
    except OSError:  # it has only just begun
        return "which has just begun"


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
    pending = [task for task in tasks if not _is_finished(out, task, known.get(task.shard.stem))]
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


def _is_finished(out: Path, task: Task, receipt: Receipt | None) -> bool:
    tar, index = out / task.shard.tar, out / task.shard.index
    if receipt is None or receipt.fingerprint != task.fingerprint:
        return False
    return tar.is_file() and index.is_file() and tar.stat().st_size == receipt.bytes


def _describe(planned: SourcePlan) -> Source:
    recipe = planned.source.recipe
    return Source(
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
    for folder, suffix in ((f"{BUILD}/receipts", ".json"), (INDEX, ".parquet"), (DATA, ".tar")):
        root = out / folder
        for path in sorted(root.rglob(f"*{suffix}")):
            stem = path.relative_to(root).with_suffix("").as_posix()
            if _source_of(stem) in sources and stem not in wanted:
                path.unlink()
                removed.add(stem)
    return sorted(removed)


def _remove_temporary(out: Path) -> None:
    """Delete what killed processes left."""
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
