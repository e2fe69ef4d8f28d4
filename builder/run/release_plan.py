"""The plan of an import: the cases of a release, cut into shards by what its list of files says."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from builder.cases.case import ImageFile
from builder.cases.discovery import Discovery
from builder.errors import RecipeError
from builder.release.classes import ReleaseClasses, classes_of
from builder.release.convert import VERSION, images_of
from builder.release.listing import CaseId, HowNamed, Listing, Wanted, list_release
from builder.release.names import IMAGES, FileName, Tag, older_image, older_mask, parse, stem_of
from builder.release.patients import has_rule, patient_of, split_of
from builder.release.place import REFUSED, REPEATED, SHARED
from builder.release.repairs import REPAIRS
from builder.release.rows import PackedCase, Row, pack_rows
from builder.release.source import ReleaseCase, ReleaseSource
from builder.release.tags import tags_of
from builder.release.twins import twins_among
from builder.run.build import unknown_classes
from builder.run.overlap import People
from builder.run.plan import CaseTask, ShardPlan, SourcePlan, cut
from builder.run.versions import versions
from builder.sources import catalogue
from builder.sources.load import load_metadata
from builder.sources.metadata import SourceMetadata
from builder.sources.recipe import Recipe
from builder.sources.vocabulary import vocabulary
from sa_med2d_20m import SCHEMA
from shards.description import read_sources
from shards.paths import ShardId

_SHOWN: Final = 3


@dataclass(frozen=True)
class ImportOptions:
    """What a user chooses for an import, beside the options of a build.

    Attributes:
        wanted: Which part of the release.
        labels: Labels of the classes that are imported, by any name that the vocabulary knows; all where it is empty.
        how: How the release names its files.
        repairs: Names of the repairs that are made.
        shard_size: Size of a shard in bytes of the release's files.
        limit_cases: Only the first so many cases of each source.
        strict: Stop at the first file that cannot be used.
    """

    wanted: Wanted = field(default_factory=Wanted)
    labels: tuple[str, ...] = ()
    how: HowNamed = field(default_factory=HowNamed)
    repairs: frozenset[str] = frozenset(REPAIRS)
    shard_size: int = 1 << 30
    limit_cases: int | None = None
    strict: bool = False


@dataclass(frozen=True)
class ReleasePlan:
    """The plan of an import.

    Attributes:
        sources: The plan of each source.
        faults: What is wrong with the release as a whole, in words.
        notes: Source -> what a person should know of it, in words.
        twins: Source -> images that stand there under another name too.
        bytes: Size of the files that are imported.
        files: Number of these files.
    """

    sources: tuple[SourcePlan, ...]
    faults: tuple[str, ...]
    notes: dict[str, tuple[str, ...]]
    twins: dict[str, int]
    bytes: int
    files: int


@dataclass
class _Found:
    """A source while its cases are looked through."""

    known: SourceMetadata
    cases: list[PackedCase] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    written: set[tuple[str, str]] = field(default_factory=set)
    unfit: list[str] = field(default_factory=list)
    twins: int = 0


def plan_import(
    path: Path, options: ImportOptions, on_file: Callable[[int, int], None] = lambda *_: None
) -> ReleasePlan:
    """Plan an import.

    Args:
        path: The release, see `builder.release.listing.list_release`.
        options: What the user chose.
        on_file: Told how many files, of how many (0: not known), have been listed.

    Raises:
        RecipeError: It is no release, or holds nothing of what is wanted.
    """
    listing = list_release(path, options.wanted, options.how, on_file)
    by_source: dict[str, list[CaseId]] = defaultdict(list)
    for case in sorted(listing.cases):
        by_source[case[0]].append(case)
    unknown = sorted(options.wanted.sources - by_source.keys())
    if unknown:
        raise RecipeError([f"{path}: holds no source {name}" for name in unknown])
    plans, notes, twins, size, files = [], {}, {}, 0, 0
    for name, cases in by_source.items():
        found = _look_through(name, cases, listing, options)
        planned = _plan_source(found, listing, options)
        if planned is None:
            continue
        plans.append(planned)
        notes[name] = tuple(_notes(found, planned))
        twins[name] = found.twins
        size += sum(task.raw_bytes for shard in planned.shards for task in shard.cases)
        files += sum(case.files for case in found.cases)
    if not plans:
        what = f"with a mask of {', '.join(options.labels)}" if options.labels else "that can be used"
        raise RecipeError(["; ".join([f"{path}: holds no image {what}", *listing.faults.told()])])
    if options.strict:
        problems = [f"{one.source.recipe.name}: {sentence}" for one in plans for sentence in unknown_classes(one)]
        if faults := [*listing.faults.told(), *problems]:
            raise RecipeError(faults)
    return ReleasePlan(tuple(plans), tuple(listing.faults.told()), notes, twins, size, files)


def _look_through(name: str, cases: Iterable[CaseId], listing: Listing, options: ImportOptions) -> _Found:
    """Take the files of a source case by case, and forget what was packed before."""
    found = _Found(_known(name))
    for case in cases:
        rows = sorted(listing.rows(case))
        del listing.cases[case]  # the packed rows of twenty million files need not stand there twice
        rows = [*_by_name(rows, listing.overlapping)]
        images = {stem_of(row.path) for row in rows if row.path.startswith(IMAGES)}
        kept = []
        for row in rows:
            read = _read_name(row, listing.how, images, name)
            if read is None or (read.is_mask and _image_stem(row, read, listing.how) not in images):
                found.orphans.append(row.path)
                continue
            kept.append(row)
            if read.is_mask:
                found.used.add(read.label)
            else:
                tag = Tag.parse(read.tag)
                found.written.add((case[1], "00" if tag is None else tag.submodality))
        if images:
            found.cases.append(_packed(case, kept, listing.how))
        if has_rule(name) and patient_of(found.known, case[2]) == case[2]:
            found.unfit.append(case[2])
    if "twins" in options.repairs and listing.how.naming == "release":
        found.cases, found.twins = twins_among(found.cases, listing.place)
    return found


def _by_name(rows: Iterable[Row], overlapping: Collection[int]) -> Iterator[Row]:
    """A row for each name; one that must not be read says why, and costs its image or the place of its mask."""
    for _, alike in groupby(rows, key=lambda row: row.path):
        row, *others = alike
        if any((other.size, other.crc32) != (row.size, row.crc32) for other in others):
            yield row._replace(method=REPEATED)
        elif row.method not in REFUSED and any(one.address in overlapping for one in (row, *others)):
            yield row._replace(method=SHARED)
        else:
            yield row


def _read_name(row: Row, how: HowNamed, images: set[str], source: str) -> FileName | None:
    if how.naming == "release":
        return parse(row.path)
    return older_image(row.path, how.tag, source) or older_mask(row.path, frozenset(images), how.tag, source)


def _image_stem(row: Row, name: FileName, how: HowNamed) -> str:
    if how.naming == "release":
        return row.path.removeprefix("masks/").rpartition("--")[0]
    return name.case


def _known(name: str) -> SourceMetadata:
    """What the catalogue knows of a source; of one that it does not have neither licence nor anything else."""
    if name in catalogue.names():
        return load_metadata(name)
    return SourceMetadata(name=name, title=name, license="unknown", modality="ct")


def _plan_source(found: _Found, listing: Listing, options: ImportOptions) -> SourcePlan | None:
    classes = _classes(found, listing, options)
    labels = _chosen_labels(options.labels)
    tags = tags_of(found.written, synonyms="synonyms" in options.repairs)
    modalities = [case.modality for case in found.cases]
    if not modalities:
        return None
    recipe = _recipe(found.known, max(sorted(set(modalities)), key=modalities.count))
    source = ReleaseSource(
        root=listing.place.path.parent if listing.place.archive else listing.place.path,
        recipe=recipe,
        classes=classes.as_source_classes(),
        place=listing.place,
        version=_version(listing),
        naming=listing.how.naming,
        tags=tags,
        repairs=options.repairs,
        labels=labels,
        strict=options.strict,
    )
    cases = [_case(case, found.known) for case in found.cases]
    sizes = {(case.name, case.modality): case.size for case in found.cases}
    if labels:
        cases = [chosen for case in cases if (chosen := _with_labels(case, source)) is not None]
        sizes = {(case.name, case.modality): sum(row.packed for row in case.rows) for case in cases}
    if not cases:
        return None
    discovery = Discovery(tuple(cases), (), (), tuple(sorted(found.orphans)))
    names = found.known.patient_names.names if isinstance(found.known, Recipe) else {}
    splits = {names.get(case.patient, case.patient): case.split for case in cases}
    people = People(recipe.patient_space, splits, names)
    return SourcePlan(source, discovery, tuple(_shards(cases, sizes, source, options)), {}, False, people)


def _classes(found: _Found, listing: Listing, options: ImportOptions) -> ReleaseClasses:
    if listing.how.naming == "release":
        names = listing.mapping.get(found.known.name, {})
        return classes_of(names, found.used, vocabulary(), unions="unions" in options.repairs)
    numbered = {f"{number:04d}": label for number, label in enumerate(sorted(found.used))}
    return classes_of(numbered, numbered, vocabulary(), unions="unions" in options.repairs)


def _chosen_labels(names: Iterable[str]) -> frozenset[str]:
    found = (vocabulary().find(name) for name in names)
    return frozenset(name if term is None else term.label for name, term in zip(names, found, strict=True))


def _recipe(known: SourceMetadata, modality: str) -> Recipe:
    """What a build knows of a source, for one whose files are the release's."""
    about = {name: getattr(known, name) for name in SourceMetadata.model_fields}
    dealt = {"ratios": known.splits.ratios, "seed": known.splits.seed} if isinstance(known, Recipe) else {}
    files = {"image": f"images/{{*}}--{known.name}--{{case}}.png", "mask": "masks/{case}--{label}.png"}
    return Recipe.model_validate({**about, "splits": dealt, "modality": modality, "submodality": "00", "files": files})


