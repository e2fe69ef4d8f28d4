"""Recipes of which only metadata is known, and name spaces of patients, as the command line meets them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from builder.command_line import main
from builder.errors import RecipeError
from builder.sources.load import load_metadata, load_recipe
from builder.sources.recipe import Recipe
from tests.support.sources import write_source

METADATA = """
name = "Unseen"
title = "A source whose files nobody described"
homepage = "https://example.org/unseen"
license = "unknown"
modality = "mr"

[evidence]
labels = ["https://example.org/paper"]
checked = { labels = "one" }
"""


@pytest.fixture
def unseen(tmp_path: Path) -> Path:
    path = tmp_path / "Unseen.toml"
    path.write_text(METADATA)
    return path


@pytest.mark.parametrize("command", [["build"], ["sources", "check"]])
def test_metadata_alone_is_refused_with_what_is_missing(
    command: list[str], unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")] if command == ["build"] else []
    assert main([*command, str(unseen), "--raw", str(tmp_path), *out]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "holds metadata only and cannot be built: [files] and [labels] are missing" in told
    assert "sa-med2d sources init --from FOLDER --name Unseen --license unknown --modality mr'" in told
    assert not (tmp_path / "out").exists()


def test_metadata_alone_is_read_as_what_is_known(unseen: Path) -> None:
    known = load_metadata(str(unseen))
    assert not isinstance(known, Recipe)
    assert (known.name, known.evidence.checked.labels, known.evidence.checked.layout) == ("Unseen", "one", "none")


def test_a_recipe_that_forgot_its_files_is_no_metadata(unseen: Path) -> None:
    unseen.write_text(METADATA + '[labels]\n1 = "liver"\n')
    with pytest.raises(RecipeError, match="files: is required and missing"):
        load_recipe(str(unseen))


@pytest.mark.parametrize("address", ["a page", "https://", "example.org/x", "github:owner/name:x", "javascript:x.y/z"])
def test_evidence_is_an_address(unseen: Path, address: str) -> None:
    unseen.write_text(METADATA.replace("https://example.org/paper", address))
    with pytest.raises(RecipeError, match=r"evidence\.labels\.0: .*expected the address of a page"):
        load_metadata(str(unseen))


def test_sources_of_one_name_space_give_a_patient_one_split(tmp_path: Path) -> None:
    names = ("First", "Second")
    recipes = [write_source(tmp_path / "raw", name, cases=12) for name in names]
    for recipe in recipes:
        recipe.write_text(recipe.read_text().replace("[files]", 'patients = "Shared"\n\n[files]'))
    out = tmp_path / "out"
    assert main(["build", *map(str, recipes), "--raw", str(tmp_path / "raw"), "--out", str(out)]) == 0
    splits: dict[tuple[str, str], str] = {}
    for path in sorted((out / "index").rglob("*.parquet")):
        table = pq.ParquetFile(path).read(columns=["source", "patient", "split"]).to_pydict()
        splits |= dict(zip(zip(table["source"], table["patient"], strict=True), table["split"], strict=True))
    first, second = ({who: split for (source, who), split in splits.items() if source == name} for name in names)
    assert len(first) == 12
    assert first == second
    assert len(set(first.values())) > 1, "all in one split would prove nothing"
