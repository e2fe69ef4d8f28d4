"""The catalogue: the recipes that come with the builder, found without reading them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parents[1] / "catalog"


def names() -> list[str]:
    """Names of the recipes, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def text_of(name: str) -> str:
    """The text of a recipe, by its name."""
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
