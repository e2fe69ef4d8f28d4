"""BIDS datasets with segmentations among their derivatives: ``*_dseg`` with its look-up table, or ``*_mask``.

Standard: https://bids-specification.readthedocs.io, "Imaging data type derivatives" and "The inheritance principle".
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from builder.cases.discovery import scan
from builder.errors import RecipeError
from builder.layouts.record import read_json
from builder.layouts.sketch import Sketch, class_name, submodality_name

_DESCRIPTION: Final = "dataset_description.json"
_NAME: Final = re.compile(r"((?:[a-zA-Z]+-[a-zA-Z0-9+]+_)*)([a-zA-Z0-9]+)(\.nii(?:\.gz)?)")
_DERIVED: Final = ("space", "cohort", "atlas", "seg", "scale", "res", "den", "label", "desc")
"""Entities that a derivative adds behind those of its source."""
_SEGMENTATIONS: Final = ("dseg", "mask")
_NO_IMAGES: Final = (*_SEGMENTATIONS, "probseg", "xfm", "defacemask")
_PREFERRED: Final = ("T1w", "T2w", "FLAIR", "PDw", "T2starw", "bold", "dwi")


@dataclass(frozen=True)
class _File:
    """A file by the parts of its name.

    Attributes:
        path: Below the root.
        case: Entities of its source, such as ``sub-01_ses-1_run-2``.
        derived: Entity -> value of those that a derivative adds.
        suffix: ``T1w``, ``dseg`` ...
        pattern: Its path as a pattern of recipes.
    """

    path: str
    case: str
    derived: dict[str, str]
    suffix: str
    pattern: str

    @property
    def space(self) -> str | None:
        """The space it lies in, None where that is its source's own."""
        space = self.derived.get("space")
        return None if space in ("orig", *_PREFERRED) else space


def description_of(path: Path) -> Path | None:
    """See `builder.layouts.Layout`."""
    found = path / _DESCRIPTION if path.is_dir() else path
    return found if found.name == _DESCRIPTION and found.is_file() else None


def sketch(description: Path, _modality: str) -> Sketch:
    """See `builder.layouts.Layout`. One recipe has one kind of segmentation; the notes name the others."""
    root, record = description.parent, _record(description)
    paths = scan(root)
    files = [file for path in paths if (file := _parse(path)) is not None]
    masks = _by_pattern(file for file in files if file.suffix in _SEGMENTATIONS)
    images = _by_pattern(file for file in files if file.suffix not in _NO_IMAGES)
    if not masks:
        raise RecipeError([f"{root}: holds no *_dseg.nii.gz and no *_mask.nii.gz; expected one among its derivatives"])
    chosen = max(masks, key=lambda pattern: (masks[pattern][0].suffix == "dseg", len(masks[pattern])))
    image = _image_of(masks[chosen], images)
    if image is None:
        raise RecipeError(
            [f"{root}: no image belongs to {masks[chosen][0].path}; give the folder that holds images and derivatives"]
        )
    others = [pattern for pattern in masks if pattern != chosen]
    links = record.get("ReferencesAndLinks")
    references = ", ".join(map(str, links)) if isinstance(links, list) else ""
    acknowledged = record.get("HowToAcknowledge") or references
    return Sketch(
        image=image,
        mask=chosen,
        labels=_labels(masks[chosen], paths, root),
        title=str(record.get("Name") or ""),
        homepage=str(record.get("DatasetDOI") or ""),
        citation=str(acknowledged),
        submodality=submodality_name(images[image][0].suffix),
        notes=tuple(f"other segmentations of this dataset, each a recipe of its own: {pattern}" for pattern in others),
    )


def _record(description: Path) -> dict[str, Any]:
    record = read_json(description)
    if not isinstance(record, dict):
        raise RecipeError([f"{description}: expected a JSON object with the key 'Name'"])
    return record


def _parse(path: str) -> _File | None:
    *folders, name = PurePosixPath(path).parts
    found = _NAME.fullmatch(name)
    if found is None or not any(folder.startswith("sub-") for folder in folders):
        return None
    entities = [entity.split("-", 1) for entity in found[1].split("_") if entity]
    at = next((at for at, (key, _) in enumerate(entities) if key in _DERIVED), len(entities))
    derived = dict(entities[at:])
    rest = "".join(f"_{key}-{'{label}' if key == 'label' else value}" for key, value in derived.items())
    places = [_place(folder) for folder in folders]
    pattern = "/".join([*places, f"{{case}}{rest}_{found[2]}{found[3]}"])
    return _File(path, "_".join("-".join(entity) for entity in entities[:at]), derived, found[2], pattern)


def _place(folder: str) -> str:
    if folder.startswith("sub-"):
        return "sub-{patient}"
    return "ses-{*}" if folder.startswith("ses-") else folder


def _by_pattern(files: Iterable[_File]) -> dict[str, list[_File]]:
    found: dict[str, list[_File]] = defaultdict(list)
    for file in files:
        found[file.pattern].append(file)
    return dict(found)


def _image_of(masks: list[_File], images: dict[str, list[_File]]) -> str | None:
    """The images that masks were drawn on: of their cases and in their space, by the suffix that they name if any."""
    cases, space = {mask.case for mask in masks}, masks[0].space
    wanted = (masks[0].derived.get("space", ""), *_PREFERRED)

    def rank(pattern: str) -> tuple[int, int, int]:
        own = images[pattern]
        suffix = own[0].suffix
        place = wanted.index(suffix) if suffix in wanted else len(wanted)
        return sum(file.case in cases for file in own), -place, -len(own[0].derived)

    fitting = [pattern for pattern, own in images.items() if own[0].space == space and rank(pattern)[0]]
    return max(fitting, key=rank, default=None)


def _labels(masks: list[_File], paths: list[str], root: Path) -> dict[str, str]:
    first = masks[0]
    if first.suffix == "mask":
        return {} if "label" in first.derived else {"1": class_name(first.derived.get("desc", "mask"))}
    labels: dict[str, str] = {}
    for table in dict.fromkeys(_table_of(mask, paths, root) for mask in masks):
        for value, name in _rows(root / table):
            if labels.setdefault(value, name) != name:
                raise RecipeError(
                    [f"{root / table}: value {value} is {name}, in another table of this dataset {labels[value]}"]
                )
    return labels


def _table_of(mask: _File, paths: list[str], root: Path) -> str:
    """The look-up table of a segmentation: the nearest one in its folder or above whose entities it has too."""
    own = set(PurePosixPath(mask.path).name.split("_"))
    folders = [str(folder) for folder in PurePosixPath(mask.path).parents]
    tables = [
        path
        for path in paths
        if path.endswith("dseg.tsv")
        and str(PurePosixPath(path).parent) in folders
        and set(PurePosixPath(path).name.split("_")[:-1]) <= own
    ]
    if not tables:
        raise RecipeError([f"{root / mask.path}: has no look-up table *_dseg.tsv beside it or in a folder above"])
    return max(tables, key=lambda path: (path.count("/"), path.count("_")))


def _rows(table: Path) -> Iterator[tuple[str, str]]:
    if not table.is_file():
        raise RecipeError([f"{table}: is no regular file"])
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError([f"{table}: cannot be read: {error}"]) from None
    for number, row in enumerate(rows, 2):
        value, name = (row.get("index") or "").strip(), (row.get("name") or "").strip()
        if not value.isdecimal() or not name:
            raise RecipeError([f"{table}: line {number}: expected the columns 'index', a whole number, and 'name'"])
        if value != "0":
            yield value, class_name(name)
