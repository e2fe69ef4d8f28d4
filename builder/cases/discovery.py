"""From a folder and a recipe to cases: one pass over the tree, then matching by captures."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from builder.cases.case import Case, ImageFile, MaskFile
from builder.cases.raters import MaskSet, counts, layered, mask_sets
from builder.cases.split import hashed_split, official_split
from builder.cases.split_file import Placement, check_use, placement_of
from builder.errors import CaseError, RecipeError
from builder.readers.files import read_patient
from builder.sources.metadata import SUBMODALITY
from builder.sources.pattern import Pattern
from builder.sources.recipe import (
    CLASS_NAME,
    CLASS_NAME_IN_WORDS,
    JOINED,
    PATIENT_ID,
    RATER_NAME,
    RATER_NAME_IN_WORDS,
    Recipe,
    mask_rules,
    read_rules,
)
from builder.sources.submodality import submodality_of
from shards.console import plural
from shards.receipt import Quarantined

_SUBMODALITY = re.compile(SUBMODALITY)
_Match = tuple[str, dict[str, str]]
"""A path and what it captures."""
_MaskMatch = tuple[str, Pattern, dict[str, str]]
"""A path, the pattern that it fits, and what that captures."""


@dataclass(frozen=True)
class HeldBack:
    """A case that is not built, as matching found it.

    Attributes:
        entry: What is said of it.
        withheld: Its reason without what a path captured; None where it quotes nothing of the kind.
    """

    entry: Quarantined
    withheld: str | None = None


@dataclass(frozen=True)
class Discovery:
    """What a source's folder holds.

    Attributes:
        cases: Ordered by name.
        held_back: Cases that contradict each other or themselves (stage ``match``).
        images_without_mask: Paths; such images are not built.
        masks_without_image: Paths.
        left_out: Names of cases that ``[cases]`` of the recipe leaves out, ordered.
        idle_entries: Entries of ``[cases]`` that fit no case, in words.
        copies: Names of cases that ``overlap`` of the recipe leaves out, as an earlier source has their patients.
    """

    cases: tuple[Case, ...]
    held_back: tuple[HeldBack, ...]
    images_without_mask: tuple[str, ...]
    masks_without_image: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    idle_entries: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What is said of the cases that are held back."""
        return tuple(one.entry for one in self.held_back)

    @property
    def captured_labels(self) -> set[str]:
        """All texts that ``{label}`` captured."""
        return {mask.label for case in self.cases for mask in case.masks if mask.label is not None}


def scan(root: Path, on_error: Callable[[OSError], None] | None = None) -> list[str]:
    """All files below a folder, and all folders that hold a file, as sorted paths with forward slashes.

    Folders end in ``/``. Resource forks (``._x``) and other hidden files are left out: unpacking on a Mac strews them.

    Args:
        root: The folder.
        on_error: Told of each folder that cannot be looked into.
    """
    found = []
    for folder, subfolders, names in os.walk(root, onerror=on_error):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        prefix = Path(folder).relative_to(root).as_posix()
        start = "" if prefix == "." else f"{prefix}/"
        kept = [start + name for name in names if not name.startswith(".")]
        found += [*kept, start] if kept and start else kept
    return sorted(found)


def check_root(recipe: Recipe, root: Path) -> None:
    """Refuse a root that is no folder."""
    if not root.is_dir():
        raise RecipeError([f"{recipe.name}: {root} is no folder; --raw names the folder that holds the source"])


