"""What a person sees while sources are built, and at the end."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from builder.cases.identifiers import with_own_names
from builder.release.repairs import REPAIRS
from builder.release.source import ReleaseSource
from builder.run.batch import Outcome
from builder.run.build import Summary, unknown_classes
from builder.run.copies import Decisions
from builder.run.overlap import overlap_sentence
from builder.run.plan import SourcePlan
from builder.run.result import source_result
from builder.run.resume import Resumption
from sa_med2d_20m import LOCAL, config_name
from shards.console import complain, plural, print_table, printable, working
from shards.license import refusal
from shards.receipt import Quarantined, Receipt, lost_shares

_SHOWN = 10
_MUCH: Final = 0.2
"""A part of the mask pixels of a source beyond which their loss is said."""
_REMEDIES: Final = {
    "edge": "the edge rule (the slices of every axis are too narrow)",
    "small_mask": "the area rule (masks.min_area)",
    "copy": "--dedup, as copies of other cases",
}
_MEANING: Final = {
    "beyond_tissue": ": CT images with values that no tissue has (padding, metal); in HU they count as -1024 or 3071, "
    "and intensity.clipped of the metadata counts them",
}
"""Gate -> what its flag means for whoever trains, where its name does not say it."""
_LONGEST_REASON = 500
"""Characters of a reason that are shown; the file has all."""


class BuildProgress:
    """A progress bar over the cases of a build, or a line now and then; a listener of `builder.run.build.build`.

    What is narrow loses the bar, then the counts at its end, but never how many of how many and the time left.

    Args:
        console: Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._counts: Counter[str] = Counter()
        self._start = time.monotonic()
        self._planned = False
        self._bar = Progress(
            TextColumn("building", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[noun]}s", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[counts]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=console,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("cases", counts="", noun="case", total=None)
        self._open = ExitStack()

    def __enter__(self) -> BuildProgress:
        terminal = self._console.is_terminal
        self._open.enter_context(self._bar if terminal else working(self._console, self._line))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _line(self) -> str:
        task = self._bar.tasks[0]
        left = "" if task.time_remaining is None else f", {plural(math.ceil(task.time_remaining / 60), 'minute')} left"
        counts = task.fields["counts"]
        done = (
            "planning"
            if task.total is None
            else f"{task.completed:,.0f} of {plural(int(task.total), task.fields['noun'])}"
        )
        return f"building: {done}{left}{', ' if counts else ''}{counts}"

    def listed(self, done: int, count: int) -> None:
        """So many files of a release, of how many (0: not known), have been listed."""
        self._bar.update(self._task, completed=done, total=count or None, noun="file", counts="listed")

    def indexed(self, done: int, count: int) -> None:
        """See `builder.run.build.Listener`."""
        self._bar.update(self._task, completed=done, total=count, noun="DICOM file", counts="looked into")

    def compared(self, done: int, count: int) -> None:
        """See `builder.run.build.Listener`."""
        self._bar.update(
            self._task, completed=done, total=count, noun="case", counts="compared with what is built already"
        )

    def comparing(self, what: str, done: int, count: int) -> None:
        """See `builder.run.build.Listener`."""
        self._bar.update(self._task, completed=done, total=count or None, noun="step", counts=what)

    def planned(self, plans: Sequence[SourcePlan], resumption: Resumption) -> None:
        """See `builder.run.build.Listener`."""
        shards = [shard for plan in plans for shard in plan.shards]
        pending = [shard for shard in shards if shard.shard.stem not in resumption.finished]
        found = sum(len(cases) for cases in resumption.found.values())
        self._bar.update(self._task, completed=0, total=sum(len(shard.cases) for shard in pending) - found)
        self._bar.update(self._task, noun="case", counts="")
        self._start = time.monotonic()
        if self._planned:  # of what is kept the rest was made by this build, which compared it
            return
        self._planned = True
        if resumption.finished:
            kept = f"{len(resumption.finished)} of {plural(len(shards), 'shard')}"
            self._console.print(
                f"{kept} {'is' if len(shards) == 1 else 'are'} finished already and kept", highlight=False
            )
        if found:
            kept = f"{plural(found, 'case')} of other shards"
            self._console.print(f"{kept} {'is' if found == 1 else 'are'} converted already and kept", highlight=False)

    def case_done(self, outcome: Outcome) -> None:
        """See `builder.run.build.Listener`."""
        piece = outcome.stored.piece
        self._counts.update(
            samples=piece.samples,
            masks=piece.masks,
            raw=outcome.task.raw_bytes,
            quarantined=piece.quarantined is not None,
        )
        counts = self._counts
        rate = counts["raw"] / 1e6 / max(time.monotonic() - self._start, 1e-9)
        text = (
            f"{counts['quarantined']:,} quarantined, {plural(counts['samples'], 'sample')}, "
            f"{plural(counts['masks'], 'mask')}, {rate:.1f} MB/s in"
        )
        self._bar.update(self._task, advance=1, counts=text)


def print_summary(results: Console, console: Console, summary: Summary) -> None:
    """Print what was not built and why, what was built, and what can be streamed.

    On a terminal cases have the names of the source's own folder; what goes to a file has the hashes of the build.

    Args:
        results: Where the table and the configs go.
        console: Where all else goes.
        summary: How the build ended.
    """
    own = {plan.source.recipe.name: plan.pseudonyms for plan in summary.plans} if console.is_terminal else {}
    for source, entries in summary.quarantined.items():
        kept = f"all in build/quarantine/{source}.json" if len(entries) > _SHOWN else f"build/quarantine/{source}.json"
        console.print(f"[yellow]{source}: {plural(len(entries), 'case')} in quarantine[/], {kept}", highlight=False)
        _print_reasons(console, entries, f"build/quarantine/{source}.json", own.get(source, {}))
    for plan in summary.plans:
        name = plan.source.recipe.name
        _print_bad_masks(console, plan, summary, own.get(name, {}))
        _print_notes(console, plan, summary.without_sample[name], own.get(name, {}))
        _print_decisions(console, name, summary, own.get(name, {}))
        _print_losses(console, plan, summary)
        _print_flags(console, plan, summary)
    for overlap in summary.overlaps:
        console.print(f"[yellow]{' and '.join(overlap.sources)} overlap:[/] ", end="")
        console.print(overlap_sentence(overlap), markup=False, highlight=False)
    for stem in summary.removed:
        console.print(f"removed data/{stem}.tar: the plan no longer holds it")
    print_table(results, _table(summary))
    names = ", ".join(config.name for config in summary.configs)
    results.print(f"configs: {names or f'none: {_no_config(summary)}'}", highlight=False, soft_wrap=True)
    if is_empty(summary):
        complain(console, "no sample was made: every slice was dropped by a rule; the notes above say by which")


def _print_reasons(console: Console, entries: Sequence[Quarantined], kept: str, own: Mapping[str, str]) -> None:
    """Print the first of some reasons.

    Args:
        console: Where.
        entries: The reasons.
        kept: The file that holds them whole.
        own: Hash -> name that it stands for, where names are shown as they are.
    """
    for entry in entries[:_SHOWN]:
        case, file, reason = (with_own_names(text, own) for text in (entry.case, entry.file, entry.reason))
        if len(reason) > _LONGEST_REASON:
            reason = f"{reason[:_LONGEST_REASON]}... (whole in {kept})"
        console.print(printable(f"  {case}: {file}: {entry.stage}: {reason}"), markup=False, highlight=False)


def _print_bad_masks(console: Console, plan: SourcePlan, summary: Summary, own: Mapping[str, str]) -> None:
    """Name mask files that their cases were built without."""
    made = source_result(plan, summary)
    if made.bad_masks:
        imported = isinstance(plan.source, ReleaseSource)
        count = plural(len(made.bad_masks), "file" if imported else "mask file")
        by = ", which cannot be used" if imported else " by the gate bad_mask"
        console.print(
            f"[yellow]{made.name}: {count} left out{by}[/], the receipts name each; "
            "not_annotated of the images says which classes that may be",
            highlight=False,
        )
        _print_reasons(console, made.bad_masks, f"build/receipts/**/{made.name}", own)


def built_cases(summary: Summary) -> int:
    """How many cases were converted, also those that the rules left no sample of."""
    return sum(len(receipt.cases) for receipt in summary.receipts) + sum(map(len, summary.without_sample.values()))


def is_empty(summary: Summary) -> bool:
    """Whether cases were converted and rules left no sample of any; copies are left out by choice."""
    chosen = any(one.left_out for one in summary.decisions.values())
    return not chosen and built_cases(summary) > 0 and not any(receipt.samples for receipt in summary.receipts)


def _no_config(summary: Summary) -> str:
    if summary.quarantined and not built_cases(summary):
        return "every case is in quarantine"
    return "there is no sample"


def _print_decisions(console: Console, name: str, summary: Summary, own: Mapping[str, str]) -> None:
    """Say what was done about copies."""
    decisions = summary.decisions.get(name, Decisions())
    if decisions.left_out:
        first, of = next((case, one.of) for case, one in decisions.left_out.items())
        images = plural(sum(one.images for one in decisions.left_out.values()), "image")
        text = f"{plural(len(decisions.left_out), 'case')} with {images} left out as copies (--dedup keep-first): "
        shown = with_own_names(f"{first} of {', '.join(of[:3])}", own) + (
            ", ..." if len(decisions.left_out) > 1 else ""
        )
        console.print(f"[yellow]{name}:[/] ", end="")
        console.print(printable(f"{text}{shown}"), markup=False, highlight=False)
    if decisions.splits:
        moved = plural(len(decisions.splits), "patient")
        text = f"{moved} put into the split of others who share their images (--dedup group)"
        console.print(f"[yellow]{name}:[/] {text}", highlight=False)


def _print_losses(console: Console, plan: SourcePlan, summary: Summary) -> None:
    """Name a source that loses much of what it annotates, and what to do where that was not meant."""
    name = plan.source.recipe.name
    shares = lost_shares(_receipts_of(plan, summary))
    if sum(shares.values()) > _MUCH:
        reasons = [f"{_percent(share)} by {_REMEDIES.get(rule, f'the gate {rule}')}" for rule, share in shares.items()]
        lost = f"{_percent(sum(shares.values()))} of its mask pixels are left out: {', '.join(reasons)}"
        console.print(f"[yellow]{name}:[/] {lost}", highlight=False)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _print_flags(console: Console, plan: SourcePlan, summary: Summary) -> None:
    made = source_result(plan, summary)
    for gate, count in made.flagged.items():
        if gate in REPAIRS:
            console.print(f"{made.name}: repaired {count:,}: {REPAIRS[gate].what}", markup=False, highlight=False)
            continue
        why = _MEANING.get(gate, "")
        console.print(f"[yellow]{made.name}:[/] the gate {gate} found {count:,} and kept them{why}", highlight=False)


def _receipts_of(plan: SourcePlan, summary: Summary) -> list[Receipt]:
    return [receipt for receipt in summary.receipts if receipt.id.source == plan.source.recipe.name]


def _table(summary: Summary) -> Table:
    counted = ("shards", "cases", "images", "masks", "MB", "quarantined", "dropped", "small masks", "flagged")
    table = Table("source", "licence", *counted)
    for plan in summary.plans:
        made = source_result(plan, summary)
        table.add_row(
            made.name,
            made.license,
            str(made.shards),
            f"{made.cases:,}",
            f"{made.samples:,}",
            f"{made.masks:,}",
            f"{made.bytes / 1e6:,.1f}",
            f"{len(made.quarantined):,}",
            ", ".join(f"{rule} {count:,}" for rule, count in made.dropped.items() if rule != "small_mask"),
            _small_masks(made.dropped.get("small_mask", 0), _receipts_of(plan, summary)),
            ", ".join(f"{gate} {count:,}" for gate, count in made.flagged.items()),
        )
    return table


def _small_masks(count: int, receipts: Sequence[Receipt]) -> str:
    """What the area rule left out: masks, and their part of the mask pixels."""
    return f"{count:,} ({_percent(lost_shares(receipts)['small_mask'])})" if count else "0"


def _print_notes(console: Console, plan: SourcePlan, without_sample: Sequence[str], own: Mapping[str, str]) -> None:
    recipe, discovery = plan.source.recipe, plan.discovery
    notes = [*unknown_classes(plan), *(f"{entry} fits no case" for entry in discovery.idle_entries)]
    for noun, what, names in (
        ("case", " gave no sample, every slice was dropped by a rule", without_sample),
        ("image", " without a mask, left out", discovery.images_without_mask),
        ("mask", " without an image, left out", discovery.masks_without_image),
        ("case", " left out, as [cases] of the recipe says", discovery.left_out),
        ("case", " left out, as an earlier source holds the patient (overlap = keep-first)", discovery.copies),
    ):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            notes.append(f"{plural(len(names), noun)}{what}: {with_own_names(shown, own)}")
    refused = refusal(recipe.license, recipe.license_evidence, recipe.access)
    if refused:
        config = config_name(recipe.modality, LOCAL)
        notes.append(f"will not be published: {refused}; the config {config} of the folder holds it, for your own use")
    if own:
        notes.append(
            "names here are those of your own folder and may name patients; what is written has hashes in their "
            f"place, and build/identifiers/{recipe.name}.json, which is never published, says which is which"
        )
    for note in notes:
        console.print(f"[yellow]{recipe.name}:[/] ", end="")
        console.print(printable(note), markup=False, highlight=False)
