"""A whole build: plan, resume, convert, write shards, card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Protocol

from builder.cases.discovery import Discovery
from builder.cases.identifiers import identifier_key, write_table
from builder.errors import CaseError, RecipeError
from builder.run.batch import Batch, Outcome, batches_of
from builder.run.converted_images import CaseImages
from builder.run.copies import (
    COPY,
    Decisions,
    decide,
    identity,
    missing_batches,
    planned_with,
    remember,
    remembered,
    with_left_out,
)
from builder.run.earlier_shards import FoundCase
from builder.run.executors import Executor
from builder.run.options import Options
from builder.run.origin import Contents, known_contents, repacked_of
from builder.run.overlap import (
    OverlapHere,
    contradiction,
    overlaps_here,
    people_of,
    people_there,
    without_copies,
)
from builder.run.plan import SourcePlan, finder, plan_source, source_root, write_plan
from builder.run.resume import Resumption, discard_shards, forget, resume
from builder.run.shard import UnfinishedShards
from builder.sources.overlaps import MEANINGS, overlaps_of
from builder.sources.recipe import Recipe
from builder.sources.vocabulary import unknown_class
from sa_med2d_20m import SPLITS
from shards.atomic import TEMPORARY, write_atomic
from shards.card import Config, write_card
from shards.description import KnownOverlap, SourceDescription, write_source
from shards.lock import OutputError, locked
from shards.paths import BUILD, DATA, INDEX
from shards.receipt import Quarantined, Receipt, read_receipts
from shards.store import discard_unfinished, is_here
from shards.tables import refresh_tables


class Listener(Protocol):
    """Who is told how a build goes on."""

    def indexed(self, done: int, count: int) -> None:
        """So many of the DICOM files that are new have been looked into."""

    def compared(self, done: int, count: int) -> None:
        """So many of the cases that are there already have been compared with their files."""

    def planned(self, plans: Sequence[SourcePlan], resumption: Resumption) -> None:
        """The plan is made, and what of it is there already is known."""

    def case_done(self, outcome: Outcome) -> None:
        """A case was converted or quarantined."""

    def comparing(self, what: str, done: int, count: int) -> None:
        """Copies are looked for: what is done, and how many of how many."""


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
        overlaps: Sources of the output folder that hold the same people as one that was built.
        decisions: Source -> what ``--dedup`` left out of it, or put into other splits.
    """

    receipts: tuple[Receipt, ...]
    removed: tuple[str, ...]
    quarantined: dict[str, tuple[Quarantined, ...]]
    without_sample: dict[str, tuple[str, ...]]
    plans: tuple[SourcePlan, ...]
    configs: tuple[Config, ...]
    overlaps: tuple[OverlapHere, ...]
    decisions: Mapping[str, Decisions] = field(default_factory=dict)


def build(
    recipes: Sequence[Recipe], raw: Path, out: Path, options: Options, *, executor: Executor, listener: Listener
) -> Summary:
    """Build sources into an output folder, which may hold others already.

    What is finished is kept, so running it again resumes: whole shards, and cases of shards that must be written anew.
    Shards of these sources that the plan no longer holds are removed.

    Raises:
        RecipeError: A recipe cannot be used; nothing was written but the key of identifiers and indexes of DICOM files.
        OutputError: The folder cannot be written, or another command is writing to it.
        CaseError: In a strict build, at the first case that cannot be built.
        WorkerLostError: See `builder.run.executors.Executor`.
    """
    plans = plan(recipes, raw, options, out, on_file=listener.indexed)
    return build_planned(plans, out, options, executor=executor, listener=listener)


def build_planned(
    plans: Sequence[SourcePlan], out: Path, options: Options, *, executor: Executor, listener: Listener
) -> Summary:
    """Build sources that are planned; see `build`."""
    try:
        with locked(out, "build"):
            return _Build(plans, out, options, executor, listener).run()
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise OutputError(
            f"{error.filename or out}: cannot be written: {error.strerror or error}; choose another folder"
        ) from None


