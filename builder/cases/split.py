"""Which split a patient belongs to."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

_ALIASES: Final = {
    "train": ("train", "training", "tr"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "ts"),
}


def hashed_split(space: str, patient: str) -> str:
    """80 % train, 10 % validation, 10 % test, by sha256 of name space and patient.

    The same patient gets the same split wherever and whenever it is built; adding patients moves none.
    """
    digest = hashlib.sha256(f"{space}\0{patient}".encode("utf-8", "surrogateescape")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"


def official_split(captured: str | None, patient: str, splits: Mapping[str, Sequence[str]]) -> str | None:
    """The split that the source itself gives a case.

    Args:
        captured: What ``{split}`` captured in its path, or None.
        patient: Its patient.
        splits: ``[splits]`` of the recipe: split -> captured texts, or patient names with ``*`` and ``?``.

    Returns:
        The split; None where the source has no official one, or does not place this case.
    """
    if captured is not None:
        named = next((split for split, texts in splits.items() if captured in texts), None)
        return named or next((split for split, names in _ALIASES.items() if captured.lower() in names), None)
    for split, patterns in splits.items():
        if any(fnmatch.fnmatchcase(patient, pattern) for pattern in patterns):
            return split
    return None