def discover(recipe: Recipe, root: Path) -> Discovery:
    """Find the cases of a source.

    Raises:
        RecipeError: The root does not exist, or a pattern matches nothing.
    """
    check_root(recipe, root)
    closed: list[OSError] = []
    files = scan(root, closed.append)
    images = [match for match in _matches(recipe.files.image, files) if not _is_rather_mask(recipe, match[0])]
    nameless = [closed_folder(error, root) for error in closed]
    taken = {path for path, _ in images}
    others = [file for file in files if file not in taken]
    masks = [
        match
        for pattern in recipe.files.mask
        for match in _mask_matches(recipe, pattern, files if _holds_both(recipe, pattern) else others, images)
    ]
    if not (images or nameless) or not masks:
        pattern = recipe.files.image if not images else recipe.files.mask[0]
        raise RecipeError([_nothing(recipe, root, "image" if not images else "mask", pattern, files)])
    names = {path: _case_name(recipe, found) for path, found in images}
    left = [match for match in images if not recipe.cases.takes(names[match[0]])]
    if left:
        images = [match for match in images if recipe.cases.takes(names[match[0]])]
        masks = _masks_of_others(recipe, masks, images, left)
    if not images and left:
        raise RecipeError([none_taken(recipe, names.values())])
    if recipe.files.patient == PATIENT_ID:
        images, without = _with_patients(recipe, root, images)
        nameless += without
    wanted = [match for match in masks if "label" not in match[2] or not recipe.leaves_out(match[2]["label"])]
    if not wanted:
        raise RecipeError([_all_left_out(recipe, {found["label"] for _, _, found in masks})])
    raters = {match[2]["rater"] for match in wanted if "rater" in match[2]}
    if raters and not any(counts(recipe.raters, rater) for rater in raters):
        raise RecipeError([_no_rater(recipe, raters)])
    placement = placement_of(recipe, root)
    found = _join(recipe, root, images, wanted, placement)
    check_use(recipe, placement, (case.patient for case in found.cases))
    found = replace(
        found,
        held_back=(*nameless, *found.held_back),
        left_out=tuple(sorted({names[path] for path, _ in left})),
        idle_entries=tuple(recipe.cases.idle(names.values())),
    )
    if not found.cases and not found.held_back:
        raise RecipeError([_nothing_joined(recipe, found)])
    return found


def none_taken(recipe: Recipe, names: Iterable[str] = ()) -> str:
    """What is said where ``[cases]`` leaves every case of a source out; names where they may be shown."""
    known = sorted(set(names))
    shown = f"; their names are {', '.join(map(_printable, known[:3]))}" + (", ..." if len(known) > 3 else "")
    return f"{recipe.name}: [cases] leaves every case out{shown if known else ''}"


def _masks_of_others(
    recipe: Recipe, masks: list[_MaskMatch], images: list[_Match], left: list[_Match]
) -> list[_MaskMatch]:
    """The masks but those that belong only to cases that are left out."""

    def keys(group: list[_Match], shared: tuple[str, ...]) -> set[tuple[str, ...]]:
        return {tuple(found[name] for name in shared) for _, found in group}

    shared = {pattern: _shared(recipe.files.image, pattern) for pattern in recipe.files.mask}
    gone = {pattern: keys(left, names) - keys(images, names) for pattern, names in shared.items()}
    return [mask for mask in masks if tuple(mask[2][name] for name in shared[mask[1]]) not in gone[mask[1]]]


def closed_folder(error: OSError, root: Path) -> HeldBack:
    """What is said of a folder that cannot be looked into."""
    path = Path(error.filename).relative_to(root).as_posix() + "/"
    reason = f"the folder cannot be looked into: {error.strerror}; give yourself the right to read it"
    return HeldBack(Quarantined(path, path, "match", reason))


def _with_patients(recipe: Recipe, root: Path, images: list[_Match]) -> tuple[list[_Match], list[HeldBack]]:
    """Images with the patient that their files name; those that name none are held back."""
    named, nameless = [], []
    for path, found in images:
        try:
            patient = read_patient(root, path, read_rules(recipe))
        except CaseError as error:
            entry = Quarantined(_case_name(recipe, found), path, "read", error.reason)
            nameless.append(HeldBack(entry, error.withheld))
            continue
        if patient is None:
            reason = f"it names no patient, but files.patient is {PATIENT_ID}"
            nameless.append(HeldBack(Quarantined(_case_name(recipe, found), path, "read", reason)))
        else:
            named.append((path, {**found, "patient": patient}))
    return named, nameless