def plan(
    recipes: Sequence[Recipe],
    raw: Path,
    options: Options,
    out: Path | None = None,
    *,
    on_file: Callable[[int, int], None] = lambda *_: None,
) -> list[SourcePlan]:
    """Plan sources.

    Hashed identifiers are those of the output folder, and an index of DICOM files is kept there. Without one nothing
    leaves the machine: names stay as they are.

    Args:
        recipes: What to build.
        raw: Folder with a folder for each source.
        options: What the user chose.
        out: Output folder, or None.
        on_file: Told how many of the DICOM files that are new have been looked into.

    Raises:
        RecipeError: With the problems of all sources.
    """
    names = Counter(recipe.name for recipe in recipes)
    problems = [f"{name}: named by {count} recipes" for name, count in names.items() if count > 1]
    plans = []
    key = None if out is None else cache(partial(identifier_key, out))
    roots = {recipe.name: source_root(recipe, raw, alone=len(recipes) == 1) for recipe in recipes}
    find, people = finder(out, options.workers, on_file), {}
    found: dict[str, Discovery] = {}
    for recipe in recipes if not problems else ():
        try:
            found[recipe.name] = find(recipe, roots[recipe.name])
            people[recipe.name] = people_of(recipe, roots[recipe.name], found[recipe.name])
        except RecipeError as error:
            problems += error.problems
    there = people_there(out, names) if found else {}
    for recipe in recipes:
        if recipe.name not in found:
            continue
        root, others = roots[recipe.name], {name: one for name, one in (there | people).items() if name != recipe.name}
        try:
            cases = without_copies(recipe, root, found[recipe.name], others)
            planned = plan_source(
                recipe,
                root,
                key,
                shard_size=options.shard_size,
                limit_cases=options.limit_cases,
                find=lambda *_, cases=cases: cases,
            )
        except RecipeError as error:
            problems += error.problems
            continue
        plans.append(planned)
        if options.strict:
            problems += [f"{recipe.name}: {sentence}" for sentence in unknown_classes(planned)]
    if options.strict:
        overlaps = overlaps_here({planned.source.recipe.name: planned.people for planned in plans}, there)
        problems += [sentence for overlap in overlaps if (sentence := contradiction(overlap)) is not None]
    if problems:
        raise RecipeError(problems)
    return plans


def unknown_classes(planned: SourcePlan) -> list[str]:
    """A sentence for each class name that the vocabulary does not know."""
    return [unknown_class(name, near) for name, near in planned.source.classes.unknown.items()]


@dataclass(frozen=True)
class _Build:
    """A build whose sources are planned, in a folder that is locked.

    Attributes:
        plans: The sources.
        out: Output folder.
        options: What the user chose.
        executor: Converts cases.
        listener: Is told how it goes on.
    """

    plans: Sequence[SourcePlan]
    out: Path
    options: Options
    executor: Executor
    listener: Listener

    def run(self) -> Summary:
        """Resume, convert what is missing, and write what the folder says of it."""
        _remove_temporary(self.out)
        contents: dict[str, Contents] = {}
        for planned in self.plans:
            name = planned.source.recipe.name
            contents[name] = known_contents(self.out, planned.source)
            if planned.pseudonyms:
                write_table(self.out, name, planned.pseudonyms)
        decisions = self._decisions(contents) if self.options.dedup else {}
        size = self.options.shard_size
        plans = [
            planned_with(plan, decisions[plan.source.recipe.name], size) if decisions else plan for plan in self.plans
        ]
        return replace(self, plans=plans)._write(contents, decisions)

    def _decisions(self, contents: Mapping[str, Contents]) -> dict[str, Decisions]:
        """Convert what is missing, and compare all images; or what an earlier build decided from the same."""
        mode = self.options.dedup or ""

        def known_by() -> str:
            return identity(self.out, self.plans, contents, mode)

        kept = remembered(self.out, self.plans, known_by)
        if kept is not None:
            return kept
        for planned in self.plans:  # what a build that dies here leaves can be verified, and removed
            write_source(self.out, _describe(planned, Decisions()))
        resumption = self._resume(contents)
        self.listener.planned(self.plans, resumption)
        found: list[FoundCase] = [case for cases in resumption.found.values() for case in cases.values()]
        try:
            with closing(self.executor.run(missing_batches(self.plans, resumption), self.out)) as outcomes:
                for outcome in outcomes:
                    self._take(outcome, contents)
                    found.append(outcome.stored)
        finally:
            for source, known in contents.items():
                known.write(self.out, source)
        images = CaseImages(self.out, self.options.workers, self.listener.comparing)
        own = contents.keys()
        others = [receipt.id for receipt in read_receipts(self.out).values() if receipt.id.source not in own]
        images.add_shards([*(receipt.id for receipt in resumption.finished.values()), *others])
        images.add_cases(found)
        made = decide(images, self.plans, mode, workers=self.options.workers, on_step=self.listener.comparing)
        remember(self.out, made, known_by())
        return made

    def _resume(self, contents: Mapping[str, Contents]) -> Resumption:
        return resume(self.out, self.plans, contents, threads=self.options.workers, on_case=self.listener.compared)

    def _take(self, outcome: Outcome, contents: Mapping[str, Contents]) -> None:
        """Note what became of a case; in a strict build the first that cannot be built ends it."""
        contents[outcome.shard.source].add(outcome.files)
        self.listener.case_done(outcome)
        reason = outcome.stored.piece.quarantined
        if self.options.strict and reason is not None:
            raise CaseError(reason.stage, reason.file, reason.reason)

    def _write(self, contents: Mapping[str, Contents], decisions: Mapping[str, Decisions]) -> Summary:
        for planned in self.plans:
            write_source(self.out, _describe(planned, decisions.get(planned.source.recipe.name, Decisions())))
            write_plan(self.out, planned)
        resumption = self._resume(contents)
        if decisions:
            resumption = with_left_out(resumption, self.plans, decisions, contents)
        self.listener.planned(self.plans, resumption)
        try:
            written = self._convert(resumption, contents)
        finally:
            _remove_temporary(self.out)
            for source, known in contents.items():
                known.write(self.out, source)
        forget(self.out, contents.keys())
        stems = [shard.shard.stem for planned in self.plans for shard in planned.shards]
        receipts = tuple(written.get(stem) or resumption.finished[stem] for stem in stems)
        for planned in self.plans:
            name = planned.source.recipe.name
            about = _describe(planned, decisions.get(name, Decisions()))
            write_source(self.out, replace(about, patients=_patients(planned, receipts)))
        bare = {planned.source.recipe.name for planned in self.plans}
        bare -= {receipt.id.source for receipt in receipts if receipt.samples}
        discard_shards(self.out, (receipt.id for receipt in receipts if receipt.id.source in bare))
        quarantined = _quarantine(self.plans, receipts)
        _write_quarantine(self.out, self.plans, quarantined)
        refresh_tables(self.out)
        return Summary(
            receipts=receipts,
            removed=resumption.removed,
            quarantined=quarantined,
            without_sample=_without_sample(self.plans, receipts),
            plans=tuple(self.plans),
            configs=tuple(write_card(self.out, draw=True)),
            overlaps=overlaps_here(
                {planned.source.recipe.name: planned.people for planned in self.plans},
                people_there(self.out, contents),
            ),
            decisions=decisions,
        )

    def _convert(self, resumption: Resumption, contents: Mapping[str, Contents]) -> dict[str, Receipt]:
        """Convert what is missing, and write each shard when its cases are there; the receipts by stem."""
        batches: list[Batch] = []
        with UnfinishedShards(self.out) as shards:
            for plan in self.plans:
                for shard in plan.shards:
                    if shard.shard.stem not in resumption.finished:
                        found = resumption.found[shard.shard.stem]
                        shards.open(shard, plan.source.recipe.license, found)
                        missing = (task for number, task in enumerate(shard.cases) if number not in found)
                        batches += batches_of(shard.shard, plan.source, missing)
            with closing(self.executor.run(batches, self.out)) as outcomes:
                for outcome in outcomes:
                    self._take(outcome, contents)
                    shards.add(outcome)
            return shards.receipts()


