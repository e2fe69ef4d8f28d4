"""The catalogue: the recipes that come with the builder, found and listed without validating them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parents[1] / "catalog"


@dataclass(frozen=True)
class Entry:
    """What a list of the catalogue says of a recipe; tests hold that every recipe is valid and says the same.

    Attributes:
        name: Name of the source.
        title: Full name.
        license: SPDX identifier or ``LicenseRef-...``.
        modality: One of `sa_med2d_20m.MODALITIES`.
    """

    name: str
    title: str
    license: str
    modality: str


def names() -> list[str]:
    """Names of the recipes, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def text_of(name: str) -> str:
    """The text of a recipe, by its name."""
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def entries() -> list[Entry]:
    """All recipes, in the order of their names."""
    read = (tomllib.loads(text_of(name)) for name in names())
    return [Entry(one["name"], one["title"], one["license"], one["modality"]) for one in read]
