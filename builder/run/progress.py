"""What a person sees while sources are built, and at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from builder.run.batch import Outcome
from builder.run.build import Summary, unknown_classes
from builder.run.plan import SourcePlan
from builder.run.resume import Resumption
from shards.license import refusal, tiers

_SHOWN = 10


class BuildProgress:
    """A progress bar over the cases of a build; a listener of `builder.run.build.build`.

    Args:
        console: Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._counts: Counter[str] = Counter()
        self._start = time.monotonic()
        self._bar = Progress(
            TextColumn("building"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("cases, {task.fields[counts]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("cases", counts="", total=None)

    def __enter__(self) -> BuildProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def compared(self, done: int, count: int) -> None:
        """See `builder.run.build.Listener`."""
        self._bar.update(self._task, completed=done, total=count, counts="compared with what is built already")

    def planned(self, plans: Sequence[SourcePlan], resumption: Resumption) -> None:
        """See `builder.run.build.Listener`."""
        shards = [shard for plan in plans for shard in plan.shards]
        pending = [shard for shard in shards if shard.shard.stem not in resumption.finished]
        if resumption.finished:
            kept = f"{len(resumption.finished)} of {len(shards)} shards"
            self._console.print(f"{kept} are finished already and kept", highlight=False)
        found = sum(len(cases) for cases in resumption.found.values())
        if found:
            self._console.print(f"{found} cases of other shards are converted already and kept", highlight=False)
        total = sum(len(shard.cases) for shard in pending) - found
        self._bar.update(self._task, completed=0, total=total, counts="")
        self._start = time.monotonic()

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
            f"{counts['samples']:,} samples, {counts['masks']:,} masks, {rate:.1f} MB/s in, "
            f"{counts['quarantined']:,} quarantined"
        )
        self._bar.update(self._task, advance=1, counts=text)


def print_summary(console: Console, summary: Summary) -> None:
    """Print what was built, what was not and why, and what can be streamed."""
    console.print(_table(summary))
    for plan in summary.plans:
        _print_notes(console, plan, summary.without_sample[plan.source.recipe.name])
        _print_flags(console, plan, summary)
    for stem in summary.removed:
        console.print(f"removed data/{stem}.tar: the plan no longer holds it")
    for source, entries in summary.quarantined.items():
        console.print(f"[yellow]{source}: {len(entries)} cases in quarantine[/], all in build/quarantine/{source}.json")
        for entry in entries[:_SHOWN]:
            console.print(f"  {entry.case}: {entry.file}: {entry.stage}: {entry.reason}", markup=False, highlight=False)
    names = ", ".join(config.name for config in summary.configs)
    console.print(f"configs: {names or 'none: there is no sample under a licence that may be redistributed'}")


def _print_flags(console: Console, plan: SourcePlan, summary: Summary) -> None:
    name = plan.source.recipe.name
    flagged = (Counter(receipt.flagged) for receipt in summary.receipts if receipt.id.source == name)
    for gate, count in sorted(sum(flagged, Counter[str]()).items()):
        console.print(f"[yellow]{name}:[/] the gate {gate} found {count:,} and kept them", highlight=False)


def _table(summary: Summary) -> Table:
    table = Table("source", "licence", "shards", "cases", "images", "masks", "MB", "quarantined", "dropped slices")
    for plan in summary.plans:
        name = plan.source.recipe.name
        own = [receipt for receipt in summary.receipts if receipt.id.source == name]
        dropped = sum((Counter(receipt.dropped) for receipt in own), Counter[str]())
        table.add_row(
            name,
            plan.source.recipe.license,
            str(len(own)),
            f"{sum(len(receipt.cases) for receipt in own):,}",
            f"{sum(receipt.samples for receipt in own):,}",
            f"{sum(receipt.masks for receipt in own):,}",
            f"{sum(receipt.bytes for receipt in own) / 1e6:,.1f}",
            f"{len(summary.quarantined.get(name, ())):,}",
            ", ".join(f"{rule} {count:,}" for rule, count in sorted(dropped.items()) if rule != "small_mask"),
        )
    return table


def _print_notes(console: Console, plan: SourcePlan, without_sample: Sequence[str]) -> None:
    recipe, discovery = plan.source.recipe, plan.discovery
    notes = unknown_classes(plan)
    for what, names in (
        ("cases gave no sample, every slice was dropped by a rule", without_sample),
        ("images without a mask were left out", discovery.images_without_mask),
        ("masks without an image were left out", discovery.masks_without_image),
    ):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            notes.append(f"{len(names)} {what}: {shown}")
    refused = refusal(recipe.license, recipe.license_evidence, recipe.access)
    if refused:
        listed = "it is listed in the card for your own use" if tiers(recipe.license) else "no config lists it"
        notes.append(f"will not be published: {refused}; {listed}")
    for note in notes:
        console.print(f"[yellow]{recipe.name}:[/] ", end="")
        console.print(note, markup=False, highlight=False)
