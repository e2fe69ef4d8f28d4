"""How the mask files of a source encode its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from builder.sources.classes import SourceClasses
from builder.sources.recipe import Masks, Recipe


@dataclass(frozen=True)
class MaskEncoding:
    """How the mask files of a source encode its classes.

    Attributes:
        rule: ``[masks]`` of the recipe.
        labels: Key of ``[labels]`` -> class number, 0 for what is left out, in the order of the recipe.
        numbers: Key of ``[labels]``, or text that ``{label}`` captures -> class number.
        regions: For each region its class number and the class numbers of its parts.
        colours: Whether the keys of ``[labels]`` are colours.
        dtype: Of class maps.
    """

    rule: Masks
    labels: Mapping[str, int]
    numbers: Mapping[str, int]
    regions: tuple[tuple[int, tuple[int, ...]], ...]
    colours: bool
    dtype: type[np.uint8 | np.uint16]


def mask_encoding(recipe: Recipe, classes: SourceClasses) -> MaskEncoding:
    """Gather what a recipe and its classes say about mask files."""
    numbers = classes.numbers
    return MaskEncoding(
        rule=recipe.masks,
        labels={key: numbers[key] for key in recipe.labels},
        numbers=numbers,
        regions=tuple(
            (numbers[region], tuple(numbers[str(part)] for part in parts)) for region, parts in recipe.regions.items()
        ),
        colours=recipe.colours,
        dtype=classes.dtype,
    )