def _is_rather_mask(recipe: Recipe, path: str) -> bool:
    """Whether an image path is a mask by a closer pattern: ``a_mask.png`` fits both {case}.png and {case}_mask.png."""
    own = recipe.files.image.literal
    return any(mask.literal > own and mask.match(path) is not None for mask in recipe.files.mask)


def _holds_both(recipe: Recipe, mask: Pattern) -> bool:
    """Whether the files of a mask pattern are those of the images, which hold both as arrays or halves of their own."""
    files = recipe.files
    both = any(None not in (told.image, told.mask) for told in (files.variables, files.halves))
    return both and mask.text == files.image.text


def _matches(pattern: Pattern, files: Iterable[str]) -> list[_Match]:
    return [(path, found) for path in files if (found := pattern.match(path)) is not None]


def _mask_matches(recipe: Recipe, pattern: Pattern, files: Iterable[str], images: list[_Match]) -> Iterator[_MaskMatch]:
    """The masks of a pattern; where it matches a path in several ways, the one that belongs to an image counts."""
    shared = _shared(recipe.files.image, pattern)
    wanted = {tuple(found[name] for name in shared) for _, found in images}
    for path, longest in _matches(pattern, files):
        fitting = (found for found in pattern.matches(path) if tuple(found[name] for name in shared) in wanted)
        yield path, pattern, next(fitting, longest)


def _nothing(recipe: Recipe, root: Path, key: str, pattern: Pattern, files: list[str]) -> str:
    files = [path for path in files if path.endswith("/") == pattern.text.endswith("/")]
    ending = pattern.text.rsplit("}", 1)[-1].rsplit("/", 1)[-1]
    alike = [path for path in files if path.endswith(ending)][:3] or files[:3]
    seen = f"found: {plural(len(files), 'file')}, such as {', '.join(alike)}" if files else "the folder is empty"
    return f"{recipe.name}: files.{key}: {pattern.text!r} matches nothing below {root}; {seen}"


def _all_left_out(recipe: Recipe, captured: set[str]) -> str:
    key = "masks.only_named" if recipe.masks.only_named else "masks.ignore"
    shown = ", ".join(map(_printable, sorted(captured)[:10])) + (", ..." if len(captured) > 10 else "")
    named = ", ".join(recipe.labels) or "nothing"
    return f"{recipe.name}: {key} leaves every mask out: {{label}} captures {shown}; [labels] names {named}"


def _no_rater(recipe: Recipe, captured: set[str]) -> str:
    rule = recipe.raters
    wanted = rule.use if rule.use not in ("each", *JOINED) else ", ".join(rule.names)
    shown = ", ".join(map(_printable, sorted(captured)[:10])) + (", ..." if len(captured) > 10 else "")
    return f"{recipe.name}: raters: no mask is by {wanted}; {{rater}} captures {shown}"


def _nothing_joined(recipe: Recipe, found: Discovery) -> str:
    shared = sorted({name for mask in recipe.files.mask for name in _shared(recipe.files.image, mask)})
    return (
        f"{recipe.name}: no image has a mask: {plural(len(found.images_without_mask), 'image')} such as "
        f"{found.images_without_mask[0]} and {plural(len(found.masks_without_image), 'mask')} such as "
        f"{found.masks_without_image[0]} agree in no {' and '.join(f'{{{name}}}' for name in shared)}"
    )


