"""Quality gates: what is wrong often enough to look for, and what a recipe says should happen then."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from builder.errors import CaseError
from builder.readers.image import Picture, Volume
from builder.sources.recipe import GateAction, GateName

NEARLY_ALL: Final = 0.95
"""Share of a slice beyond which a mask is taken for an inverted one (the release holds such a set)."""


@dataclass(frozen=True)
class Tally:
    """What the rules and gates did to a case; counted while it is converted.

    Attributes:
        dropped: Rule or gate -> how many slices (or masks) were left out.
        flagged: Gate -> how many slices (or files) were kept in spite of it.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)


def apply_gate(name: GateName, action: GateAction, file: str, reason: str, tally: Tally) -> bool:
    """Do what the recipe says about something that a gate found.

    Args:
        name: The gate.
        action: ``off``, ``flag``, ``drop`` or ``quarantine``.
        file: File that it was found in.
        reason: What was found.
        tally: Where it is counted.

    Returns:
        Whether to keep what it was found in.

    Raises:
        CaseError: Stage ``gate``, for ``quarantine``.
    """
    if action == "quarantine":
        raise CaseError("gate", file, f"{name}: {reason}; [gates] {name} in the recipe says what to do with such")
    if action == "flag":
        tally.flagged[name] += 1
    if action == "drop":
        tally.dropped[name] += 1
    return action != "drop"


def has_two_values(array: npt.NDArray[Any]) -> bool:
    """Whether an image has exactly two values, as a mask that was taken for an image has."""
    low, high = array.min(), array.max()
    return bool(low != high) and not any(((part != low) & (part != high)).any() for part in array)


def without_nonfinite(image: Picture | Volume) -> tuple[Picture | Volume, int]:
    """Replace NaN and infinite values by the lowest finite one.

    Returns:
        The image, the same object where all is finite, and the number of values that were replaced.
    """
    if image.array.dtype.kind != "f" or all(np.isfinite(part).all() for part in image.array):
        return image, 0
    finite = np.isfinite(image.array)
    low = image.array[finite].min() if finite.any() else image.array.dtype.type(0)
    return replace(image, array=np.where(finite, image.array, low)), int(finite.size - finite.sum())
