"""A folder that holds a part of what its card promises: an error that says which part, and how to get it."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub.utils._paths import filter_repo_objects

from builder.command_line import main
from sa_med2d_20m import DatasetError, interleave, load
from tests.support.sources import write_source

LICENSES = {"Free": ("CC-BY-4.0", "ct"), "Share": ("CC-BY-SA-4.0", "ct"), "Magnet": ("CC0-1.0", "mr")}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources of two modalities in two splits; nobody writes to it."""
    folder = tmp_path_factory.mktemp("whole")
    recipes = []
    for name, (license_id, modality) in LICENSES.items():
        recipe = write_source(folder / "raw", name, cases=2, license_id=license_id, modality=modality)
        recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00"]\ntest = ["case01"]\n')
        recipes.append(recipe)
    arguments = ["build", *recipes, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


def fetch(out: Path, part: Path, patterns: Iterable[str]) -> Path:
    """Copy what a download of the Hub with these ``allow_patterns`` would bring."""
    paths = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    for path in filter_repo_objects(paths, allow_patterns=list(patterns)):
        (part / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / path, part / path)
    return part


def sources(rows: Any) -> set[str]:
    return {row["source"] for row in rows}


@pytest.mark.parametrize(
    ("patterns", "config", "split", "missing"),
    [
        (["data/mr/*", "index/mr/*"], "ct", "train", ["data/ct/cc-by-4.0/*/train-*.tar", "data/ct/cc-by-sa-4.0/*/train-*.tar"]),
        (["data/mr/*", "index/mr/*"], "all", "train", ["data/ct/cc-by-4.0/*/train-*.tar", "data/ct/cc-by-sa-4.0/*/train-*.tar"]),
        (["data/mr/*", "index/mr/*"], None, "test", ["data/ct/cc-by-4.0/*/test-*.tar"]),
        (["data/*/train-*", "index/*/train-*"], "mr", "test", ["data/mr/cc0-1.0/*/test-*.tar"]),
        (["data/ct/cc-by-4.0/*", "index/*"], "ct-commercial", "train", ["data/ct/cc-by-sa-4.0/*/train-*.tar"]),
        (["index/*"], "all", "test", ["data/ct/cc-by-4.0/*/test-*.tar"]),
        (["data/ct/*"], "ct", "train", ["index/ct/*"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "options", [{}, {"view": "mask"}, {"streaming": False}, {"labels": "liver", "planes": "axial"}]
)
def test_what_is_missing_is_said(
    out: Path, tmp_path: Path, patterns: list[str], config: str | None, split: str, missing: list[str], options: dict[str, Any]
) -> None:  # fmt: skip
    part = fetch(out, tmp_path / "part", ["README.md", *patterns])
    with pytest.raises(DatasetError) as failed:
        list(load(part, config, split=split, **options))
    for pattern in missing:
        assert pattern in str(failed.value)


@pytest.mark.parametrize("config", ["ct", "all", "all-permissive", "mr", "all-local"])
def test_the_advice_fetches_what_is_missing(out: Path, tmp_path: Path, config: str) -> None:
    part = fetch(out, tmp_path / "part", ["README.md"])
    with pytest.raises(DatasetError, match="it was downloaded in part") as failed:
        load(part, config)
    advised = re.search(r"allow_patterns=(\[.*?\](?= *$|, or))", str(failed.value))
    assert advised is not None
    fetch(out, part, ast.literal_eval(advised[1]))
    assert [row["key"] for row in load(part, config)] == [row["key"] for row in load(out, config)]


def test_what_is_there_is_named_and_loads(out: Path, tmp_path: Path) -> None:
    part = fetch(out, tmp_path / "part", ["README.md", "data/mr/*", "index/mr/*"])
    with pytest.raises(DatasetError, match=r"or load what is there: mr, mr-commercial, mr-local, mr-permissive$"):
        load(part, "all")
    assert sources(load(part, "mr")) == {"Magnet"}
    assert sources(load(part, "all", sources="Magnet")) == {"Magnet"}
    assert sources(load(part, "all", licenses="CC0-1.0")) == {"Magnet"}
    further: list[dict[str, Any]] = [{"sources": ["Magnet", "Free"]}, {"licenses": ["CC0-1.0", "CC-BY-4.0"]}]
    for options in further:
        with pytest.raises(DatasetError, match=r"no file data/ct/cc-by-4\.0"):
            load(part, "all", **options)


def test_another_split_that_is_missing_hides_no_error(out: Path, tmp_path: Path) -> None:
    part = fetch(out, tmp_path / "part", ["README.md", "data/*/train-*", "index/*/train-*"])
    with pytest.raises(DatasetError, match=r"no labels 'livr' here; did you mean liver\?"):
        load(part, "ct", labels="livr")


def test_mix_of_modalities_that_are_there(out: Path, tmp_path: Path) -> None:
    part = fetch(out, tmp_path / "part", ["README.md", "data/mr/*", "index/mr/*"])
    with pytest.raises(DatasetError, match=r"no file data/ct/cc-by-4\.0"):
        interleave(part, "all")
    with pytest.raises(DatasetError, match=r"no file data/ct/cc-by-4\.0"):
        interleave(part, "all", weights={"ct": 1, "mr": 1})
    assert sources(interleave(part, "all", weights={"mr": 1, "ct": 0})) == {"Magnet"}


def test_a_pattern_of_all_modalities_promises_each_that_the_card_names(out: Path, tmp_path: Path) -> None:
    part = fetch(out, tmp_path / "part", ["README.md", "data/mr/*", "index/mr/*"])
    _, head, text = (part / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(head)
    for config in front["configs"]:
        if config["config_name"] == "all":
            for files in config["data_files"]:
                files["path"] = [f"data/*/*/*/{files['split']}-*.tar"]
    (part / "README.md").write_text(f"---\n{yaml.safe_dump(front)}---\n{text}")
    said = r"no file data/ct/cc-by-4\.0/\*/train-\*\.tar, data/ct/cc-by-sa-4\.0/\*/train-\*\.tar; .* what is there: mr,"
    with pytest.raises(DatasetError, match=said):
        load(part, "all")
    fetch(out, part, ["data/ct/*", "index/ct/*"])
    assert sources(load(part, "all")) == set(LICENSES)
