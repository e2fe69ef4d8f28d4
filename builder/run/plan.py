"""The plan: which cases go into which shard, decided before any pixel is read."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

from builder.cases.case import Case
from builder.cases.discovery import Discovery, discover
from builder.cases.identifiers import Pseudonyms, holds_identifiers, without_identifiers
from builder.conversion.slicing import AXES, passes_edge_rule, slice_shape
from builder.errors import CaseError
from builder.readers.files import read_header
from builder.sources.classes import source_classes
from builder.sources.recipe import Recipe
from builder.sources.source import Source
from builder.sources.vocabulary import vocabulary
from sa_med2d_20m import SCHEMA
from shards.atomic import write_atomic
from shards.paths import BUILD, ShardId

_MEMORY_OF_A_WORKER: Final = 150_000_000
_MEMORY_PER_BYTE: Final = 1.5
"""Measured: a CT of 512 x 512 x 600 (16 bit) with a mask of 30 classes takes 850 MB, its slices are 471 MB."""


@dataclass(frozen=True)
class LostCase:
    """A case that is not tried again.

    Attributes:
        name: Its name.
        reason: What happened to the processes that tried.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Task:
    """One shard to build, alone.

    Attributes:
        shard: Its name.
        source: What its cases come from.
        cases: Its cases, ordered by name.
        fingerprint: Hash of everything its bytes depend on, see `fingerprint`.
        raw_bytes: Size of its input files.
        memory: Bytes that building it may take, by an estimate.
        lost: Cases that processes died over, for the quarantine.
    """

    shard: ShardId
    source: Source
    cases: tuple[Case, ...]
    fingerprint: str
    raw_bytes: int
    memory: int
    lost: tuple[LostCase, ...] = ()


@dataclass(frozen=True)
class SourcePlan:
    """The plan of one source.

    Attributes:
        source: The source.
        discovery: What its folder holds.
        tasks: Its shards.
        pseudonyms: Hash -> name that it stands for; empty where names stand as they are.
    """

    source: Source
    discovery: Discovery
    tasks: tuple[Task, ...]
    pseudonyms: Mapping[str, str]


def source_root(recipe: Recipe, raw: Path, *, alone: bool) -> Path:
    """Where a source lies: ``raw/NAME``, or ``raw`` itself for a single recipe where there is no such folder."""
    own = raw / recipe.name
    return raw if alone and not own.is_dir() else own


def plan_source(
    recipe: Recipe,
    root: Path,
    key: Callable[[], bytes],
    *,
    shard_size: int,
    limit_cases: int | None = None,
) -> SourcePlan:
    """Plan a source.

    Cases are ordered by name within their split and cut into shards of about equal size by what their headers say.

    Args:
        recipe: Its recipe.
        root: Its folder.
        key: Gives the key of hashed identifiers; asked only where the source needs it.
        shard_size: Size of a shard in bytes of its images before compression.
        limit_cases: Only the first so many cases.

    Raises:
        RecipeError: The folder holds nothing that the recipe describes.
    """
    discovery, pseudonyms = discover(recipe, root), {}
    if recipe.identifiers == "hashed" and holds_identifiers(discovery, root):
        names = Pseudonyms(key(), recipe.name)
        discovery, pseudonyms = without_identifiers(discovery, root, names), names.table
    # classes are numbered over the whole source, so that a limit changes no class id
    source = Source(root, recipe, source_classes(recipe, discovery.captured_labels, vocabulary()))
    by_split: dict[str, list[Case]] = defaultdict(list)
    for case in discovery.cases[:limit_cases]:
        by_split[case.split] += frames_of(case, source) if recipe.files.frames else [case]
    tasks = []
    for split, cases in sorted(by_split.items()):
        for number, (chosen, largest) in enumerate(_cut(cases, source, shard_size)):
            shard = ShardId(recipe.modality, recipe.license.lower(), recipe.name, split, number)
            tasks.append(_task(shard, source, chosen, largest))
    return SourcePlan(source, discovery, tuple(tasks), pseudonyms)


