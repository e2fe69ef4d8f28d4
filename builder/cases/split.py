"""Which split a patient belongs to."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Final

from sa_med2d_20m import SPLITS
from shards.description import HASHED_RATIOS

_ALIASES: Final = {
    "train": ("train", "training", "tr"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "ts"),
}


def hashed_split(space: str, patient: str, ratios: Sequence[float] = HASHED_RATIOS, seed: int = 0) -> str:
    """80 % train, 10 % validation, 10 % test, or other ratios, by sha256 of name space and patient.

    The same patient gets the same split wherever and whenever it is built; adding patients moves none.

    Args:
        space: Name space of patients.
        patient: The patient.
        ratios: Shares of train, validation and test, which add up to 1.
        seed: Deals all patients anew; 0 is the default, which adds nothing to what is hashed.
    """
    text = f"{space}\0{patient}" + (f"\0{seed}" if seed else "")
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    borders = accumulate(Decimal(repr(ratio)) for ratio in ratios)  # as they are written: 0.8 and 0.1 are 0.9
    return next((split for split, border in zip(SPLITS, borders, strict=True) if share < float(border)), SPLITS[-1])


def official_split(captured: str | None, patient: str, splits: Mapping[str, Sequence[str]]) -> str | None:
    """The split that the source itself gives a case.

    Args:
        captured: What ``{split}`` captured in its path, or None.
        patient: Its patient.
        splits: ``[splits]`` of the recipe: split -> captured texts, or patient names with ``*`` and ``?``. Of several
            that fit, the one with the most other characters counts.

    Returns:
        The split; None where the source has no official one, or does not place this case.
    """
    if captured is not None:
        return named_split(captured, splits)
    fitting = [
        (len(pattern) - pattern.count("*") - pattern.count("?"), split)
        for split, patterns in splits.items()
        for pattern in patterns
        if fnmatch.fnmatchcase(patient, pattern)
    ]
    return max(fitting, key=lambda found: found[0])[1] if fitting else None


def named_split(text: str, splits: Mapping[str, Sequence[str]]) -> str | None:
    """The split that a text of the source means: by what a recipe lists for each, else by its usual names."""
    named = next((split for split, texts in splits.items() if text in texts), None)
    return named or next((split for split, names in _ALIASES.items() if text.lower() in names), None)
