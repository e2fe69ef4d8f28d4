"""Quality gates look for what is often wrong, and do what the recipe says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from builder.errors import CaseError
from builder.readers.image import Picture, Volume
from builder.sources.recipe import GateName, Gates

NEARLY_ALL: Final = 0.95
"""Share of the pixels of a slice. A mask that covers more may be inverted; the release holds such a set."""

TISSUE: Final = (-1500.0, 4095.0)
"""HU between which tissue and air lie, with the noise of sharp kernels; padding and metal lie beyond."""


@dataclass(frozen=True)
class Tally:
    """What rules and gates did to a case. Tallies add up.

    Attributes:
        dropped: Rule or gate -> number of slices (or masks) that were left out.
        flagged: Gate -> number of slices (or files) that were kept in spite of it.
        lost_pixels: Rule or gate -> mask pixels that it left out, counted anew in each image and along each axis.
        bad_masks: Mask files that were left out, and why.
        lost_by_class: The same pixels as in ``lost_pixels``, by rule or gate and class.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    lost_pixels: Counter[str] = field(default_factory=Counter)
    bad_masks: tuple[CaseError, ...] = ()
    lost_by_class: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.dropped + other.dropped,
            self.flagged + other.flagged,
            self.lost_pixels + other.lost_pixels,
            self.bad_masks + other.bad_masks,
            self.lost_by_class + other.lost_by_class,
        )


def lost(reason: str, pixels: Mapping[str, int]) -> Tally:
    """Count mask pixels that a rule or gate left out.

    Args:
        reason: The rule or gate.
        pixels: Class -> pixels.

    >>> lost("edge", {"liver": 3, "spleen": 0}).lost_pixels
    Counter({'edge': 3})
    """
    by_class = +Counter({(reason, label): count for label, count in pixels.items()})
    return Tally(lost_pixels=+Counter({reason: by_class.total()}), lost_by_class=by_class)


def apply_gate(gates: Gates, gate: GateName, file: str, reason: str | None, withheld: str | None = None) -> Tally:
    """Do what the recipe says about something that a gate found.

    Args:
        gates: ``[gates]`` of the recipe.
        gate: The gate.
        file: File that it was found in, relative to the source's root.
        reason: What was found; None for nothing.
        withheld: The same without texts of the file; None where it quotes none.

    Returns:
        One ``dropped`` or one ``flagged``. What was found in must be left out where the tally has a ``dropped``.

    Raises:
        CaseError: Stage ``gate``, for ``quarantine``.
    """
    action = gates.action(gate)
    if reason is None or action == "off":
        return Tally()
    if action == "quarantine":
        advice = f"[gates] {gate} in the recipe says what to do with such"
        hidden = None if withheld is None else f"{gate}: {withheld}; {advice}"
        raise CaseError("gate", file, f"{gate}: {reason}; {advice}", withheld=hidden)
    counted = Counter[str]({gate: 1})
    return Tally(dropped=counted) if action == "drop" else Tally(flagged=counted)


def has_two_values(array: npt.NDArray[Any]) -> bool:
    """Tell whether an image has exactly two values, as a mask has.

    Args:
        array: (Z, Y, X), (H, W) or either with colours; no NaN.
    """
    low, high = array.min(), array.max()
    return bool(low != high) and not any(((part != low) & (part != high)).any() for part in array)


def without_nonfinite(image: Picture | Volume) -> tuple[Picture | Volume, int]:
    """Replace NaN and infinite values by the lowest finite value of the image, or by 0 where it has none.

    Returns:
        The image, and the number of values that were replaced. Where that is 0, it is the very same image.
    """
    if image.array.dtype.kind != "f" or all(np.isfinite(part).all() for part in image.array):
        return image, 0
    finite = np.isfinite(image.array)
    low = image.array[finite].min() if finite.any() else image.array.dtype.type(0)
    return replace(image, array=np.where(finite, image.array, low)), int(finite.size - finite.sum())
