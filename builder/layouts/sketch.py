"""A recipe before it is written down: what a layout says, without name, licence and modality."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shards.console import printable

_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9]+")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Sketch:
    """What a dataset says of itself.

    Attributes:
        image: Pattern of its images; empty where a further table says which they are.
        mask: Pattern of its masks, or several; as above.
        labels: Key of ``[labels]`` -> class name; empty where the mask pattern captures ``{label}``.
        title: Its name.
        homepage: Where it comes from.
        citation: Its reference.
        submodality: Of all its images.
        files: Further keys of ``[files]``.
        tables: Further tables of the recipe, by name.
        notes: Sentences for the person who reads the recipe.
        root: Folder of the source where the sketch is guessed from names, so that it must be tried; else None.
    """

    image: str
    mask: str | list[str]
    labels: Mapping[str, str]
    title: str = ""
    homepage: str = ""
    citation: str = ""
    submodality: str = "00"
    files: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    root: Path | None = None


def recipe_text(found: Sketch, *, name: str, license_id: str, modality: str) -> str:
    """Write a sketch down as a recipe (TOML)."""
    lines = [
        *(f"# {printable(' '.join(note.split()))}" for note in found.notes),
        _entry("name", name),
        _entry("title", found.title or name),
        _entry("homepage", found.homepage),
        _entry("license", license_id),
        '# license_evidence = "https://..."  # where the licence was read; nothing is published without it',
        _entry("citation", found.citation),
        _entry("modality", modality),
    ]
    if found.submodality != "00":
        lines.append(_entry("submodality", found.submodality))
    tables = {
        "files": {**({"image": found.image, "mask": found.mask} if found.image else {}), **found.files},
        **{name: table for name, table in found.tables.items() if name.startswith("files.")},
        "labels": found.labels,
        **{name: table for name, table in found.tables.items() if not name.startswith("files.")},
    }
    for table, entries in tables.items():
        if entries:
            lines += ["", f"[{table}]", *(_entry(key, value) for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def class_name(text: str) -> str:
    """A class name as recipes write it."""
    return _NOT_IN_NAME.sub("_", text).strip("_") or "unnamed"


def submodality_name(text: str) -> str:
    """A sub-modality as recipes write it; T2* is not T2."""
    return class_name(text.replace("*", "star")).lower() if _NOT_IN_NAME.sub("", text) else "00"


def _entry(key: str, value: Any) -> str:
    return f"{key if _BARE_KEY.fullmatch(key) else _value(key)} = {_value(value)}"


def _value(value: Any) -> str:
    """A value in TOML, whose strings, whole numbers, booleans and lists are those of JSON, but for DEL."""
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return text.encode("utf-8", "replace").decode()  # JSON may hold halves of characters
