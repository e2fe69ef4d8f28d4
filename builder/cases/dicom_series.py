"""From the index of a tree of DICOM files to cases: images by their tags, masks by what they refer to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from builder.cases.case import Case, MaskFile
from builder.cases.dicom_index import DicomIndex, IndexedFile
from builder.cases.discovery import Discovery, HeldBack, case_of, closed_folder, none_taken, separate_patients
from builder.cases.split_file import Placement, check_use, placement_of
from builder.errors import RecipeError
from builder.readers.dicom.facts import Facts, References, SeriesFacts
from builder.sources.recipe import NAMED_MASKS, DicomFiles, Recipe, SeriesTags
from shards.console import plural
from shards.receipt import Quarantined

_NAMELESS: Final = "it names no patient (PatientID), who must be known so that no patient stands in two splits"
_SEVERAL_PATIENTS: Final = "the files of its series name different patients; expected one"


@dataclass(frozen=True)
class ImageUnit:
    """Images that make one case: a series, or one image where they do not say where they lie.

    Attributes:
        name: UID of the series, or of the image.
        about: What the first of its files says of the series.
        paths: Its files, sorted.
        hashes: Of its series and its images, as `References` have them.
        patients: All that its files name.
    """

    name: str
    about: SeriesFacts
    paths: tuple[str, ...]
    hashes: frozenset[str]
    patients: frozenset[str]

    @property
    def members(self) -> tuple[str, ...]:
        """The files of a series, nothing for an image of its own."""
        return self.paths if self.about.placed else ()


@dataclass(frozen=True)
class MaskUnit:
    """A file of named masks, or a series whose values are labels.

    Attributes:
        about: What it says of itself.
        file: As a case has it.
        references: Of a file of named masks, else None.
    """

    about: SeriesFacts
    file: MaskFile
    references: References | None


def image_units(index: DicomIndex) -> list[ImageUnit]:
    """All images of a tree, by series."""
    groups: defaultdict[tuple[str, str], list[tuple[str, Facts]]] = defaultdict(list)
    for file in index.files:
        if file.facts is not None and file.facts.about.image and _fault(file) is None:
            about = file.facts.about
            groups[about.series, "" if about.placed else file.facts.instance].append((file.path, file.facts))
    return [_unit(instance or series, files) for (series, instance), files in sorted(groups.items())]


def _unit(name: str, files: Sequence[tuple[str, Facts]]) -> ImageUnit:
    hashes = {text for _, facts in files for text in (facts.about.series_hash, facts.instance_hash) if text}
    patients = frozenset(facts.about.patient for _, facts in files)
    return ImageUnit(name, files[0][1].about, tuple(path for path, _ in files), frozenset(hashes), patients)


def mask_units(index: DicomIndex) -> list[MaskUnit]:
    """All files of a tree that name their masks."""
    facts = ((file.path, file.facts) for file in index.files if file.facts is not None)
    return [MaskUnit(one.about, MaskFile(path, None), one.references) for path, one in facts if one.references]


def discover_series(recipe: Recipe, index: DicomIndex) -> Discovery:
    """Find the cases of a source whose recipe says its files by their tags.

    Raises:
        RecipeError: Nothing fits the tags, or no image has a mask.
    """
    tags = recipe.files.dicom
    assert tags is not None
    every = image_units(index)
    masks = _masks(tags, index, every)
    taken = {mask.file.path for mask in masks}
    images = [unit for unit in every if unit.paths[0] not in taken and fits(unit.about, tags.image)]
    unreadable = tuple(_unreadable(index))
    if not images or not masks:
        key = "mask" if images else "image"
        raise RecipeError([_nothing(recipe, key, tags, index)])
    names = [unit.name for unit in images]
    left_out = tuple(sorted(name for name in names if not recipe.cases.takes(name)))
    if len(left_out) == len(images):
        raise RecipeError([none_taken(recipe)])
    owners = Owners(every)
    by_image: defaultdict[str, list[MaskFile]] = defaultdict(list)
    orphans, chosen = [], {unit.name for unit in images}
    for mask in masks:
        meant = [unit.name for unit in owners.of(mask) if unit.name in chosen]
        for name in meant:
            by_image[name].append(mask.file)
        orphans += [] if meant else [mask.file.path]
    images = [unit for unit in images if recipe.cases.takes(unit.name)]
    placement = placement_of(recipe, index.root)
    cases, held_back = [], []
    for unit in images:
        reason = _SEVERAL_PATIENTS if len(unit.patients) > 1 else None if unit.about.patient else _NAMELESS
        if reason is not None:
            held_back.append(HeldBack(Quarantined(unit.name, unit.paths[0], "match", reason)))
        elif unit.name in by_image:
            cases.append(_case(recipe, unit, by_image[unit.name], placement))
    bare = tuple(unit.paths[0] for unit in images if unit.name not in by_image)
    if not cases and not held_back and not unreadable:
        raise RecipeError([_nothing_joined(recipe, images, masks)])
    check_use(recipe, placement, (case.patient for case in cases))
    cases.sort(key=lambda case: case.name)
    kept, leaking = separate_patients(cases, placement)
    idle = tuple(recipe.cases.idle(names))
    return Discovery(tuple(kept), (*unreadable, *held_back, *leaking), bare, tuple(sorted(orphans)), left_out, idle)


def fits(about: SeriesFacts, tags: SeriesTags) -> bool:
    """Whether a series is one that tags mean."""
    return (
        about.modality == tags.modality
        and _fits_any(about.description, tags.description)
        and _fits_any(about.body_part, tags.body_part)
    )


def _fits_any(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)


class Owners:
    """Finds the images that a mask belongs to.

    Args:
        images: All images of the tree: a mask of a series that is there, but not meant, belongs to no other.
    """

    def __init__(self, images: Iterable[ImageUnit]) -> None:
        self._by_hash: defaultdict[str, list[ImageUnit]] = defaultdict(list)
        self._by_frame: defaultdict[str, list[ImageUnit]] = defaultdict(list)
        self._by_study: defaultdict[str, list[ImageUnit]] = defaultdict(list)
        for unit in images:
            for text in unit.hashes:
                self._by_hash[text].append(unit)
            if unit.about.frame:
                self._by_frame[unit.about.frame].append(unit)
            self._by_study[unit.about.study].append(unit)

    def of(self, mask: MaskUnit) -> list[ImageUnit]:
        """The images that it refers to, else those in its frame of reference."""
        if mask.references is None:
            return [unit for unit in self._by_study[mask.about.study] if _same_place(unit.about, mask.about)]
        found = self.referred(mask)
        if found:
            return found
        in_frame = _each_once(self._by_frame, mask.references.frames)
        return [unit for unit in in_frame if _same_or_unknown(unit.about.patient, mask.about.patient)]

    def referred(self, mask: MaskUnit) -> list[ImageUnit]:
        """The images that a file of named masks refers to, one by one or by their series."""
        references = mask.references
        named = () if references is None else (references.instances, references.series)
        return next(filter(None, (_each_once(self._by_hash, hashes) for hashes in named)), [])


def _each_once(known: Mapping[str, list[ImageUnit]], keys: Iterable[str]) -> list[ImageUnit]:
    return list({unit.name: unit for key in keys for unit in known.get(key, ())}.values())


def _same_place(image: SeriesFacts, mask: SeriesFacts) -> bool:
    return _same_or_unknown(image.frame, mask.frame) and _same_or_unknown(image.patient, mask.patient)


def _same_or_unknown(one: str, other: str) -> bool:
    return not one or not other or one == other


def _masks(tags: DicomFiles, index: DicomIndex, images: Iterable[ImageUnit]) -> list[MaskUnit]:
    if tags.mask.named_masks:
        return [mask for mask in mask_units(index) if fits(mask.about, tags.mask)]
    series = (unit for unit in images if fits(unit.about, tags.mask))
    return [MaskUnit(unit.about, MaskFile(unit.paths[0], None, members=unit.members), None) for unit in series]


def _case(recipe: Recipe, unit: ImageUnit, masks: Iterable[MaskFile], placement: Placement) -> Case:
    found = {"case": unit.name, "patient": unit.about.patient}
    ordered = tuple(sorted(masks, key=lambda mask: mask.path))
    case = case_of(recipe, unit.name, [(unit.paths[0], found)], ordered, placement)
    return replace(case, images=tuple(replace(image, members=unit.members) for image in case.images))


def _unreadable(index: DicomIndex) -> Iterator[HeldBack]:
    """Folders and files that might hold images or masks."""
    yield from (closed_folder(error, index.root) for error in index.closed)
    for file in index.files:
        fault = _fault(file)
        if fault is not None:
            yield HeldBack(Quarantined(file.path, file.path, "read", fault))


def _fault(file: IndexedFile) -> str | None:
    """Why a file is of no use to the index."""
    if file.problem is not None or file.facts is None:
        return file.problem
    about = file.facts.about
    missing = [
        name
        for name, there in (
            ("its series (Series Instance UID)", about.series),
            ("itself (SOP Instance UID)", about.placed or file.facts.instance or not about.image),
        )
        if not there
    ]
    return f"it does not name {' and '.join(missing)}, which tells its images from others" if missing else None


def kinds_of(index: DicomIndex) -> str:
    """How many series and files of each modality a tree holds, in words that name nobody."""
    named = {(unit.about.modality, unit.about.series) for unit in image_units(index)}
    series = Counter(modality for modality, _ in named)
    masks = Counter(mask.about.modality for mask in mask_units(index))
    parts = [f"{count:,} image series of {modality or 'no modality'}" for modality, count in sorted(series.items())]
    parts += [f"{masks[modality]:,} {modality}" for modality in NAMED_MASKS if masks[modality]]
    faults = Counter(fault for file in index.files if (fault := _fault(file)) is not None)
    parts += [f"{plural(count, 'file')} of no use ({fault})" for fault, count in faults.most_common(2)]
    return ", ".join(parts) or "no DICOM image, SEG or RTSTRUCT"


def _nothing(recipe: Recipe, key: str, tags: DicomFiles, index: DicomIndex) -> str:
    wanted: SeriesTags = getattr(tags, key)
    asked = f"modality {wanted.modality}"
    asked += "".join(
        f", {words} {' or '.join(map(repr, patterns))}"
        for words, patterns in (("description", wanted.description), ("body part", wanted.body_part))
        if patterns != ["*"]
    )
    return (
        f"{recipe.name}: files.dicom.{key}: nothing of {asked} below {index.root}, which holds {kinds_of(index)} in "
        f"{plural(len(index.files), 'file')}; 'sa-med2d sources init --from' lists what its series are called"
    )


def _nothing_joined(recipe: Recipe, images: Sequence[ImageUnit], masks: Sequence[MaskUnit]) -> str:
    return (
        f"{recipe.name}: files.dicom: no image has a mask: no reference and no frame of reference leads from "
        f"{plural(len(masks), 'mask')} to {plural(len(images), 'image')} that fit files.dicom.image"
    )
