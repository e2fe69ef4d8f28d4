"""Several raters of one image: the layers of mask files, and which masks make a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.annotations.segments import DEFAULT_REQUEST, read_named_masks
from builder.cases.case import MaskFile
from builder.errors import CaseError
from builder.readers.files import read_header
from builder.readers.rules import ReadRules
from builder.sources.recipe import CLASSES, JOINED, OBJECTS, Raters, Recipe


@dataclass(frozen=True)
class MaskSet:
    """The masks of one case.

    Attributes:
        masks: Ordered as they came.
        rater: Whose masks they are, as the metadata say it; None where the source has one set.
        suffix: What tells the case from others of the same image: ``@rater``, or nothing.
        vote: How masks of several raters become one, or None.
    """

    masks: tuple[MaskFile, ...]
    rater: str | None = None
    suffix: str = ""
    vote: str | None = None


def mask_sets(rule: Raters, masks: Sequence[MaskFile]) -> list[MaskSet]:
    """What the masks of an image make: one case, or one for each rater; none where no rater that counts drew it.

    Masks without a rater, of a pattern of their own, belong to every rater.

    Args:
        rule: ``[raters]`` of the recipe.
        masks: All masks of the image.
    """
    if not masks or rule.use is None:
        return [MaskSet(tuple(masks))] if masks else []
    raters = sorted({mask.rater for mask in masks if mask.rater is not None and counts(rule, mask.rater)})
    if rule.use in JOINED:
        kept = tuple(mask for mask in masks if mask.rater is None or mask.rater in raters)
        return [MaskSet(kept, f"{rule.use} of {len(raters)}", vote=rule.use)] if raters else []
    each = rule.use == "each"
    return [
        MaskSet(tuple(mask for mask in masks if mask.rater in (None, rater)), rater, f"@{rater}" if each else "")
        for rater in raters
    ]


def counts(rule: Raters, rater: str) -> bool:
    """Whether the masks of a rater are taken."""
    return (not rule.names or rater in rule.names) and rule.use in ("each", *JOINED, rater)


def _drawn_by(root: Path, mask: MaskFile) -> int | None:
    """How many raters a file of named masks is by; None where that cannot be told, and the conversion says why."""
    try:
        return read_named_masks(root, mask.path, DEFAULT_REQUEST).raters
    except CaseError:
        return None


def layered(recipe: Recipe, root: Path, mask: MaskFile, rules: ReadRules) -> list[MaskFile]:
    """A mask file as its layers, which stand for classes or for raters; itself where it has none.

    The file's header says how many raters drew it; where that cannot be read, the conversion says what is wrong.
    """
    names = recipe.layers
    if not names:
        return [mask]
    if recipe.masks.classed_objects:
        return [replace(mask, layer=number) for number, name in enumerate(names) if name in (OBJECTS, CLASSES)]
    if recipe.masks.layers:
        kept = [(number, name) for number, name in enumerate(names) if not recipe.leaves_out(name)]
        return [replace(mask, label=name, layer=number) for number, name in kept]
    count = len(names)
    if recipe.masks.segments:
        return [replace(mask, rater=name, layer=number) for number, name in enumerate(names[: _drawn_by(root, mask)])]
    if recipe.masks.layer_axis == "first" and not recipe.files.frames and not recipe.layers_by_array:
        try:
            shape = read_header(root, mask.path, rules).shape
        except CaseError:
            shape = ()
        # a file of one layer is a picture where others are a stack of them
        count = 1 if len(shape) == 2 else min(shape[0], count) if shape else count
    return [replace(mask, rater=name, layer=number) for number, name in enumerate(names[:count])]
