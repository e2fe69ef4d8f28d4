"""Folders that describe themselves by nothing but names: ``images`` and ``masks``, ``X.png`` and ``X_mask.png``.

Names say which files are masks, and what a mask shares with its image; where no name says it, pixels do. What cannot be
known (what a value means, who the patient is) is left to the person who reads the draft, in comments at its top.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from builder.annotations.segments import DEFAULT_REQUEST, read_named_masks
from builder.cases.discovery import scan
from builder.cases.split import official_split
from builder.errors import CaseError, RecipeError
from builder.layouts.names import OUTLINES, NamedFile, named_file, without_role
from builder.layouts.probe import MaskCoding, frames_in, looks_like_mask, mask_coding
from builder.layouts.sketch import Sketch, class_name
from builder.readers.files import read_image
from builder.readers.image import Picture
from builder.readers.rules import DEFAULT_RULES
from builder.sources.pattern import Pattern
from builder.sources.recipe import CLASS_NAME
from shards.console import plural

_SIGNS: Final = "_-. "
_NUMBERED: Final = re.compile(r"[_\- .]?\d+$")
_SLICE: Final = re.compile(r"(?P<patient>.*?\d.*?)(?P<between>[_-](?:(?:slice|frame|sl|z|s|t)[_-]?)?)(?P<number>\d+)")
_UNSPEAKABLE: Final = re.compile(r"[{}\\\ud800-\udfff]")
_PROBED: Final = 64
"""Files whose pixels are looked at where names do not tell."""
_CHANNELS: Final = 8
"""A file with more volumes than this is a film, with fewer one of sequences."""


@dataclass(frozen=True)
class _Pair:
    """A mask and its image.

    Attributes:
        image: The image.
        mask: The mask.
        rest: What the name of the mask says beyond that of its image, as ``_liver_000``; None where it belongs to the
            image because it lies in its folder.
        beyond: What the name of the image says beyond that of its mask, as ``_0000`` or ``_flair``.
        class_folder: Number of the folder of the mask that is named after its class, None where none is.
    """

    image: NamedFile
    mask: NamedFile
    rest: str | None
    beyond: str = ""
    class_folder: int | None = None

    @property
    def label(self) -> str | None:
        """The class that names say, None where they say none."""
        if self.class_folder is not None:
            return self.mask.folders[self.class_folder]
        return _NUMBERED.sub("", self.rest[1:]) or self.rest[1:] if self.rest else None


def description_of(path: Path) -> Path | None:
    """See `builder.layouts.Layout`: the folder describes itself, if it holds any image that is no DICOM file."""
    return path if path.is_dir() and any(named_file(file) for file in scan(path)) else None


def sketch(description: Path, _modality: str) -> Sketch:
    """See `builder.layouts.Layout`."""
    files, unspeakable = _files_of(description)
    images, masks = _told_apart(description, files)
    pairs = _pairs(images, masks)
    if not pairs:
        raise RecipeError([_nothing_paired(description, images, masks)])
    image, patterns, used = _best(pairs)
    cases = sorted({pair.image.path for pair in used})
    coding = _coding(description, patterns, used)
    further, notes = _files_keys(description, Pattern(image), cases)
    left = len(files) - len({file.path for pair in used for file in (pair.image, pair.mask)})
    if left:
        rest = sorted({file.path for file in files} - {f.path for pair in used for f in (pair.image, pair.mask)})
        notes.append(f"{left} of {len(files)} image files fit nothing and are left out, such as {', '.join(rest[:3])}")
    if unspeakable:
        notes.append(
            f"TO DO: {plural(unspeakable, 'file')} whose names hold braces or a backslash, or are no UTF-8: rename them"
        )
    if any(name.startswith("class_") for name in coding.labels.values()):
        notes.insert(0, "TO DO: [labels]: the files do not say what their masks show; write a class for each class_...")
    return Sketch(
        image=image,
        mask=patterns[0] if len(patterns) == 1 else patterns,
        labels=coding.labels,
        files=further,
        tables={"masks": coding.masks} if coding.masks else {},
        notes=(f"drafted from the names of {len(files)} files and some of their pixels", *notes, *coding.notes),
        root=description,
    )


def _files_of(root: Path) -> tuple[list[NamedFile], int]:
    """The image files of a folder, and how many there are besides whose names no pattern can say."""
    found = [file for path in scan(root) if (file := named_file(path)) is not None]
    files = [file for file in found if not _UNSPEAKABLE.search(file.path)]
    headers = {file.path[: -len(file.ending)] for file in files if file.ending.lower() == ".hdr"}
    files = [file for file in files if file.ending.lower() != ".img" or file.path[: -len(file.ending)] not in headers]
    outlines = [file for file in files if file.ending.lower() == OUTLINES]
    if outlines and not _reads_as_outlines(root, outlines[0]):  # of another kind: boxes, settings
        found = [file for file in found if file.ending.lower() != OUTLINES]
        files = [file for file in files if file.ending.lower() != OUTLINES]
    return files, len(found) - sum(not _UNSPEAKABLE.search(file.path) for file in found)


def _reads_as_outlines(root: Path, file: NamedFile) -> bool:
    try:
        read_named_masks(root, file.path, DEFAULT_REQUEST)
    except CaseError:
        return False
    return True


def _told_apart(root: Path, files: Sequence[NamedFile]) -> tuple[list[NamedFile], list[NamedFile]]:
    """Images and masks: by their names, where no name says mask by some pixels of each kind of file."""
    masks = [file for file in files if file.says_mask]
    if masks and len(masks) < len(files):
        return [file for file in files if not file.says_mask], masks
    kinds: dict[object, list[NamedFile]] = defaultdict(list)
    for file in files:
        # files of one case have other names in each folder, or the same ones in all of them
        kinds[file.folders if len(files) > _PROBED else file.path].append(file)
    few = [file for members in kinds.values() for file in members[:1]][:_PROBED]
    telling = {file.path: looks_like_mask(root, file.path) for file in few}
    found = {file.path: telling.get(members[0].path, False) for members in kinds.values() for file in members}
    return [file for file in files if not found[file.path]], [file for file in files if found[file.path]]


def _pairs(images: Sequence[NamedFile], masks: Sequence[NamedFile]) -> list[_Pair]:
    by_key: dict[tuple[tuple[str, ...], str], list[NamedFile]] = defaultdict(list)
    by_beginning: dict[tuple[tuple[str, ...], str], list[NamedFile]] = defaultdict(list)
    by_place: dict[tuple[str, ...], list[NamedFile]] = defaultdict(list)
    for image in images:
        by_key[image.place, image.core].append(image)
        by_place[image.place].append(image)
        for end, letter in enumerate(image.core):
            if letter in _SIGNS:
                by_beginning[image.place, image.core[:end]].append(image)
    by_core: dict[str, list[NamedFile]] = defaultdict(list)
    for image in images:
        by_core[image.core].append(image)
    found: list[_Pair] = []
    for mask in masks:
        own = _pairs_of(mask, by_key, by_beginning, by_place)
        named = by_core.get(mask.core, [])
        if not own and mask.ending.lower() == OUTLINES and len(named) == 1:  # whatever the folders are called
            own = [_Pair(named[0], mask, "")]
        found += own
    return found


def _pairs_of(
    mask: NamedFile,
    by_key: Mapping[tuple[tuple[str, ...], str], Sequence[NamedFile]],
    by_beginning: Mapping[tuple[tuple[str, ...], str], Sequence[NamedFile]],
    by_place: Mapping[tuple[str, ...], Sequence[NamedFile]],
) -> list[_Pair]:
    """The images of a mask: of its name, of its longest beginning, of names that begin with it, or of its folder."""
    same = by_key.get((mask.place, mask.core), ())
    if same:
        return [_Pair(same[0], mask, "")]
    for end in range(len(mask.core) - 1, 0, -1):
        if mask.core[end] in _SIGNS and (mask.place, mask.core[:end]) in by_key:
            return [_Pair(by_key[mask.place, mask.core[:end]][0], mask, mask.core[end:])]
    longer = by_beginning.get((mask.place, mask.core), ())
    if 0 < len(longer) <= _CHANNELS:
        return [_Pair(image, mask, "", beyond=image.core[len(mask.core) :]) for image in longer]
    for level, folder in enumerate(mask.folders):
        place = replace(mask, folders=(*mask.folders[:level], *mask.folders[level + 1 :])).place
        if without_role(folder) and (place, mask.core) in by_key:
            return [_Pair(by_key[place, mask.core][0], mask, "", class_folder=level)]
    for end in range(len(mask.place), 0, -1):
        here = by_place.get(mask.place[:end], ())
        if here:
            # in a folder of one case lie its few images; a folder of many cases says nothing
            return [_Pair(image, mask, None) for image in here] if len(here) <= _CHANNELS else []
    return []


def _best(pairs: Sequence[_Pair]) -> tuple[str, list[str], list[_Pair]]:
    """The pattern of images that pairs most of them, the patterns of their masks, and what they match."""
    groups: dict[tuple[object, ...], list[_Pair]] = defaultdict(list)
    for pair in pairs:
        image = pair.image
        kind = (pair.rest is None, pair.beyond != "")
        groups[len(image.folders), image.before, image.after, image.ending, kind].append(pair)
    drafts = [draft for group in groups.values() if (draft := _patterns(group)) is not None]
    if not drafts:
        files = ", ".join(sorted({pair.image.path for pair in pairs})[:3])
        raise RecipeError([f"images such as {files}: their names do not tell cases apart; give each case a folder"])
    return max(drafts, key=lambda draft: (len({pair.image.path for pair in draft[2]}), len(draft[2]), draft[0]))


def _patterns(group: Sequence[_Pair]) -> tuple[str, list[str], list[_Pair]] | None:
    """Patterns of pairs whose images are named alike; None where names do not tell cases apart."""
    beyond = {pair.beyond for pair in group}
    tail = beyond.pop() if len(beyond) == 1 else f"{min(beyond)[:1]}{{submodality}}"
    images = list(
        {
            pair.image.path: replace(pair.image, core=pair.image.core.removesuffix(pair.beyond)) for pair in group
        }.values()
    )
    depth = len(images[0].folders)
    varying = [level for level in range(depth) if len({image.folders[level] for image in images}) > 1]
    splits = [level for level in range(depth) if all(official_split(image.folders[level], "", {}) for image in images)]
    free = [level for level in varying if level not in splits]
    names = _captures(images, free, splits, in_folder=group[0].rest is None)
    if names is None:
        return None
    levels, stem = names
    pattern = _image_pattern(images[0], levels, stem + tail)
    fitting: Counter[str] = Counter()
    used: dict[str, list[_Pair]] = defaultdict(list)
    several = len({pair.mask.path for pair in group}) > len({(pair.image.folders, pair.image.core) for pair in group})
    for pair in group:
        found = Pattern(pattern).match(pair.image.path)
        text = None if found is None else _mask_pattern(pair, levels, stem, found, several=several)
        if text is not None:
            fitting[text] += 1
            used[text].append(pair)
    chosen = [text for text, count in fitting.most_common(4) if count * 10 >= fitting.most_common(1)[0][1]]
    kept = [pair for text in chosen for pair in used[text]]
    return (pattern, chosen, kept) if kept else None


def _captures(
    images: Sequence[NamedFile], free: Sequence[int], splits: Sequence[int], *, in_folder: bool
) -> tuple[dict[int, str], str] | None:
    """What folders and names capture: level of a folder -> capture, and the name without role and ending.

    Returns:
        None where names do not tell cases apart.
    """
    levels = dict.fromkeys(splits, "{split}")
    cores = {image.core for image in images}
    if not free:
        if len(cores) > 1 or not in_folder:
            return (levels, "{case}")
        plain = [level for level in range(len(images[0].folders)) if level not in splits]
        return ({**levels, plain[-1]: "{case}"}, images[0].core) if plain else None
    own = free[-1]
    rests = [image.core.removeprefix(image.folders[own]) for image in images]
    # where each image of a folder has a mask of its own, they are cases and no sequences of one
    alike = in_folder or len(set(rests)) == 1
    begins = alike and all(image.core.startswith(image.folders[own]) for image in images)
    if len(cores) == 1 or begins or in_folder:
        levels |= dict.fromkeys(free[:-2], "{*}") | dict.fromkeys(free[-2:-1], "{patient}")
        levels[own] = "{case}"
        stem = "{case}" if begins else ""
        constant = len(set(rests)) == 1
        sign = rests[0][:1] if begins and rests[0][:1] in tuple(_SIGNS) else ""
        return levels, stem + (rests[0] if constant else f"{sign}{{submodality}}")
    levels |= dict.fromkeys(free[1:], "{*}") | {free[0]: "{patient}"}
    return levels, "{case}"


def _image_pattern(image: NamedFile, levels: Mapping[int, str], stem: str) -> str:
    folders = [levels.get(level, folder) for level, folder in enumerate(image.folders)]
    return "/".join([*folders, f"{image.before}{stem}{image.after}{image.ending}"])


def _mask_pattern(
    pair: _Pair, levels: Mapping[int, str], stem: str, found: Mapping[str, str], *, several: bool
) -> str | None:
    """The pattern of a mask: its path, with what it shares with its image captured."""
    values = {found[name[1:-1]]: name for name in levels.values() if name[1:-1] in found}
    folders = [
        values.get(folder, "{*}" if folder in pair.image.folders and _is_free(folder, pair, levels) else folder)
        for folder in pair.mask.folders
    ]
    mask = pair.mask
    if pair.class_folder is not None:
        folders[pair.class_folder] = "{label}"
    if pair.rest is None:
        case = found.get("case", "")
        name = f"{mask.before}{mask.core}{mask.after}"
        if case and name.startswith(case):
            own = name[len(case) :]
            sign = own[:1] if own[:1] in tuple(_SIGNS) else ""
            name = f"{{case}}{sign}{{label}}" if several and sign else f"{{case}}{own}"
        elif several:
            name = "{label}"
    else:
        label = ""
        if pair.rest:
            numbered = _NUMBERED.search(pair.rest[1:])
            label = f"{pair.rest[0]}{{label}}" + (f"{numbered[0][:1]}{{*}}" if numbered and numbered.start() else "")
        name = f"{mask.before}{stem}{label}{mask.after}"
    text = "/".join([*folders, f"{name}{mask.ending}"])
    return text if {"{case}", "{patient}"} & set(re.findall(r"\{\w+\}", text)) else None


def _is_free(folder: str, pair: _Pair, levels: Mapping[int, str]) -> bool:
    """Whether a folder of a mask is one that the pattern of images matches without keeping it."""
    return any(name == "{*}" and pair.image.folders[level] == folder for level, name in levels.items())


def _coding(root: Path, patterns: Iterable[str], pairs: Sequence[_Pair]) -> MaskCoding:
    """How masks say classes: by their own names where those capture ``{label}``, else by their values."""
    compiled = [Pattern(text) for text in patterns]
    outlined = [pair for pair in pairs if pair.mask.ending.lower() == OUTLINES]
    if len(outlined) == len(pairs):
        return _outline_coding(root, outlined)
    by_value = mask_coding(root, [pair.mask.path for pair in pairs])
    if not any("label" in pattern.captures for pattern in compiled):
        return by_value
    captured = {
        pair.label or found["label"]
        for pair in pairs
        for pattern in compiled
        if (found := pattern.match(pair.mask.path)) and "label" in found
    }
    strange = {label: class_name(label) for label in sorted(captured) if not re.fullmatch(CLASS_NAME, label)}
    names = ", ".join(sorted(captured)[:8]) + (", ..." if len(captured) > 8 else "")
    notes = [f"each mask file is of one class, by its name: {names}"]
    threshold = {key: value for key, value in by_value.masks.items() if key == "threshold"}
    if len(by_value.labels) > 1:
        notes.append(f"mask files hold several values ({', '.join(by_value.labels)}): all but 0 count as their class")
    return replace(by_value, labels=strange, masks=threshold, notes=tuple(notes))


def _outline_coding(root: Path, pairs: Sequence[_Pair]) -> MaskCoding:
    """The names that files of outlines give their classes."""
    names = Counter[str]()
    for pair in pairs[:_PROBED]:
        try:
            image = read_image(root, pair.image.path, DEFAULT_RULES)
            drawn = read_named_masks(root, pair.mask.path, DEFAULT_REQUEST)
            found = drawn.on(image) if isinstance(image, Picture) else None
        except CaseError:
            continue
        names.update(segment.name for segment in found or ())
    labels = {name: class_name(name) for name in sorted(names) if name} or {"*": "class_1"}
    if "" in names:
        labels["*"] = "class_1"
    note = f"outlines are named {', '.join(sorted(filter(None, names))) or 'nothing'}; those of one class are joined, "
    return MaskCoding(labels, {"segments": True}, (f"{note}unless masks.instances = true",))


def _files_keys(root: Path, image: Pattern, images: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Further keys of ``[files]``, and what is to be said of patients and of files that hold several volumes."""
    keys: dict[str, Any] = {}
    notes = []
    if {"patient", "case"} <= set(image.captures):
        keys["case"] = "{patient}_{case}"
        notes.append("TO DO: files.image: the folder above is taken for the patient; all cases of one are in one split")
    elif "case" in image.captures:
        pattern = _patient_pattern([found["case"] for path in images if (found := image.match(path))])
        if pattern:
            keys["patient"] = pattern
            notes.append(f"TO DO: files.patient: names share a beginning, taken for the patient ({pattern})")
        else:
            notes.append("TO DO: files.patient: each case is taken for a patient of its own; say it if that is not so")
    count = frames_in(root, images[0])
    if count is not None and count <= _CHANNELS:
        keys["channels"] = [f"channel_{number}" for number in range(count)]
        notes.append(f"TO DO: files.channels: each image holds {count} volumes; name them, or set files.frames = true")
    elif count is not None:
        keys["frames"] = True
        notes.append(f"each image holds {count} volumes: each is taken for a case of its own (files.frames)")
    return keys, notes


def _patient_pattern(cases: Sequence[str]) -> str | None:
    """A pattern of patients in names of cases, where several cases of several patients are named ``PATIENT_number``."""
    found = [match for case in set(cases) if (match := _SLICE.fullmatch(case))]
    patients, between = Counter(match["patient"] for match in found), {match["between"] for match in found}
    if len(found) < len(set(cases)) or len(between) != 1 or len(patients) < 2 or len(patients) == len(found):
        return None
    return f"{{patient}}{between.pop()}{{*}}"


def _nothing_paired(root: Path, images: Sequence[NamedFile], masks: Sequence[NamedFile]) -> str:
    some = ", ".join(file.path for file in images[:3]) or "none"
    others = ", ".join(file.path for file in masks[:3]) or "none"
    return (
        f"{root}: no image and mask were found that share a name or a folder: {plural(len(images), 'image')} such as "
        f"{some}; {plural(len(masks), 'mask')} such as {others}. Name masks after their images "
        "(X.png and X_mask.png, images/X.png and masks/X.png), or write the recipe by hand"
    )
