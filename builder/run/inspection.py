"""A source is looked at before it is built: all headers, and some cases converted as a build converts them.

The cases are converted by the very code of a build, into a folder that is deleted. So what is said of them is what a
build says. Of all other cases only headers are read.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from builder.cases.case import MaskFile
from builder.conversion.masks.census import Counts, Found, mask_contents, summed_contents, unseen_labels
from builder.run.batch import Outcome, batches_of
from builder.run.executors.local import LocalExecutor
from builder.run.headers import Headers, read_headers
from builder.run.options import Options
from builder.run.plan import CaseTask, SourcePlan
from builder.run.spread import spread
from shards.receipt import Piece, Quarantined

_MOST_BYTES: Final = 256 << 20
"""Images before compression of the cases that are converted; one case is converted whatever its size."""
_MOST_CASES: Final = 100
_WORTH: Final = 32
"""Cases from which other processes help to count what masks hold."""


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        cases: How many cases the plan holds.
        opened: What those cases became that were converted, in the order of the plan.
        headers: Of all files.
        contents: What the masks of the opened cases hold.
        unseen: Keys of ``[labels]`` that none of these masks holds.
        failing: Cases that cannot be built, with the reason, those held back at matching among them.
        failing_of_plan: How many of the cases of the plan cannot be built.
        bytes: About how large the shards become; None where nothing was made to tell from.
        shards: How many shards the plan cuts.
    """

    cases: int
    opened: tuple[Piece, ...]
    headers: Headers
    contents: tuple[Found, ...]
    unseen: tuple[str, ...]
    failing: tuple[Quarantined, ...]
    failing_of_plan: int
    bytes: int | None
    shards: int

    @property
    def good(self) -> int:
        """How many cases a build would convert, as far as is known; 0 where of those opened none could be."""
        if self.opened and all(piece.quarantined is not None for piece in self.opened):
            return 0
        return self.cases - self.failing_of_plan

    @property
    def samples(self) -> int:
        """How many samples the opened cases gave."""
        return sum(piece.samples for piece in self.opened)


@dataclass
class Step:
    """How far an inspection is, for whoever shows it."""

    what: str = "looking for files"
    done: int = 0
    count: int = 0

    def begin(self, what: str, count: int) -> None:
        """Begin a part."""
        self.what, self.done, self.count = what, 0, count

    def advance(self) -> None:
        """One more is done."""
        self.done += 1

    def reach(self, done: int, count: int) -> None:
        """So many of so many are done."""
        self.done, self.count = done, count

    def __str__(self) -> str:
        return f"checking: {self.what}" + (f": {self.done:,} of {self.count:,}" if self.count else "")


def inspect(plan: SourcePlan, options: Options, step: Step) -> Inspection:
    """Look at a source.

    Args:
        plan: Its plan, with names as they are.
        options: How many processes.
        step: Is told how far it is.
    """
    source, tasks = plan.source, [task for shard in plan.shards for task in shard.cases]
    step.begin("headers", len({path for task in tasks for path in task.case.paths}))
    cases = [task.case for task in tasks]
    headers = read_headers(source, cases, workers=options.workers, on_file=step.advance)
    chosen = choose(tasks, headers)
    step.begin("cases, as a build converts them", len(chosen))
    outcomes = _converted(plan, chosen, options, step.advance)
    alive = [outcome.task.case for outcome in outcomes if outcome.stored.log is not None]
    step.begin("what masks hold", len(alive))
    contents: list[tuple[MaskFile, Counts]] = []
    for entries in spread(partial(mask_contents, source=source), alive, workers=options.workers, worth=_WORTH):
        contents += entries
        step.advance()
    opened = tuple(outcome.stored.piece for outcome in outcomes)
    failing = [*plan.discovery.quarantined, *(piece.quarantined for piece in opened if piece.quarantined is not None)]
    names = {piece.case for piece in opened}
    for case in cases:
        fault = None if case.name in names else headers.fault_of(case, source)
        if fault is not None:
            failing.append(Quarantined(case.name, fault.file, fault.stage, fault.reason))
    return Inspection(
        cases=len(cases),
        opened=opened,
        headers=headers,
        contents=tuple(summed_contents(contents, source.recipe)),
        unseen=tuple(unseen_labels(contents, source.recipe)),
        failing=tuple(failing),
        failing_of_plan=len(failing) - len(plan.discovery.quarantined),
        bytes=_expected_bytes(outcomes, tasks),
        shards=len(plan.shards),
    )


def choose(tasks: Sequence[CaseTask], headers: Headers) -> list[CaseTask]:
    """Choose the cases to open: first one of each kind and size, then others spread over the source, all if they fit.

    The choice hangs on nothing but the cases.
    """
    kinds: dict[tuple[object, ...], int] = {}
    for number, task in enumerate(tasks):
        kinds.setdefault(headers.signature(task.case), number)
    order = dict.fromkeys([*kinds.values(), *_spread(len(tasks))])
    chosen: list[int] = []
    size = 0
    for number in order:
        if chosen and (len(chosen) == _MOST_CASES or size + tasks[number].size > _MOST_BYTES):
            continue
        chosen.append(number)
        size += tasks[number].size
        if len(chosen) == _MOST_CASES:
            break
    return [tasks[number] for number in sorted(chosen)]


def _spread(count: int) -> list[int]:
    """All numbers below a count, so that the first few lie evenly among them."""
    bits = max(count - 1, 0).bit_length()
    reversed_bits = (int(f"{number:0{bits}b}"[::-1], 2) if bits else 0 for number in range(1 << bits))
    return [number for number in reversed_bits if number < count]


def _converted(
    plan: SourcePlan, tasks: Sequence[CaseTask], options: Options, on_case: Callable[[], None]
) -> list[Outcome]:
    """Convert cases as a build does, in the order in which they are given."""
    if not tasks:
        return []
    places = {task.case.name: number for number, task in enumerate(tasks)}
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="sa-med2d-check-") as folder:
        batches = list(batches_of(plan.shards[0].shard, plan.source, tasks))
        for outcome in LocalExecutor(options).run(batches, Path(folder)):
            found.append(outcome)
            on_case()
    return sorted(found, key=lambda outcome: places[outcome.task.case.name])


def _expected_bytes(outcomes: Iterable[Outcome], tasks: Iterable[CaseTask]) -> int | None:
    """About how large all shards become, by what the opened cases became: bytes a byte of their images."""
    sizes = Counter[str]()
    for outcome in outcomes:
        if outcome.stored.piece.quarantined is None:
            sizes["made"] += outcome.stored.piece.bytes
            sizes["of"] += outcome.task.size
    if not sizes["made"] or not sizes["of"]:
        return None
    return round(sum(task.size for task in tasks) * sizes["made"] / sizes["of"])
