"""Which keys of a recipe ask for another conversion: every key is of one kind, and the hash follows the kinds."""

from __future__ import annotations

import os
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from builder.sources.load import parse_recipe
from builder.sources.pattern import Pattern
from builder.sources.recipe import CONVERSION_KEYS, DESCRIPTION_KEYS, LICENSE_KEYS, Recipe
from tests.support.sources import RECIPE

TEXT = RECIPE.format(name="Good", license="CC-BY-4.0", modality="ct")
GOOD = parse_recipe(TEXT, "Good.toml")
TAGS = parse_recipe(
    TEXT.split("[files]")[0] + '[files.dicom]\nimage = { modality = "CT" }\nmask = { modality = "SEG" }\n'
    '[labels]\nliver = "liver"\n[masks]\nsegments = true\n',
    "Tags.toml",
)
"""A recipe that finds files by their tags, for the keys that only such a one has."""


def tables_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from tables_in(argument)


def keys_of(table: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a table and of the tables in it, with dots."""
    for name, field in table.model_fields.items():
        if f"{prefix}{name}" in DESCRIPTION_KEYS:  # a whole table may be
            yield f"{prefix}{name}"
            continue
        inner = list(tables_in(field.annotation))
        for found in inner:
            yield from keys_of(found, f"{prefix}{name}.")
        if not inner:
            yield f"{prefix}{name}"


KEYS = sorted(keys_of(Recipe))


def another(value: Any) -> Any:
    """Some other value; the hash asks nobody whether it is allowed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, Pattern):
        return Pattern(f"other/{value.text}")
    if isinstance(value, list):
        return [*value, "one_more"]
    if isinstance(value, dict):
        return {**value, "one_more": ["a"]}
    return f"{value}_other"


def changed(table: BaseModel, key: str) -> BaseModel:
    """The same table with another value at a key."""
    name, _, rest = key.partition(".")
    value = getattr(table, name)
    if not rest:
        new = another(value)
    elif isinstance(value, dict):  # [labels]: its first entry
        first = next(iter(value))
        new = {**value, first: changed(value[first], rest)}
    else:
        new = changed(value, rest)
    return table.model_copy(update={name: new})


def digest_with(key: str) -> str:
    return changed_digest(GOOD, key)


def changed_digest(base: Recipe, key: str) -> str:
    recipe = changed(base, key)
    assert isinstance(recipe, Recipe)
    return recipe.conversion_digest()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_of_one_kind(key: str) -> None:
    assert sum(key in kind for kind in (CONVERSION_KEYS, DESCRIPTION_KEYS, LICENSE_KEYS)) == 1


def test_kinds_name_nothing_that_is_no_key() -> None:
    assert set(KEYS) == CONVERSION_KEYS | DESCRIPTION_KEYS | LICENSE_KEYS


@pytest.mark.parametrize("key", sorted(CONVERSION_KEYS))
def test_another_value_of_a_key_that_shapes_samples_is_another_digest(key: str) -> None:
    base = TAGS if key.startswith("files.dicom.") else GOOD
    assert changed_digest(base, key) != base.conversion_digest()


DESCRIBES = ["title", "homepage", "license_evidence", "access", "citation", "identifiers_evidence", "license", "notes"]
TABLES = """
[size]
cases = 3
[evidence]
layout = ["https://example.org/layout"]
[download]
steps = ["Ask."]
[[examples]]
image = "a.nii.gz"
masks = ["b.nii.gz"]
case = "a"
"""


def test_tables_that_describe_leave_the_digest() -> None:
    described = parse_recipe(TEXT + TABLES, "Good.toml")
    assert described.size.cases == 3
    assert described.conversion_digest() == GOOD.conversion_digest()


@pytest.mark.parametrize("key", DESCRIBES)
def test_description_and_licence_leave_the_digest(key: str) -> None:
    assert digest_with(key) == GOOD.conversion_digest()


def test_a_default_that_is_written_out_leaves_the_digest() -> None:
    written = parse_recipe(f'{TEXT}[masks]\ninverted = false\n[intensity]\nmode = "slice"\n', "Good.toml")
    assert written.conversion_digest() == GOOD.conversion_digest()


def test_order_of_labels_counts_since_it_numbers_the_classes() -> None:
    swapped = parse_recipe(TEXT.replace('1 = "liver"\n2 = "spleen"', '2 = "spleen"\n1 = "liver"'), "Good.toml")
    assert swapped.labels == GOOD.labels
    assert swapped.conversion_digest() != GOOD.conversion_digest()


def test_order_of_keys_leaves_the_digest() -> None:
    lines = TEXT.split("\n\n")
    turned = "\n\n".join(["\n".join(reversed(lines[0].splitlines())), *reversed(lines[1:])])
    assert parse_recipe(turned, "Good.toml").conversion_digest() == GOOD.conversion_digest()


def test_digest_is_the_same_in_another_process() -> None:
    program = (
        "import sys; from builder.sources.load import parse_recipe; "
        "print(parse_recipe(sys.stdin.read(), 'Good.toml').conversion_digest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    ran = subprocess.run(
        [sys.executable, "-c", program], input=TEXT, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == GOOD.conversion_digest()