def _join(
    recipe: Recipe,
    root: Path,
    images: list[_Match],
    masks: list[_MaskMatch],
    placement: Placement,
) -> Discovery:
    shared = {pattern: _shared(recipe.files.image, pattern) for pattern in recipe.files.mask}
    masks_by_key: dict[tuple[str, ...], list[MaskFile]] = defaultdict(list)
    rules = mask_rules(recipe)
    for path, pattern, found in masks:
        mask = MaskFile(path, found.get("label"), found.get("rater"))
        masks_by_key[pattern.text, *(found[name] for name in shared[pattern])] += layered(recipe, root, mask, rules)
    groups: dict[str, list[_Match]] = defaultdict(list)
    for path, found in images:
        groups[_case_name(recipe, found)].append((path, found))
    used: set[tuple[str, ...]] = set()
    cases, quarantined, bare = [], [], []
    for name, group in sorted(groups.items()):
        keys = {
            (pattern.text, *(found[field] for field in shared[pattern])) for pattern in shared for _, found in group
        }
        used |= keys
        found_masks = sorted({mask for key in keys for mask in masks_by_key.get(key, ())}, key=_place)
        sets = mask_sets(recipe.raters, found_masks)
        contradictory = (
            _contradiction(recipe, name, group)
            or _unnamed_class(recipe, name, found_masks)
            or _nameless_rater(name, found_masks)
        )
        if contradictory is not None:
            quarantined.append(contradictory)
        elif not sets:
            bare += [path for path, _ in group]
        else:
            cases += _rated(case_of(recipe, name, group, (), placement), sets)
    cases.sort(key=lambda case: case.name)
    orphans = sorted({mask.path for key, files in masks_by_key.items() if key not in used for mask in files})
    kept, leaking = separate_patients(cases, placement)
    return Discovery(tuple(kept), (*quarantined, *leaking), tuple(bare), tuple(orphans))


def _place(mask: MaskFile) -> tuple[str, int]:
    return mask.path, mask.layer or 0


def _rated(case: Case, sets: Iterable[MaskSet]) -> list[Case]:
    """The cases that the masks of an image make."""
    return [
        replace(case, name=f"{case.name}{one.suffix}", masks=one.masks, rater=one.rater, vote=one.vote) for one in sets
    ]


def _shared(image: Pattern, mask: Pattern) -> tuple[str, ...]:
    return tuple(name for name in image.captures if name in mask.captures)


def _case_name(recipe: Recipe, found: Mapping[str, str]) -> str:
    if recipe.files.case is not None:
        return recipe.files.case.format(**found)
    return found.get("case", found.get("patient", ""))


def _patient(recipe: Recipe, name: str, found: Mapping[str, str]) -> str:
    if isinstance(recipe.files.patient, Pattern):
        match = recipe.files.patient.match(name)
        return match["patient"] if match else name
    return found.get("patient", found.get("case", name))


def _submodality(recipe: Recipe, found: Mapping[str, str]) -> str:
    captured = found.get("submodality")
    name = recipe.submodality if captured is None else recipe.submodalities.get(captured, captured)
    return submodality_of(recipe.modality, name)


def _contradiction(recipe: Recipe, name: str, group: list[_Match]) -> HeldBack | None:
    """Why images of one case name cannot be one case."""
    if not all(_is_utf8(path) for path, _ in group):
        reason = "its name is no UTF-8; rename the file"
        return HeldBack(Quarantined(_printable(name), _printable(group[0][0]), "match", reason))
    by_submodality: dict[str, str] = {}
    first = group[0]
    for path, found in group:
        submodality = _submodality(recipe, found)
        if not _SUBMODALITY.fullmatch(submodality):
            expected = "expected letters, digits and single underscores"
            reason = f"captured sub-modality {submodality!r}, {expected}"
            return HeldBack(Quarantined(name, path, "match", reason), f"captured a sub-modality, {expected}")
        if submodality in by_submodality:
            reason = (
                f"claims the same case and sub-modality as {by_submodality[submodality]}; capture what tells them "
                "apart, or name the case from more captures with files.case"
            )
            return HeldBack(Quarantined(name, path, "match", reason))
        by_submodality[submodality] = path
        if (_patient(recipe, name, found), found.get("split")) != (
            _patient(recipe, name, first[1]),
            first[1].get("split"),
        ):
            reason = f"has the case name of {first[0]}, but another patient or split; set files.case"
            return HeldBack(Quarantined(name, path, "match", reason))
    captured, patient = first[1].get("split"), _patient(recipe, name, first[1])
    if captured is not None and official_split(captured, patient, recipe.splits.official) is None:
        advice = "which is no known name; list it in [splits]"
        reason = f"captured the split {captured!r}, {advice}"
        return HeldBack(Quarantined(name, first[0], "match", reason), f"captured a split, {advice}")
    return None


