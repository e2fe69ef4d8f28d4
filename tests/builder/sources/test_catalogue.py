"""Every recipe of the catalogue: what it must say, and what is built of the tree that its examples describe."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from builder.sources import catalogue
from builder.sources.load import load_metadata
from builder.sources.metadata import SourceMetadata
from builder.sources.recipe import Example, Recipe
from builder.sources.vocabulary import vocabulary
from shards.license import UNPUBLISHED, terms
from tests.support.command import Command
from tests.support.example_tree import captured, keys_of, write_examples

NAMES = catalogue.names()
KNOWN: dict[str, SourceMetadata] = {name: load_metadata(name) for name in NAMES}
RECIPES = {name: known for name, known in KNOWN.items() if isinstance(known, Recipe)}


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_says_where_its_facts_stand(name: str) -> None:
    known = KNOWN[name]
    assert known.name == name
    assert known.homepage
    assert known.citation
    assert known.license in UNPUBLISHED or (known.license_evidence and terms(known.license) is not None)
    checked = known.evidence.checked
    assert (checked.layout == "none") == (known.evidence.layout is None)
    assert (checked.labels == "none") == (known.evidence.labels is None)
    places = set(known.evidence.layout or ())
    assert checked.layout != "two" or len(places) > 1
    if isinstance(known, Recipe):
        assert "none" not in (checked.layout, checked.labels), "a layout that stands nowhere is a guess"
        assert known.examples


@pytest.mark.parametrize("name", RECIPES)
def test_every_class_of_a_recipe_is_in_the_vocabulary(name: str) -> None:
    recipe = RECIPES[name]
    named = [label.label for label in recipe.labels.values()] + list(recipe.regions)
    named += [text for example in recipe.examples for text in labels_of(recipe, example) if text not in recipe.labels]
    assert [label for label in named if vocabulary().find(label) is None] == []


@pytest.mark.parametrize("name", RECIPES)
def test_examples_of_a_recipe_build(name: str, sa_med2d: Command, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    write_examples(recipe, tmp_path / "raw" / name)
    ran = sa_med2d("build", name, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err + ran.out
    rows = [
        row for path in (tmp_path / "out/index").rglob("*.parquet") for row in pq.ParquetFile(path).read().to_pylist()
    ]
    hashed = (tmp_path / f"out/build/identifiers/{name}.json").is_file()
    built = {row["case"] for row in rows}
    frames = recipe.files.frames
    if not hashed and not frames:
        assert built == {example.case for example in recipe.examples}
        assert {row["case"]: row["patient"] for row in rows} == {e.case: e.patient or e.case for e in recipe.examples}
    assert len({row["patient"] for row in rows}) == len({e.patient or e.case for e in recipe.examples})
    assert {mask["label"] for row in rows for mask in row["masks"]} == expected_classes(recipe)
    official = {frameless(e.case): e.split for e in recipe.examples if e.split is not None}
    if not hashed:
        assert {frameless(row["case"]): row["split"] for row in rows if row["official_split"]} == official


def frameless(case: str) -> str:
    """The image that a frame is of; the case itself where it is no frame."""
    return case.split("_frame", maxsplit=1)[0]


def labels_of(recipe: Recipe, example: Example) -> list[str]:
    return [text for path in example.masks if (text := captured(recipe, path)) is not None]


def expected_classes(recipe: Recipe) -> set[str]:
    """Names of the vocabulary for what the recipe names, and for the captured texts that it does not."""
    keys = {key for example in recipe.examples for key in keys_of(recipe, example)}
    named = [recipe.labels[key].label if key in recipe.labels else key for key in keys] + list(recipe.regions)
    found = {name: vocabulary().find(name) for name in named}
    return {term.label for term in found.values() if term is not None}
