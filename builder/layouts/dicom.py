"""Trees of DICOM files as archives give them: a folder for each series, for each patient, or one for all.

Their files say themselves which belong together, so the recipe names no path.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.cases.dicom_index import index_of
from builder.cases.dicom_series import ImageUnit, MaskUnit, Owners, image_units, kinds_of, mask_units
from builder.cases.discovery import scan
from builder.errors import RecipeError
from builder.layouts.sketch import Sketch, class_name
from builder.readers.dicom.identity import MODALITIES
from builder.readers.files import is_dicom
from shards.console import console, counting, plural

_LOOKED_AT: Final = 200
"""Files that are looked at before a folder is taken for one without DICOM files."""
_SHOWN: Final = 12
"""Series descriptions that a recipe lists."""


@dataclass(frozen=True)
class _Choice:
    """Images of one DICOM modality and masks of one kind that belong to them.

    Attributes:
        images: DICOM modality of the images.
        masks: Modality of the masks.
        pairs: Each mask with the images that it belongs to.
    """

    images: str
    masks: str
    pairs: list[tuple[MaskUnit, list[ImageUnit]]]

    @property
    def annotated(self) -> int:
        """How many images have a mask."""
        return len({unit.name for _, units in self.pairs for unit in units})

    def __str__(self) -> str:
        return f"{self.images} with {self.masks}: {self.annotated:,} annotated, {plural(len(self.pairs), 'mask file')}"


def description_of(path: Path) -> Path | None:
    """See `builder.layouts.Layout`: the folder itself, if it holds DICOM files."""
    if not path.is_dir():
        return None
    files = [name for name in scan(path) if not name.endswith("/")]
    some = files[:: max(1, len(files) // _LOOKED_AT)]
    return path if any(_is_dicom(path / name) for name in some) else None


def _is_dicom(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and is_dicom(path)
    except OSError:
        return False


def sketch(description: Path, modality: str) -> Sketch:
    """See `builder.layouts.Layout`; of several kinds of masks the recipe takes that which most images have."""
    with counting(console(), "looking into DICOM files") as count:
        index = index_of(description, processes=os.cpu_count() or 1, on_file=count)
    images, masks = image_units(index), mask_units(index)
    choices = sorted(_choices(images, masks), key=lambda choice: (-choice.annotated, choice.images, choice.masks))
    fitting = [choice for choice in choices if choice.images in MODALITIES[modality]]
    if not fitting:
        raise RecipeError([_no_choice(description, modality, choices, kinds_of(index))])
    chosen = fitting[0]
    counts = _names(mask for mask, _ in chosen.pairs)
    return Sketch(
        image="",
        mask="",
        labels={name: class_name(name) for name in counts},
        tables={
            "files.dicom.image": {"modality": chosen.images},
            "files.dicom.mask": {"modality": chosen.masks},
            "masks": {"segments": True},
        },
        notes=(
            "names below come from the files; look whether one names a person before others read this",
            f"found: {kinds_of(index)}, of {plural(len({unit.about.patient for unit in images}), 'patient')}",
            *(f"other masks, each a recipe of its own: {choice}" for choice in choices if choice is not chosen),
            f"series of {chosen.images}, of which files.dicom.image.description chooses:",
            *_descriptions(unit.about.description for unit in images if unit.about.modality == chosen.images),
            f"series of {chosen.masks}, of which files.dicom.mask.description chooses:",
            *_descriptions(mask.about.description for mask, _ in chosen.pairs),
            f"masks by name: {', '.join(f'{name!r} {count:,}' for name, count in counts.items())}",
            *_by_place_alone(images, chosen),
        ),
    )


def _by_place_alone(images: list[ImageUnit], chosen: _Choice) -> Iterator[str]:
    """What is to be known of masks whose images are not there."""
    owners = Owners(images)
    count = sum(not owners.referred(mask) for mask, _ in chosen.pairs)
    if count:
        yield (
            f"{plural(count, 'mask file')} of these refer to images that are not here, and were given to all images in "
            "their frame of reference; where that is too much, choose by description"
        )


def _choices(images: list[ImageUnit], masks: list[MaskUnit]) -> Iterator[_Choice]:
    owners = Owners(images)
    found: defaultdict[tuple[str, str], list[tuple[MaskUnit, list[ImageUnit]]]] = defaultdict(list)
    for mask in masks:
        by_modality: defaultdict[str, list[ImageUnit]] = defaultdict(list)
        for unit in owners.of(mask):
            by_modality[unit.about.modality].append(unit)
        for modality, units in by_modality.items():
            found[modality, mask.about.modality].append((mask, units))
    for (image, mask_kind), pairs in found.items():
        yield _Choice(image, mask_kind, pairs)


def _names(masks: Iterable[MaskUnit]) -> dict[str, int]:
    """Names of masks in the order of their spelling, and how many files have each; any case is one name."""
    spelled: dict[str, str] = {}
    counts = Counter[str]()
    for mask in masks:
        names = mask.references.names if mask.references else ()
        for name in {spelled.setdefault(name.lower(), name) for name in names}:
            counts[name] += 1
    return dict(sorted(counts.items()))


def _descriptions(texts: Iterable[str]) -> Iterator[str]:
    counts = Counter(texts).most_common()
    for text, count in counts[:_SHOWN]:
        yield f"  {count:,} x {text!r}"
    if len(counts) > _SHOWN:
        yield f"  and {len(counts) - _SHOWN:,} other descriptions"


def _no_choice(root: Path, modality: str, choices: list[_Choice], held: str) -> str:
    if choices:
        return (
            f"{root}: no masks for --modality {modality} ({' or '.join(MODALITIES[modality])}), but for "
            f"{'; '.join(map(str, choices))}"
        )
    return (
        f"{root}: holds no SEG or RTSTRUCT that belongs to an image, but {held}; where the masks are other files, name "
        "both by pattern (files.image ends in / for a folder with one series); where they are image series, write "
        "[files.dicom] with files.dicom.mask.description"
    )
