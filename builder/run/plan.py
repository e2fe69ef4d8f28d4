"""The plan: which cases go into which shard, decided before any pixel is read."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.cases.case import Case
from builder.cases.discovery import Discovery, check_root, discover
from builder.cases.identifiers import Pseudonyms, holds_identifiers, without_identifiers
from builder.conversion.slicing import AXES, passes_edge_rule, slice_shape
from builder.errors import CaseError
from builder.readers.files import read_header
from builder.run.contents import size_of
from builder.run.overlap import People, people_of
from builder.run.versions import versions
from builder.sources.classes import source_classes
from builder.sources.recipe import Recipe
from builder.sources.source import Source
from builder.sources.vocabulary import vocabulary
from sa_med2d_20m import SCHEMA
from shards.atomic import write_atomic
from shards.paths import BUILD, ShardId

if TYPE_CHECKING:
    from builder.cases.dicom_index import OnFile
    from builder.readers.image import Header

_MEMORY_OF_A_WORKER: Final = 150_000_000
_MEMORY_PER_BYTE: Final = 1.5
"""Measured: a CT of 512 x 512 x 600 (16 bit) with a mask of 30 classes takes 850 MB, its slices are 471 MB."""


@dataclass(frozen=True)
class CaseTask:
    """A case to convert.

    Attributes:
        case: The case.
        settings: Hash of all that its bytes depend on but the content of its files and the licence.
        raw_bytes: Size of its input files, without those that an earlier case of the source counts.
        size: Bytes of its images before compression, by their headers.
    """

    case: Case
    settings: str
    raw_bytes: int
    size: int

    @property
    def memory(self) -> int:
        """Bytes that converting it may take, by an estimate."""
        return _MEMORY_OF_A_WORKER + int(_MEMORY_PER_BYTE * self.size)


@dataclass(frozen=True)
class ShardPlan:
    """What goes into a shard.

    Attributes:
        shard: Its name.
        cases: Its cases, ordered by name.
    """

    shard: ShardId
    cases: tuple[CaseTask, ...]


@dataclass(frozen=True)
class SourcePlan:
    """The plan of one source.

    Attributes:
        source: The source.
        discovery: What its folder holds.
        shards: Its shards.
        pseudonyms: Hash -> name that it stands for; empty where names stand as they are.
        hashed: Whether a build writes hashes in place of the names of the source.
        people: Who stands in it, by the names in their name space; never written.
    """

    source: Source
    discovery: Discovery
    shards: tuple[ShardPlan, ...]
    pseudonyms: Mapping[str, str]
    hashed: bool
    people: People = field(repr=False)


def source_root(recipe: Recipe, raw: Path, *, alone: bool) -> Path:
    """Where a source lies: ``raw/NAME``, or ``raw`` itself for a single recipe where there is no such folder."""
    own = raw / recipe.name
    return raw if alone and not own.is_dir() else own


def plan_source(
    recipe: Recipe,
    root: Path,
    key: Callable[[], bytes] | None,
    *,
    shard_size: int,
    limit_cases: int | None = None,
    find: Callable[[Recipe, Path], Discovery] = discover,
) -> SourcePlan:
    """Plan a source.

    Cases are ordered by name within their split and cut into shards of about equal size by what their headers say.

    Args:
        recipe: Its recipe.
        root: Its folder.
        key: Gives the key of hashed identifiers; asked only where the source needs it. None where nothing is written:
            then all names stay as they are.
        shard_size: Size of a shard in bytes of its images before compression.
        limit_cases: Only the first so many cases.
        find: Finds its cases, see `finder`.

    Raises:
        RecipeError: The folder holds nothing that the recipe describes.
    """
    discovery, pseudonyms = find(recipe, root), {}
    people = people_of(recipe, root, discovery)
    named = recipe.files.dicom is not None or holds_identifiers(discovery, recipe, root)
    hashed = recipe.identifiers == "hashed" and named
    if hashed and key is not None:
        names = Pseudonyms(key(), recipe.name)
        discovery, pseudonyms = without_identifiers(discovery, recipe, root, names), names.table
    # classes are numbered over the whole source, so that a limit changes no class id
    source = Source(root, recipe, source_classes(recipe, discovery.captured_labels, vocabulary()))
    by_split: dict[str, list[Case]] = defaultdict(list)
    for case in discovery.cases[:limit_cases]:
        by_split[case.split] += frames_of(case, source) if recipe.files.frames else [case]
    shards = []
    for split, cases in sorted(by_split.items()):
        for number, chosen in enumerate(cut(_tasks(cases, source), shard_size)):
            shard = ShardId(recipe.modality, recipe.license.lower(), recipe.name, split, number)
            shards.append(ShardPlan(shard, chosen))
    return SourcePlan(source, discovery, tuple(shards), pseudonyms, hashed, replace(people, nameable=not hashed))


def finder(out: Path | None, processes: int, on_file: OnFile) -> Callable[[Recipe, Path], Discovery]:
    """What finds the cases of a source, by names of files or by what DICOM files say of themselves.

    Args:
        out: Output folder, where the index of DICOM files is kept; None to keep none.
        processes: How many may open such files.
        on_file: Told how many of them have been opened.
    """

    def find(recipe: Recipe, root: Path) -> Discovery:
        if recipe.files.dicom is None:
            return discover(recipe, root)
        from builder.cases.dicom_index import index_of, place_of  # noqa: PLC0415 - loads pydicom, which few need
        from builder.cases.dicom_series import discover_series  # noqa: PLC0415 - as above

        check_root(recipe, root)
        index = index_of(root, kept=place_of(out, recipe.name), processes=processes, on_file=on_file)
        return discover_series(recipe, index)

    return find


def write_plan(out: Path, plan: SourcePlan) -> None:
    """Keep the plan of a source, for people: ``build/plan/NAME.json``."""
    record = {
        "source": plan.source.recipe.name,
        "shards": {shard.shard.stem: [task.case.name for task in shard.cases] for shard in plan.shards},
        "quarantined": [asdict(entry) for entry in plan.discovery.quarantined],
        "images_without_mask": plan.discovery.images_without_mask,
        "masks_without_image": plan.discovery.masks_without_image,
        "left_out": plan.discovery.left_out,
        "copies": plan.discovery.copies,
        # what a later build compares patients by; names that hashes stand for stay in their own table
        "patients": {
            "space": plan.people.space,
            "names": {} if plan.hashed else dict(plan.people.names),
            "hashed": plan.hashed,
        },
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    path = out / BUILD / "plan" / f"{plan.source.recipe.name}.json"
    write_atomic(path, text.encode("utf-8", "surrogateescape") + b"\n")


def _tasks(cases: list[Case], source: Source) -> Iterator[CaseTask]:
    basis = settings_of(source)
    counted: set[str] = set()
    for case in cases:
        own = set(case.paths) - counted
        counted |= own
        yield CaseTask(
            case,
            _settings_of_case(case, basis),
            sum(size_of(source.root, path, case.members(path)) for path in own),
            estimated_bytes(case, source),
        )


def _settings_of_case(case: Case, basis: str) -> str:
    return hashlib.sha256((basis + repr(case)).encode("utf-8", "surrogateescape")).hexdigest()


def regrouped(plan: SourcePlan, splits: Mapping[str, str], shard_size: int) -> SourcePlan:
    """The plan of a source some of whose patients go into other splits.

    Shards of splits that nobody comes into or leaves stay as they are.

    Args:
        plan: The plan.
        splits: Patient -> split.
        shard_size: Size of a shard in bytes of its images before compression.
    """
    basis = settings_of(plan.source)
    by_split: dict[str, list[CaseTask]] = defaultdict(list)
    touched: set[str] = set()
    for shard in plan.shards:
        for task in shard.cases:
            case = task.case
            split = splits.get(case.patient, case.split)
            if split != case.split:
                touched |= {split, case.split}
                case = replace(case, split=split, official_split=False)
                task = replace(task, case=case, settings=_settings_of_case(case, basis))  # noqa: PLW2901
            by_split[split].append(task)
    if not touched:
        return plan
    recipe = plan.source.recipe
    shards = [shard for shard in plan.shards if shard.shard.split not in touched]
    for split in touched & by_split.keys():
        tasks = sorted(by_split[split], key=lambda task: task.case.name)
        for number, chosen in enumerate(cut(iter(tasks), shard_size)):
            shard_id = ShardId(recipe.modality, recipe.license.lower(), recipe.name, split, number)
            shards.append(ShardPlan(shard_id, chosen))
    ordered = tuple(sorted(shards, key=lambda shard: (shard.shard.split, shard.shard.number)))
    own = {plan.pseudonyms.get(patient, patient): split for patient, split in splits.items()}
    moved = {plan.people.names.get(patient, patient): split for patient, split in own.items()}
    return replace(plan, shards=ordered, people=replace(plan.people, splits={**plan.people.splits, **moved}))


def settings_of(source: Source) -> str:
    """Hash of what all cases of a source depend on: code, decoders, encoders, recipe and classes.

    The licence is not part of it: it is written anew into metadata that are there.
    """
    parts = (
        SCHEMA,
        versions(),
        source.recipe.name,
        source.recipe.conversion_digest(),
        source.classes.classes,
        source.classes.numbers,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def cut(tasks: Iterator[CaseTask], shard_size: int) -> Iterator[tuple[CaseTask, ...]]:
    """Fill shards in order; a case larger than a shard has its own."""
    chosen: list[CaseTask] = []
    size = 0
    for task in tasks:
        if chosen and size + task.size > shard_size:
            yield tuple(chosen)
            chosen, size = [], 0
        chosen.append(task)
        size += task.size
    if chosen:
        yield tuple(chosen)


def estimated_bytes(case: Case, source: Source) -> int:
    """Bytes of a case's images before compression, from a header; 0 where that cannot be read (the build says why)."""
    try:
        header = _header_of(case, source)
    except CaseError:
        return 0
    shape = header.shape
    by_array = isinstance(source.recipe.files.variables.image, list)
    single = case.frame is not None or (case.images[0].channel is not None and not by_array)
    if len(shape) == 2 or (single and not header.placed):
        return shape[-2] * shape[-1] * len(case.images)
    shape = shape[-3:]
    axes = [AXES[name] for name in source.recipe.axes if passes_edge_rule(*slice_shape(shape, AXES[name]))]
    return shape[0] * shape[1] * shape[2] * len(axes) * len(case.images)


def _header_of(case: Case, source: Source) -> Header:
    first = case.images[0]
    return read_header(source.root, first.path, source.rules_for(first.members))


def frames_of(case: Case, source: Source) -> list[Case]:
    """The cases that a 4D image, a cine or a stack of pages is, one a frame: ``NAME_frame0000`` and so on.

    An image that has no frames, or whose header cannot be read, stays one case; the build says what is wrong with it.
    """
    try:
        header = _header_of(case, source)
    except CaseError:
        return [case]
    shape = header.shape
    if len(shape) != 4 and (header.placed or len(shape) != 3):
        return [case]
    return [replace(case, name=f"{case.name}_frame{number:04d}", frame=number) for number in range(shape[0])]
