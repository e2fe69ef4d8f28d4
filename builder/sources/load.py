"""Recipes are loaded from files and from the catalogue; every fault is told in words."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from builder.errors import RecipeError
from builder.sources import catalogue
from builder.sources.metadata import SourceMetadata
from builder.sources.recipe import Recipe
from builder.sources.table import models_in


def load_recipe(reference: str) -> Recipe:
    """Load a recipe by file or by its name in the catalogue.

    Raises:
        RecipeError: There is none, it is not valid, or it holds metadata only; every fault is named.
    """
    return parse_recipe(*_text_of(reference))


def load_metadata(reference: str) -> SourceMetadata:
    """Load what is known of a source, a `Recipe` where its layout is known too.

    Raises:
        RecipeError: There is none, or it is not valid; it names every fault.
    """
    return parse_metadata(*_text_of(reference))


def load_all(references: Sequence[str], load: Callable[[str], _Kind]) -> list[_Kind]:
    """Load several, by `load_recipe` or `load_metadata`.

    Raises:
        RecipeError: Some cannot be loaded; the faults of all are named.
    """
    loaded, problems = [], []
    for reference in references:
        try:
            loaded.append(load(reference))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return loaded


def _text_of(reference: str) -> tuple[str, str]:
    """The text of a recipe, and how messages call it."""
    path = Path(reference)
    if path.suffix == ".toml" or path.is_file():
        return _read(path), str(path)
    names = catalogue.names()
    if reference not in names:
        near = difflib.get_close_matches(reference, names, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "'sa-med2d sources list' shows all"
        raise RecipeError([f"{reference}: neither a recipe file (.toml) nor in the catalogue; {hint}"])
    return catalogue.text_of(reference), f"{reference}.toml"


def _read(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise RecipeError([f"{path}: cannot be read: it is no regular file"])
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError([f"{path}: cannot be read: {reason}"]) from None


def parse_recipe(text: str, name: str) -> Recipe:
    """Validate the text of a recipe.

    Args:
        text: TOML.
        name: How messages call it.

    Raises:
        RecipeError: The text is not valid, or holds metadata only; it names every fault.
    """
    record = _record(text, name)
    if not _tells_files(record):
        known = _validated(SourceMetadata, record, name)
        raise RecipeError([f"{name}: {_metadata_only(known)}"])
    return _validated(Recipe, record, name)


def parse_metadata(text: str, name: str) -> SourceMetadata:
    """Validate the text of a recipe that may hold metadata only.

    Args:
        text: TOML.
        name: How messages call it.

    Returns:
        A `Recipe` where the text says what its files are.

    Raises:
        RecipeError: The text is not valid; it names every fault.
    """
    record = _record(text, name)
    return _validated(Recipe if _tells_files(record) else SourceMetadata, record, name)


def _tells_files(record: dict[str, Any]) -> bool:
    """Whether a recipe has any key that only a source of known layout has, so that leaving out [files] is a fault."""
    return not set(record) <= set(SourceMetadata.model_fields)


def _metadata_only(known: SourceMetadata) -> str:
    missing = "[files] and [labels] are missing, because its layout stands in no public place that was found"
    where = f" at {known.homepage}" if known.homepage else ""
    return (
        f"holds metadata only and cannot be built: {missing}; get the data{where}, draft a recipe with "
        f"'sa-med2d sources init --from FOLDER --name {known.name} --license {known.license} --modality "
        f"{known.modality}', and build that file"
    )


def _record(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also of numbers with thousands of digits
        raise RecipeError([f"{name}: no valid TOML: {error}"]) from None
    except RecursionError:
        raise RecipeError([f"{name}: no valid recipe: its values are nested too deep"]) from None


_Kind = TypeVar("_Kind", bound=SourceMetadata)


def _validated(kind: type[_Kind], record: dict[str, Any], name: str) -> _Kind:
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        raise RecipeError([f"{name}: {_sentence(fault)}" for fault in error.errors()]) from None


def _sentence(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        allowed = _keys_at(fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1]), allowed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(allowed)}"
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: is required and missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    prefix = f"{where}: " if where else ""
    message = message if message.startswith("'") else f"{message[0].lower()}{message[1:]}"
    given = fault["input"]
    shown = f"{given!r}: " if isinstance(given, str | int | float) and repr(given) not in message else ""
    return f"{prefix}{shown}{message}"


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = next(iter(models_in(model.model_fields[part].annotation)), model)
    return list(model.model_fields)