def write_plan(out: Path, plan: SourcePlan) -> None:
    """Keep the plan of a source, for people: ``build/plan/NAME.json``."""
    record = {
        "source": plan.source.recipe.name,
        "tasks": [
            {
                "shard": task.shard.stem,
                "fingerprint": task.fingerprint,
                "cases": [case.name for case in task.cases],
            }
            for task in plan.tasks
        ],
        "quarantined": [asdict(entry) for entry in plan.discovery.quarantined],
        "images_without_mask": plan.discovery.images_without_mask,
        "masks_without_image": plan.discovery.masks_without_image,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    path = out / BUILD / "plan" / f"{plan.source.recipe.name}.json"
    write_atomic(path, text.encode("utf-8", "surrogateescape") + b"\n")


def _cut(cases: list[Case], source: Source, shard_size: int) -> Iterator[tuple[tuple[Case, ...], int]]:
    """Fill shards in order, with the size of their largest case; one larger than a shard has its own."""
    chosen: list[Case] = []
    sizes: list[int] = []
    for case in cases:
        own = estimated_bytes(case, source)
        if chosen and sum(sizes) + own > shard_size:
            yield tuple(chosen), max(sizes)
            chosen, sizes = [], []
        chosen.append(case)
        sizes.append(own)
    if chosen:
        yield tuple(chosen), max(sizes)


def estimated_bytes(case: Case, source: Source) -> int:
    """Bytes of a case's images before compression, from a header; 0 where that cannot be read (the build says why)."""
    try:
        header = read_header(source.root, case.images[0].path, source.read_rules)
    except CaseError:
        return 0
    shape = header.shape
    single = case.frame is not None or case.images[0].channel is not None
    if len(shape) == 2 or (single and not header.placed):
        return shape[-2] * shape[-1] * len(case.images)
    shape = shape[-3:]
    axes = [AXES[name] for name in source.recipe.axes if passes_edge_rule(*slice_shape(shape, AXES[name]))]
    return shape[0] * shape[1] * shape[2] * len(axes) * len(case.images)


def frames_of(case: Case, source: Source) -> list[Case]:
    """The cases that a 4D image, a cine or a stack of pages is, one a frame: ``NAME_frame0000`` and so on.

    An image that has no frames, or whose header cannot be read, stays one case; the build says what is wrong with it.
    """
    try:
        header = read_header(source.root, case.images[0].path, source.read_rules)
    except CaseError:
        return [case]
    shape = header.shape
    if len(shape) != 4 and (header.placed or len(shape) != 3):
        return [case]
    return [replace(case, name=f"{case.name}_frame{number:04d}", frame=number) for number in range(shape[0])]


def _task(shard: ShardId, source: Source, cases: tuple[Case, ...], largest: int) -> Task:
    paths = dict.fromkeys(path for case in cases for path in case.paths)
    states = [state for path in paths for state in file_states(source.root, path)]
    return Task(
        shard=shard,
        source=source,
        cases=cases,
        fingerprint=fingerprint(shard, source, cases, states),
        raw_bytes=sum(size for _, size, _ in states),
        memory=_MEMORY_OF_A_WORKER + int(_MEMORY_PER_BYTE * largest),
    )


def fingerprint(shard: ShardId, source: Source, cases: tuple[Case, ...], states: list[tuple[str, int, int]]) -> str:
    """Hash of what a shard's bytes depend on: version, recipe, classes, cases, size and time of each input file."""
    parts = (
        SCHEMA,
        version("sa-med2d-20m"),
        shard,
        source.recipe.license,
        source.recipe.conversion_digest(),
        source.classes.classes,
        cases,
        states,
    )
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def file_states(root: Path, path: str) -> list[tuple[str, int, int]]:
    """Path, size and time of a file, or of each file of a series folder; -1 for one that is not there."""
    try:
        if path.endswith("/"):
            return [
                state for entry in sorted((root / path).iterdir()) for state in file_states(root, path + entry.name)
            ]
        state = (root / path).stat()
    except OSError:
        return [(path, -1, -1)]
    return [(path, state.st_size, state.st_mtime_ns)]