def _describe(planned: SourcePlan, decisions: Decisions) -> SourceDescription:
    recipe = planned.source.recipe
    train, validation, test = recipe.splits.ratios
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
        split_ratios=(train, validation, test),
        split_seed=recipe.splits.seed,
        repacked=repacked_of(planned.source),
        regrouped=len(decisions.splits),
        overlaps=tuple(
            KnownOverlap(
                tuple(overlap.others(recipe.name)), MEANINGS[overlap.kind], overlap.what, tuple(overlap.evidence)
            )
            for overlap in overlaps_of(recipe.name)
        ),
    )


def _patients(planned: SourcePlan, receipts: Iterable[Receipt]) -> dict[str, int]:
    """How many patients have images in each split."""
    shown = {
        (receipt.shard, piece.case)
        for receipt in receipts
        if receipt.id.source == planned.source.recipe.name
        for piece in receipt.pieces
        if piece.samples
    }
    patients: dict[str, set[str]] = {}
    for plan in planned.shards:
        own = (task.case.patient for task in plan.cases if (plan.shard.stem, task.case.name) in shown)
        patients.setdefault(plan.shard.split, set()).update(own)
    return {split: len(patients[split]) for split in SPLITS if patients.get(split)}


def _remove_temporary(out: Path) -> None:
    """Delete what killed processes left."""
    if not is_here(out):
        discard_unfinished(out)
        return
    for folder in (DATA, INDEX, BUILD):
        for path in (out / folder).rglob(f".*{TEMPORARY}"):
            path.unlink()


def _quarantine(plans: Iterable[SourcePlan], receipts: Iterable[Receipt]) -> dict[str, tuple[Quarantined, ...]]:
    found = {planned.source.recipe.name: list(planned.discovery.quarantined) for planned in plans}
    for receipt in receipts:
        found[receipt.id.source] += receipt.quarantined
    return {name: tuple(entries) for name, entries in found.items() if entries}


def _without_sample(plans: Iterable[SourcePlan], receipts: Iterable[Receipt]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {planned.source.recipe.name: [] for planned in plans}
    for receipt in receipts:
        bare = (
            piece
            for piece in receipt.pieces
            if not piece.samples and piece.quarantined is None and COPY not in piece.dropped
        )
        found[receipt.id.source] += [piece.case for piece in bare]
    return {name: tuple(cases) for name, cases in found.items()}


def _write_quarantine(out: Path, plans: Iterable[SourcePlan], quarantined: dict[str, tuple[Quarantined, ...]]) -> None:
    folder = out / BUILD / "quarantine"
    for name in (planned.source.recipe.name for planned in plans):
        entries = quarantined.get(name, ())
        text = json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False)
        write_atomic(folder / f"{name}.json", text.encode("utf-8", "surrogateescape") + b"\n")