def _version(listing: Listing) -> str:
    if listing.how.naming == "sam-med2d":
        return "data_demo"
    return listing.place.top.rstrip("/").rpartition("/")[2] or listing.place.path.resolve().name


def _packed(case: CaseId, rows: Sequence[Row], how: HowNamed) -> PackedCase:
    source, modality, name = case
    return PackedCase(source, modality, name, how.between(source, name), b"", "", 0, 0).holding(rows)


def _case(case: PackedCase, known: SourceMetadata) -> ReleaseCase:
    patient = patient_of(known, case.name)
    split, official = split_of(known, patient)
    return ReleaseCase(
        name=case.name,
        patient=patient,
        split=split,
        images=(ImageFile(case.first_image, "00"),),
        masks=(),
        official_split=official,
        modality=case.modality,
        packed=case.packed,
        between=case.between,
    )


def _with_labels(case: ReleaseCase, source: ReleaseSource) -> ReleaseCase | None:
    """A case with those of its images that have a mask of a label that is wanted; None where none has."""
    kept: list[Row] = []
    for image in images_of(case, source):
        masks = [row for row, name in image.masks if source.by_written[name.label].label in source.labels]
        # masks of other labels stay in the list, so that they are named as not annotated; they are not read
        kept += [image.row, *(row for row, _ in image.masks)] if masks else []
    return replace(case, packed=pack_rows(sorted(kept), case.between)) if kept else None


