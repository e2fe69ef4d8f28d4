"""Copies among the cases of a build: what is left out of later sources, or put into one split.

This stands between the conversion of cases and the writing of shards. All cases are converted as ever, each from its
own files alone; their images are compared; and what follows changes the plan: a case that is left out keeps its place
there with no sample, a patient who goes into another split is planned there. So shards are written, and a build is
resumed, as if the plan had said so from the start.

What was decided is kept with a hash of all that it follows from. While that is the same, nothing is compared again.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from builder.run.batch import Batch, batches_of
from builder.run.converted_images import CaseImages
from builder.run.origin import Contents
from builder.run.pieces import LoggedCase
from builder.run.plan import CaseTask, ShardPlan, SourcePlan, regrouped
from builder.run.resume import Resumption
from shards.atomic import write_atomic
from shards.duplicates.fingerprint import VERSION
from shards.duplicates.pairs import LIMIT, Pair, find_pairs
from shards.paths import DEDUP
from shards.receipt import Piece, read_receipts

COPY: Final = "copy"
"""What receipts call slices that were left out because they are copies."""
_NEARLY_ALL: Final = 0.9
"""Part of the images of a case that must have a copy in earlier ones before it is left out: of copies that were
windowed or cropped not every single image is found, and what a case shows beyond that is worth keeping."""
_HELD_BACK: Final = {split: rank for rank, split in enumerate(("test", "validation", "train"))}
"""Which of two splits a patient goes into: what is held back for testing stays so."""


@dataclass(frozen=True)
class LeftOut:
    """A case that is left out.

    Attributes:
        images: How many images it would have.
        mask_pixels: And pixels of masks.
        of: The cases that hold the copies, as ``source/case``.
    """

    images: int
    mask_pixels: int
    of: tuple[str, ...]


@dataclass(frozen=True)
class Decisions:
    """What follows for one source.

    Attributes:
        left_out: Case -> what is left out.
        splits: Patient -> split that the patient goes into instead of the planned one.
    """

    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)


def identity(out: Path, plans: Sequence[SourcePlan], contents: Mapping[str, Contents], mode: str) -> str:
    """A hash of all that decisions follow from: the cases, the content of their files, other sources of the folder."""
    digest = hashlib.sha256(repr((mode, VERSION, LIMIT, _NEARLY_ALL)).encode())
    for plan in sorted(plans, key=_name):
        for shard in plan.shards:
            for task in shard.cases:
                parts = (_name(plan), task.settings, contents[_name(plan)].of(task.case))
                digest.update(repr(parts).encode("utf-8", "surrogateescape"))
    own = set(map(_name, plans))
    for stem, receipt in read_receipts(out).items():
        if receipt.id.source not in own:
            digest.update(f"{stem} {receipt.sha256}".encode())
    return digest.hexdigest()


def remembered(out: Path, plans: Sequence[SourcePlan], same: Callable[[], str]) -> dict[str, Decisions] | None:
    """What an earlier build decided, if it follows from the same.

    Args:
        out: Output folder.
        plans: The sources that are built.
        same: Gives the identity; asked only where every source has decisions.

    Returns:
        Source -> decisions; None where they must be made anew.
    """
    found: dict[str, Decisions] = {}
    said: set[str] = set()
    for plan in plans:
        try:
            record = json.loads((out / DEDUP / f"{_name(plan)}.json").read_bytes())
            left_out = {case: LeftOut(**{**one, "of": tuple(one["of"])}) for case, one in record["left_out"].items()}
            found[_name(plan)] = Decisions(left_out, record["splits"])
            said.add(record["identity"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
    return found if said and said == {same()} else None


def remember(out: Path, decisions: Mapping[str, Decisions], known_by: str) -> None:
    """Keep decisions: ``build/dedup/NAME.json``."""
    for source, one in decisions.items():
        record = {"identity": known_by, **asdict(one)}
        text = json.dumps(record, indent=1, ensure_ascii=False)
        write_atomic(out / DEDUP / f"{source}.json", text.encode("utf-8", "surrogateescape") + b"\n")


def missing_batches(plans: Iterable[SourcePlan], resumption: Resumption) -> list[Batch]:
    """The cases that must be converted before they can be compared."""
    batches: list[Batch] = []
    for plan in plans:
        for shard in plan.shards:
            if shard.shard.stem not in resumption.finished:
                found = resumption.found[shard.shard.stem]
                tasks = (task for number, task in enumerate(shard.cases) if number not in found)
                batches += batches_of(shard.shard, plan.source, tasks)
    return batches


def decide(
    images: CaseImages,
    plans: Sequence[SourcePlan],
    mode: str,
    *,
    workers: int,
    on_step: Callable[[str, int, int], None],
) -> dict[str, Decisions]:
    """Compare the images of cases, and say what follows.

    Args:
        images: Of all cases, and of the other sources of the folder.
        plans: The sources that are built.
        mode: One of `builder.run.options.MODES`.
        workers: Threads that compare pixels.
        on_step: Told how far it is.
    """
    gathered = images.gathered()
    names = set(map(_name, plans))
    if gathered is None:
        return {name: Decisions() for name in names}
    pairs = find_pairs(gathered, workers=workers, on_step=on_step).pairs
    about = gathered.about.select(["source", "case", "patient", "split"]).to_pylist()
    if mode == "keep-first":
        return _left_out(about, pairs, names, images.mask_pixels)
    return _moved(about, pairs, names, _official(plans))


def _left_out(
    about: list[dict[str, str]], pairs: Iterable[Pair], names: set[str], mask_pixels: pa.Array
) -> dict[str, Decisions]:
    """The cases nearly all of whose images have a copy in an earlier case that stays; by source, then by case."""
    copies: defaultdict[int, set[int]] = defaultdict(set)
    for pair in pairs:
        for one, other in zip(pair.one, pair.other, strict=True):
            copies[one].add(other)
            copies[other].add(one)
    members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(about):
        members[row["source"], row["case"]].append(number)
    ordered = sorted(members)
    place = {case: number for number, case in enumerate(ordered)}
    case_of = [place[row["source"], row["case"]] for row in about]
    gone: set[int] = set()
    found: dict[str, dict[str, LeftOut]] = {name: {} for name in names}
    for source, case in ordered:
        numbers = members[source, case]
        here = place[source, case]
        earlier = {number: {case_of[other] for other in copies[number]} for number in numbers if number in copies}
        kept = {number: {one for one in cases if one < here and one not in gone} for number, cases in earlier.items()}
        covered = [number for number, cases in kept.items() if cases]
        if source in names and len(covered) >= _NEARLY_ALL * len(numbers):
            gone.add(here)
            of = sorted({ordered[one] for number in covered for one in kept[number]})
            pixels = pc.sum(mask_pixels.take(pa.array(numbers))).as_py() or 0
            found[source][case] = LeftOut(len(numbers), pixels, tuple("/".join(one) for one in of))
    return {name: Decisions(left_out=one) for name, one in found.items()}


def _moved(
    about: list[dict[str, str]], pairs: Iterable[Pair], names: set[str], official: set[tuple[str, str]]
) -> dict[str, Decisions]:
    """Patients who share images with others, and the one split that all of these go into.

    A split of a source that is not built now cannot change, so it wins; then one that the source itself says, then any;
    of several test before validation before train.
    """
    splits: dict[tuple[str, str], str] = {}
    root: dict[tuple[str, str], tuple[str, str]] = {}

    def top(node: tuple[str, str]) -> tuple[str, str]:
        while root.setdefault(node, node) != node:
            node = root[node]
        return node

    for pair in pairs:
        nodes = [(about[number]["source"], about[number]["patient"]) for number in (*pair.one, *pair.other)]
        for node, number in zip(nodes, (*pair.one, *pair.other), strict=True):
            splits[node] = about[number]["split"]
            root[top(node)] = top(nodes[0])
    groups: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for node in sorted(splits):
        groups[top(node)].append(node)
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for group in groups.values():
        chosen = min(
            (node[0] in names, node not in official, _HELD_BACK[splits[node]], splits[node]) for node in group
        )[3]
        for source, patient in group:
            if source in names and splits[source, patient] != chosen:
                found[source][patient] = chosen
    return {name: Decisions(splits=one) for name, one in found.items()}


def _official(plans: Iterable[SourcePlan]) -> set[tuple[str, str]]:
    tasks = ((plan, task) for plan in plans for shard in plan.shards for task in shard.cases)
    return {(_name(plan), task.case.patient) for plan, task in tasks if task.case.official_split}


def planned_with(plan: SourcePlan, decisions: Decisions, shard_size: int) -> SourcePlan:
    """The plan of a source after decisions."""
    shards = tuple(
        ShardPlan(shard.shard, tuple(_as_copy(task, decisions) for task in shard.cases)) for shard in plan.shards
    )
    return regrouped(replace(plan, shards=shards), decisions.splits, shard_size)


def _as_copy(task: CaseTask, decisions: Decisions) -> CaseTask:
    """The task of a case, under settings of their own where it is left out: what it would be is something else."""
    if task.case.name not in decisions.left_out:
        return task
    return replace(task, settings=hashlib.sha256(f"{task.settings} {COPY}".encode()).hexdigest())


def with_left_out(
    resumption: Resumption,
    plans: Iterable[SourcePlan],
    decisions: Mapping[str, Decisions],
    contents: Mapping[str, Contents],
) -> Resumption:
    """What is there of a plan, with the cases that are left out: nobody need convert them."""
    found = {stem: dict(cases) for stem, cases in resumption.found.items()}
    for plan in plans:
        left_out = decisions[_name(plan)].left_out
        for shard in plan.shards:
            for number, task in enumerate(shard.cases):
                if task.case.name in left_out and number not in found.get(shard.shard.stem, {number: None}):
                    piece = _bare(task, left_out[task.case.name], contents[_name(plan)].of(task.case))
                    found[shard.shard.stem][number] = LoggedCase(piece, plan.source.recipe.license)
    return replace(resumption, found=found)


def _bare(task: CaseTask, left_out: LeftOut, content: str | None) -> Piece:
    lost = {COPY: left_out.mask_pixels} if left_out.mask_pixels else {}
    dropped = {COPY: left_out.images}
    return Piece(task.case.name, task.settings, content, 0, 0, 0, 0, 0, dropped=dropped, lost_pixels=lost)


def _name(plan: SourcePlan) -> str:
    return plan.source.recipe.name
