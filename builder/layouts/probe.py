"""A look at some files of an unknown dataset: are they masks, and how do their pixels say classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from builder.errors import CaseError
from builder.readers.files import read_header, read_image
from builder.readers.image import Picture, Volume, grey_of, source_values
from builder.readers.rules import DEFAULT_RULES

_OPENED: Final = 24
"""Masks of which the values are counted."""
_FEW: Final = 256
"""More different values than this has no map of classes."""
_OBJECTS: Final = 12
"""From so many different values on a picture may be a map of objects."""
_PURE: Final = 0.001
"""A colour that covers less of what is coloured is an edge that was blended."""
_TURN: Final = 0.03
"""Angle, in radians, within which two colours go the same way from the background."""
_SAME: Final = 0.9
_JPEG: Final = (".jpg", ".jpeg")


@dataclass(frozen=True)
class MaskCoding:
    """How masks say classes, as far as their pixels tell.

    Attributes:
        labels: Keys of ``[labels]`` -> a name that stands for the class.
        masks: Keys of ``[masks]``.
        notes: Sentences for whoever reads the recipe.
    """

    labels: Mapping[str, str]
    masks: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def looks_like_mask(root: Path, path: str) -> bool:
    """Whether a file holds so few whole values, one of them nearly everywhere 0, that it is no picture."""
    try:
        image = read_image(root, path, DEFAULT_RULES)
    except CaseError:
        return False
    if not isinstance(image, Picture | Volume):
        return False
    values = _grey(image)
    if values is None:
        return False
    present = np.unique(values)
    return bool(present.size <= 64 and (present == np.rint(present)).all() and present[0] == 0)


def frames_in(root: Path, path: str) -> int | None:
    """How many volumes or planes without a place a file holds; None where it is one image."""
    try:
        header = read_header(root, path, DEFAULT_RULES)
    except CaseError:
        return None
    return header.shape[0] if len(header.shape) == 4 else None


def mask_coding(root: Path, paths: Sequence[str]) -> MaskCoding:
    """Look at some masks, spread over all.

    Args:
        root: Root of the dataset.
        paths: Its masks.
    """
    step = max(1, len(paths) // _OPENED)
    images = [image for path in paths[::step][:_OPENED] if (image := _read(root, path)) is not None]
    if not images:
        return MaskCoding({"1": "class_1"}, notes=("no mask could be read, so their values are not known",))
    greys = [_grey(image) for image in images]
    if any(grey is None for grey in greys):
        return _colours([image for image in images if isinstance(image, Picture)])
    known = [grey for grey in greys if grey is not None]
    counts = Counter[float]()
    for grey in known:
        present, times = np.unique(grey, return_counts=True)
        counts.update(dict(zip(present.tolist(), times.tolist(), strict=True)))
    lossy = paths[0].lower().endswith(_JPEG)
    return _values(counts, known, lossy=lossy, placed=any(_is_placed(image) for image in images))


def _values(counts: Counter[float], masks: Sequence[npt.NDArray[Any]], *, lossy: bool, placed: bool) -> MaskCoding:
    """The coding of masks without colours."""
    high, total = max(counts), sum(counts.values())
    ends = counts[0] + counts[high]
    if any(value != round(value) for value in counts):
        return MaskCoding(
            {"1": "class_1"},
            {"threshold": high / 2},
            (f"masks hold fractions up to {high:g}: taken for probabilities, foreground from {high / 2:g} on",),
        )
    if len(counts) > 2 and high == 255 and (lossy or ends > _SAME * total):
        why = "JPEG blurs the edges of masks" if lossy else "edges of masks are blended"
        return MaskCoding({"255": "class_1"}, {"threshold": 128}, (f"{why}: foreground is what has at least 128",))
    if not placed and max(np.unique(mask).size for mask in masks) > _OBJECTS and _are_objects(masks):
        return MaskCoding(
            {"*": "class_1"},
            {"instances": True, "min_area": 0},
            (f"values up to {high:g}, each one piece: they are taken for numbers of objects, and small ones are kept",),
        )
    named = sorted(int(value) for value in counts if value)
    if len(named) > _FEW:
        return MaskCoding(
            {str(int(high)): "class_1"}, notes=(f"masks hold {len(named)} values: say what they mean by hand",)
        )
    return MaskCoding({str(value): f"class_{number}" for number, value in enumerate(named or [1], 1)})


def _are_objects(masks: Sequence[npt.NDArray[Any]]) -> bool:
    """Whether nearly every value is one piece."""
    import cc3d  # noqa: PLC0415 - only few masks ask

    pieces = values = 0
    for mask in masks:
        squeezed = np.ascontiguousarray(mask, np.int64).astype(np.uint32)
        pieces += int(
            cc3d.connected_components(squeezed, connectivity=8 if squeezed.ndim == 2 else 26, return_N=True)[1]
        )
        values += np.unique(squeezed[squeezed > 0]).size
    return bool(values and pieces * _SAME <= values)


def _colours(images: Sequence[Picture]) -> MaskCoding:
    counts = Counter[int]()
    for image in images:
        pixels = image.array[..., :3] if image.array.ndim == 3 else np.repeat(image.array[..., np.newaxis], 3, axis=2)
        wide = pixels.astype(np.int64)
        present, times = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_counts=True)
        counts.update(dict(zip(present.tolist(), times.tolist(), strict=True)))
    background = 0 if counts[0] else counts.most_common(1)[0][0]
    coloured = sum(counts.values()) - counts[background]
    frequent = [value for value, count in counts.items() if value != background and count > _PURE * coloured]
    pure = sorted(value for value in frequent if not _is_blended(value, frequent, background))
    blended = len(counts) - len(pure) - 1
    masks: dict[str, Any] = {} if background == 0 else {"background": f"#{background:06x}"}
    notes = [f"the background of masks is taken to be #{background:06x}"]
    if blended > 0:
        masks["color_match"] = "nearest"
        notes.append(
            f"{blended} colours cover little each: they are taken for blended edges, and become the nearest one"
        )
    labels = {f"#{value:06x}": f"class_{number}" for number, value in enumerate(pure, 1)}
    return MaskCoding(labels, masks, tuple(notes))


def _is_blended(colour: int, others: Sequence[int], background: int) -> bool:
    """Whether a colour lies between the background and another one, as interpolation makes it."""
    ground = _rgb(background)
    own = _rgb(colour) - ground
    for other in others:
        whole = _rgb(other) - ground
        lengths = float(np.linalg.norm(own)), float(np.linalg.norm(whole))
        if lengths[0] < lengths[1] and float(own @ whole) > (1 - _TURN**2 / 2) * lengths[0] * lengths[1]:
            return True
    return False


def _rgb(value: int) -> npt.NDArray[np.float64]:
    return np.array([value >> 16, value >> 8 & 255, value & 255], np.float64)


def _read(root: Path, path: str) -> Picture | Volume | None:
    try:
        image = read_image(root, path, DEFAULT_RULES)
    except CaseError:
        return None
    return image if isinstance(image, Picture | Volume) else None


def _is_placed(image: Picture | Volume) -> bool:
    return isinstance(image, Volume) and image.affine is not None


def _grey(image: Picture | Volume) -> npt.NDArray[Any] | None:
    """Its values without colours, None where it has unequal ones."""
    values = source_values(image)
    if isinstance(image, Volume):
        return values if values.ndim == 3 else None
    return values if values.ndim == 2 else grey_of(values)
