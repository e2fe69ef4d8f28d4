"""Sub-modalities: one name for each, whatever a source calls it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

NONE: Final = "00"
"""The name of none, or of one that is not known: the convention of SA-Med2D-20M."""

_NO_DIFFERENCE: Final = re.compile(r"[\W_]+")


def submodality_of(modality: str, name: str) -> str:
    """Bring the name of a sub-modality to its canonical form.

    Args:
        modality: One of `sa_med2d_20m.MODALITIES`.
        name: As a recipe or a file name spells it.

    Returns:
        The canonical name; a name that ``submodalities.toml`` does not know keeps its letters, in small, with
        underscores for hyphens.
    """
    return known_submodality(modality, name) or name.lower().replace("-", "_")


def known_submodality(modality: str, name: str) -> str | None:
    """Find the canonical name of a sub-modality; None where ``submodalities.toml`` does not know it."""
    return NONE if name == NONE else _table().get((modality, _compared(name)))


@cache
def _table() -> Mapping[tuple[str, str], str]:
    """Modality and name, as names are compared -> canonical name.

    Raises:
        ValueError: Two entries claim one name.
    """
    table: dict[tuple[str, str], str] = {}
    text = files("builder").joinpath("submodalities.toml").read_text(encoding="utf-8")
    for modality, entries in tomllib.loads(text).items():
        for canonical, synonyms in entries.items():
            for name in (canonical, *synonyms):
                owner = table.setdefault((modality, _compared(name)), canonical)
                if owner != canonical:
                    raise ValueError(f"submodalities: {modality}: {name!r} belongs to {owner} and {canonical}")
    return table


def _compared(name: str) -> str:
    return _NO_DIFFERENCE.sub("", name.replace("*", "star")).casefold()
