"""What mask files hold, counted before anybody decides what it means: values, colours, named segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from builder.annotations.segments import read_named_masks
from builder.cases.case import Case, MaskFile
from builder.conversion.inputs import annotation_request, read_case_image
from builder.conversion.masks.class_layers import key_of
from builder.conversion.masks.layers import layer_of
from builder.conversion.masks.values import count_values
from builder.errors import CaseError
from builder.readers.files import read_again
from builder.readers.image import Image, PictureSeries, VolumeSeries, grey_of, source_values
from builder.sources.recipe import ANY_INSTANCE, CLASSES, Recipe
from builder.sources.source import Source

BACKGROUND: Final = "background"
IGNORED: Final = "ignored (masks.ignore)"
NEAREST: Final = "the nearest colour"
_BELOW: Final = "below "

Counts = Mapping[str, int]
"""Value, colour or name -> voxels; of named segments, which are not drawn for this, 0."""


@dataclass(frozen=True)
class Found:
    """One value, colour or name in the masks of a source.

    Attributes:
        key: As ``[labels]`` would name it: ``7``, ``#ff0000``, ``GTV_Mass``; with a file's own class before it where
            mask files hold one class each: ``liver: 1``.
        pixels: Voxels that have it; 0 for named segments.
        files: Mask files that hold it.
        meaning: Class, background, ignored or the nearest colour; None where the recipe does not name it.
    """

    key: str
    pixels: int
    files: int
    meaning: str | None


def mask_contents(case: Case, source: Source) -> list[tuple[MaskFile, Counts]]:
    """Count what the mask files of a case hold; files that cannot be read are left to the conversion, which says why.

    Args:
        case: The case.
        source: Its source.
    """
    found = []
    for file in case.masks:
        try:
            counts = _names(case, file, source) if source.recipe.masks.segments else _pixels(file, source)
        except CaseError:
            continue
        found.append((file, counts))
    return found


def summed_contents(contents: Iterable[tuple[MaskFile, Counts]], recipe: Recipe) -> list[Found]:
    """What the masks of several cases hold together, with what the recipe makes of it; unnamed ones first."""
    pixels, files = Counter[tuple[str | None, str]](), Counter[tuple[str | None, str]]()
    for file, counts in contents:
        for key, count in counts.items():
            pixels[file.label, key] += count
            files[file.label, key] += 1
    found = [
        Found(key if label is None else f"{label}: {key}", count, files[label, key], _meaning(key, label, recipe))
        for (label, key), count in pixels.items()
    ]
    return sorted(found, key=_rank)


def unseen_labels(contents: Iterable[tuple[MaskFile, Counts]], recipe: Recipe) -> list[str]:
    """Keys of ``[labels]`` that none of the masks holds; for files of one class, those that no file is of."""
    held = {key.lower() for file, counts in contents for key in ((file.label,) if file.label else counts) if key}
    if ANY_INSTANCE in recipe.labels or recipe.masks.threshold is not None or recipe.masks.inverted:
        return []
    return [key for key in recipe.labels if not any(fnmatchcase(name, key.lower()) for name in held)]


def _names(case: Case, file: MaskFile, source: Source) -> Counts:
    image, _ = read_case_image(case, case.images[0], source)
    request = annotation_request(case, source)
    segments = read_named_masks(source.root, file.path, request).on(image)
    return dict.fromkeys((segment.name for segment in segments or ()), 0)


def _pixels(file: MaskFile, source: Source) -> Counts:
    image = read_again(source.root, file.path, source.mask_rules(file.members, file.layer))
    if file.layer is not None and not source.recipe.layers_by_array:
        image = layer_of(image, file, source.recipe)
    if source.recipe.colours and not _is_grey(image):
        return _colours(image.array)
    values = _values(image)
    threshold = source.recipe.masks.threshold
    if threshold is not None:
        above = int(np.count_nonzero(values >= threshold))
        return {f"{threshold:g} and above": above, f"{_BELOW}{threshold:g}": values.size - above}
    rule = source.recipe.masks
    classes = rule.classed_objects and file.layer == rule.layers.index(CLASSES)
    if not rule.instances or classes:
        return {str(value): count for value, count in count_values(values).items()}
    counts = count_values(values)
    return {"0": counts.pop(0, 0), f"{len(counts):,} objects": sum(counts.values())}


def _values(image: Image) -> npt.NDArray[Any]:
    """(Z, Y, X) or more; of coloured pictures the brightest channel, for a threshold to be seen."""
    if isinstance(image, PictureSeries | VolumeSeries):
        return image.array.reshape(-1, *image.array.shape[-2:])
    values = source_values(image)
    if values.shape[-1] in (3, 4) and _has_colours(image):
        grey = grey_of(values) if values.ndim == 3 else None
        values = values[..., :3].max(axis=-1) if grey is None else grey
    return values[np.newaxis] if values.ndim == 2 else values


def _has_colours(image: Image) -> bool:
    plain = 2 if type(image).__name__ == "Picture" else 3
    return image.array.ndim > plain


def _is_grey(image: Image) -> bool:
    return not _has_colours(image) or isinstance(image, PictureSeries | VolumeSeries)


def _colours(pixels: npt.NDArray[Any]) -> Counts:
    wide = pixels[..., :3].astype(np.int64)
    packed, counts = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_counts=True)
    return {f"#{value:06x}": count for value, count in zip(packed.tolist(), counts.tolist(), strict=True)}


def _meaning(key: str, label: str | None, recipe: Recipe) -> str | None:
    """What the recipe makes of a key, None where it does not name it."""
    rule = recipe.masks
    if rule.segments:
        return IGNORED if key in rule.ignore else _class_of(key, recipe)
    if key in map(str, rule.ignore):
        return IGNORED
    if label is not None or rule.threshold is not None or rule.inverted or rule.instances:
        outside = key == "0" or key.startswith(_BELOW)
        return (
            BACKGROUND if outside != rule.inverted else _class_of(label or next(iter(recipe.labels)), recipe) or label
        )
    if key in ("0", rule.background.lower()):
        return BACKGROUND
    known = _class_of(key, recipe)
    return NEAREST if known is None and recipe.colours and rule.color_match == "nearest" else known


def _class_of(key: str, recipe: Recipe) -> str | None:
    """The class that ``[labels]`` gives a key, with wildcards where masks are named."""
    names = {name.lower(): name for name in recipe.labels}
    named = key_of(key.lower(), recipe.labels) if recipe.masks.segments else names.get(key.lower())
    return None if named is None else recipe.labels[named].label


def _rank(one: Found) -> tuple[int, str, int, str]:
    """Unnamed ones first, background last."""
    label, _, value = one.key.rpartition(": ")
    rank = 0 if one.meaning is None else 2 if one.meaning in (BACKGROUND, IGNORED, NEAREST) else 1
    return (rank, label, int(value), "") if value.lstrip("-").isdecimal() else (rank, label, 0, value)
