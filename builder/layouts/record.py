"""The files that describe a dataset, read as what anybody may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from builder.errors import RecipeError

_LARGEST: Final = {"JSON": 1 << 30, "YAML": 1 << 20}
"""Bytes of a description: COCO annotations are large, lists of class names are not."""

_OF_TAGS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What Python makes of a value that does not fit its tag, such as ``!!int x``."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        RecipeError: It is none.
    """
    text = _text_of(path, "JSON")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _fault(path, "JSON", error) from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        RecipeError: It is none.
    """
    text = _text_of(path, "YAML")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, *_OF_TAGS, RecursionError) as error:
        raise _fault(path, "YAML", error) from None


def _text_of(path: Path, kind: str) -> str:
    try:
        if not path.is_file():
            raise RecipeError([f"{path}: is no regular file"])
        size = path.stat().st_size
        if size > _LARGEST[kind]:
            raise RecipeError([f"{path}: has {size:,} bytes, expected at most {_LARGEST[kind]:,}"])
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _fault(path, kind, error) from None


def _fault(path: Path, kind: str, error: Exception) -> RecipeError:
    reason = "its values are nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
    return RecipeError([f"{path}: cannot be read as {kind}: {reason}"])