def _unnamed_class(recipe: Recipe, name: str, masks: Iterable[MaskFile]) -> HeldBack | None:
    """Why what ``{label}`` captured of a case's masks can name no class."""
    for mask in masks:
        if mask.label is None or mask.label in recipe.labels or re.fullmatch(CLASS_NAME, mask.label):
            continue
        label = _printable(mask.label)
        reason = (
            f"captured the label {label!r}, which is no class name: expected {CLASS_NAME_IN_WORDS}; name its class "
            f'in [labels]: {json.dumps(label, ensure_ascii=False)} = "...", or leave it out with masks.ignore'
        )
        withheld = f"captured a label that is no class name: expected {CLASS_NAME_IN_WORDS}; name its class in [labels]"
        return HeldBack(Quarantined(name, _printable(mask.path), "match", reason), withheld)
    return None


def _nameless_rater(name: str, masks: Iterable[MaskFile]) -> HeldBack | None:
    """Why what ``{rater}`` captured of a case's masks can name no rater: it goes into names of cases."""
    for mask in masks:
        if mask.rater is None or (re.fullmatch(RATER_NAME, mask.rater) and mask.rater not in ("each", *JOINED)):
            continue
        expected = f"expected {RATER_NAME_IN_WORDS}, and neither each nor {' nor '.join(JOINED)}"
        reason = f"captured the rater {_printable(mask.rater)!r}, which is no name of one: {expected}"
        withheld = f"captured a rater that is no name of one: {expected}"
        return HeldBack(Quarantined(name, _printable(mask.path), "match", reason), withheld)
    return None


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)  # what Python makes of undecodable bytes


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def case_of(recipe: Recipe, name: str, group: list[_Match], masks: tuple[MaskFile, ...], placement: Placement) -> Case:
    """The case of images and masks that belong together, in its split."""
    found = group[0][1]
    patient = _patient(recipe, name, found)
    official = min(placement.splits.get(patient, ()), default=None)
    if official is None:
        official = official_split(found.get("split"), patient, recipe.splits.official)
    person, splits = placement.names.get(patient, patient), recipe.splits
    split = official or hashed_split(recipe.patient_space, person, splits.ratios, splits.seed)
    images = [image for path, own in group for image in _images(recipe, path, own)]
    images.sort(key=lambda image: image.submodality)
    return Case(name, patient, split, tuple(images), masks, official_split=official is not None)


def _images(recipe: Recipe, path: str, found: Mapping[str, str]) -> list[ImageFile]:
    if recipe.files.channels is None:
        return [ImageFile(path, _submodality(recipe, found))]
    names = [submodality_of(recipe.modality, name) for name in recipe.files.channels]
    return [ImageFile(path, name, number) for number, name in enumerate(names)]


def separate_patients(cases: list[Case], placement: Placement) -> tuple[list[Case], list[HeldBack]]:
    """Hold back the cases of patients whom an official split puts on two sides."""
    splits: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        splits[case.patient] |= placement.splits.get(case.patient, frozenset({case.split}))
    kept = [case for case in cases if len(splits[case.patient]) == 1]
    leaking = []
    for case in cases:
        if len(splits[case.patient]) > 1:
            sides = " and ".join(sorted(splits[case.patient]))
            reason = f"the official split puts its patient into {sides}; expected one"
            leaking.append(HeldBack(Quarantined(case.name, case.images[0].path, "match", reason)))
    return kept, leaking