def _shards(
    cases: Sequence[ReleaseCase],
    sizes: Mapping[tuple[str, str], int],
    source: ReleaseSource,
    options: ImportOptions,
) -> Iterator[ShardPlan]:
    """Cut the cases of each modality and split into shards, in the order of their names."""
    basis = _settings(source)
    recipe = source.recipe
    grouped: dict[tuple[str, str], list[CaseTask]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: (case.name, case.modality))[: options.limit_cases]:
        grouped[case.modality, case.split].append(_task(case, basis, sizes[case.name, case.modality]))
    for (modality, split), tasks in sorted(grouped.items()):
        for number, chosen in enumerate(cut(iter(tasks), options.shard_size)):
            yield ShardPlan(ShardId(modality, recipe.license.lower(), recipe.name, split, number), chosen)


def _task(case: ReleaseCase, basis: str, size: int) -> CaseTask:
    about = (case.name, case.modality, case.patient, case.split, case.official_split)
    settings = hashlib.sha256((basis + repr(about)).encode("utf-8", "surrogateescape")).hexdigest()
    return CaseTask(case, settings, size, size)


def _settings(source: ReleaseSource) -> str:
    """Hash of what all cases of a source depend on, but for the content of their files and the licence."""
    parts: tuple[Any, ...] = (
        SCHEMA,
        versions(),
        VERSION,
        source.recipe.name,
        source.naming,
        [(one, one.original, one.parts) for one in source.classes.classes],
        sorted(source.tags.canonical.items()),
        sorted(source.repairs),
        sorted(source.labels),
    )
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _notes(found: _Found, planned: SourcePlan) -> Iterator[str]:
    """What a person should know of a source before it is imported."""
    assert isinstance(planned.source, ReleaseSource)
    named = planned.source.classes.classes
    nameless = [one.class_id for one in named if one.original == f"class_{one.class_id}"]
    if nameless:
        yield f"the class mapping has no name for {', '.join(nameless)}"
    torn = [str(one.original) for one in named if str(one.original).startswith("union_") and not one.parts]
    if torn and "unions" in planned.source.repairs:
        yield f"unions of which the parts cannot be told: {', '.join(torn)}"
    if found.unfit:
        shown = ", ".join(found.unfit[:_SHOWN]) + (", ..." if len(found.unfit) > _SHOWN else "")
        yield f"names of cases that do not say whose they are, so that each counts as a patient: {shown}"
    if found.known.name not in catalogue.names():
        yield "the catalogue does not have it, so its licence is unknown"


def refuse_built(out: Path, plans: Iterable[SourcePlan]) -> None:
    """Refuse to import a source into a folder that holds it already, built from its own files.

    Raises:
        RecipeError: The folder does.
    """
    there = read_sources(out)
    built = [
        plan.source.recipe.name
        for plan in plans
        if plan.source.recipe.name in there and there[plan.source.recipe.name].repacked is None
    ]
    if built:
        raise RecipeError(
            [
                f"{out}: holds {name} already, built from its own files, which an import would replace; import into "
                "another folder, or remove it first ('sa-med2d remove')"
                for name in built
            ]
        )
