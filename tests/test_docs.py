"""The documents agree with the code that they describe, and their examples run."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from sa_med2d_20m import (
    NORMALISATIONS,
    TIERS,
    WINDOWS,
    Dropped,
    Intensity,
    Mask,
    Metadata,
    Output,
    Prompts,
    Where,
)
from shards.citation import bibtex
from shards.contract import meaning_faults, type_faults
from shards.description import read_sources
from shards.license import tiers
from shards.receipt import Piece, Quarantined, Receipt
from tests.support.command import Command, run_quietly
from tests.support.nifti import read_nifti

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONTRACT = (DOCS / "contract.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = CONTRACT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def table(heading: str) -> list[tuple[str, str]]:
    """First and second column of the table below a heading."""
    section = CONTRACT.split(f"\n### {heading}\n")[1].split("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [(row[0].strip("`"), row[1]) for row in rows[2:]]


def in_words(hint: Any) -> str:
    """A type as the tables spell it."""
    arguments = [argument for argument in typing.get_args(hint) if argument is not Ellipsis]
    if isinstance(hint, types.UnionType):
        return " or ".join(in_words(argument) for argument in arguments)
    if typing.get_origin(hint) is tuple and Ellipsis in typing.get_args(hint):
        return f"list of {in_words(arguments[0])}"
    if typing.get_origin(hint) is tuple:
        return f"[{', '.join(map(in_words, arguments))}]"
    if typing.get_origin(hint) is typing.Literal:
        return in_words(type(arguments[0]))
    if typing.get_origin(hint) is dict:
        return f"object of {in_words(arguments[1])}"
    words = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    return words.get(hint) or str(hint.__name__)


def fields(record: type) -> list[tuple[str, str]]:
    hints = typing.get_type_hints(record)
    return [(field.name, in_words(hints[field.name])) for field in dataclasses.fields(record)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output OUT of the recipe in the contract, from three cases, one of which has no image."""
    folder = tmp_path_factory.mktemp("docs")
    (recipe,) = blocks("toml")
    (folder / "MySpleen.toml").write_text(recipe)
    volume = np.arange(20 * 18 * 16, dtype=np.int16).reshape(20, 18, 16)
    labels = np.zeros(volume.shape, np.uint8)
    labels[4:12, 5:13, 3:9] = 1
    for case in ("a", "b", "c"):
        for kind, array in (("imagesTr", volume), ("labelsTr", labels)):
            (folder / "raw" / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / "raw" / kind / f"{case}.nii.gz")
    (folder / "raw" / "imagesTr" / "c.nii.gz").write_bytes(b"no image")
    arguments = ("--raw", folder / "raw", "--out", folder / "OUT", "--workers", 1)
    ran = run_quietly("build", folder / "MySpleen.toml", *arguments)
    assert ran.code == 3, ran.err
    return folder


def test_the_reference_of_recipes_is_what_the_models_say() -> None:
    command = [sys.executable, "-m", "builder.sources.schema", "--markdown"]
    written = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", cwd=ROOT).stdout
    stale = "run: python -m builder.sources.schema --markdown > docs/recipe-reference.md"
    assert (DOCS / "recipe-reference.md").read_text(encoding="utf-8") == written, stale


@pytest.mark.parametrize("record", [Metadata, Intensity, Dropped, Mask, Receipt, Piece, Quarantined])
def test_each_field_is_in_its_table(record: type) -> None:
    assert table(f"{record.__name__} fields") == fields(record)


def test_each_field_of_a_source_is_in_its_table(built: Path) -> None:
    source = read_sources(built / "OUT")["MySpleen"]
    assert table("Source fields") == [(name, kind.replace("Description", "")) for name, kind in fields(type(source))]
    assert table("SourceClass fields") == fields(type(source.classes[0]))


def test_each_column_of_the_index_is_in_a_table(built: Path) -> None:
    (path,) = (built / "OUT" / "index").rglob("train-*.parquet")
    columns = [(column.name, str(column.type)) for column in pq.read_schema(path)]
    of_metadata = len(table("Metadata fields"))
    assert [name for name, _ in columns[:of_metadata]] == [name for name, _ in table("Metadata fields")]
    assert columns[of_metadata:] == table("Further columns of the index")


def test_each_file_of_an_output_folder_is_in_the_layout(built: Path) -> None:
    (layout,) = blocks("text")
    named = [line.split()[0].removeprefix("OUT/") for line in layout.splitlines()]
    patterns = [re.compile(re.sub(r"\\{\w+\\}", r"[^/]+", re.escape(path))) for path in named]
    found = [path.relative_to(built / "OUT").as_posix() for path in (built / "OUT").rglob("*") if path.is_file()]
    assert [path for path in found if not any(pattern.fullmatch(path) for pattern in patterns)] == []
    unseen = [pattern.pattern for pattern in patterns if not any(pattern.fullmatch(path) for path in found)]
    assert unseen in ([], [re.escape("build/lock")])  # some systems delete a lock that nobody holds


def test_the_example_of_metadata_is_valid() -> None:
    (example,) = (json.loads(block) for block in blocks("json"))
    assert list(type_faults(example)) == []
    assert list(meaning_faults(example)) == []
    assert list(example) == [field.name for field in dataclasses.fields(Metadata)]


def test_the_examples_run(built: Path) -> None:
    examples = blocks("python")
    assert examples
    for example in examples:
        subprocess.run([sys.executable, "-c", example], cwd=built, check=True)


def test_the_examples_of_volumes_run(built: Path, tmp_path: Path) -> None:
    (tmp_path / "OUT").symlink_to(built / "OUT")
    examples = blocks("python", (DOCS / "volumes.md").read_text(encoding="utf-8"))
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    for path in tmp_path.glob("*[!_ids].nii.gz"):
        assert np.asarray(read_nifti(path).dataobj).shape == (20, 18, 16)
    assert len(list(tmp_path.glob("*.nii.gz"))) >= 2


def test_the_example_of_caches_runs(
    built: Path, tmp_path: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (DOCS / "cache.md").read_text(encoding="utf-8")
    (tmp_path / "OUT").symlink_to(built / "OUT")
    (command,), (example,) = blocks("bash", page), blocks("python", page)
    monkeypatch.chdir(tmp_path)
    assert sa_med2d(*command.split()[1:], "--workers", 1).code == 0
    subprocess.run([sys.executable, "-c", example], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


@pytest.mark.parametrize("number", range(6))
def test_the_examples_of_training_run(built: Path, tmp_path: Path, number: int) -> None:
    example = blocks("python", (DOCS / "training.md").read_text(encoding="utf-8"))[number]
    if "torch" in example:
        pytest.importorskip("torch")
    (tmp_path / "OUT").symlink_to(built / "OUT")
    if "LOSSLESS" in example:
        (recipe,) = blocks("toml")
        (tmp_path / "MySpleen.toml").write_text(f'{recipe}\n[intensity]\nmode = "lossless"\n')
        arguments = ("--raw", built / "raw", "--out", tmp_path / "LOSSLESS", "--workers", 1)
        assert run_quietly("build", tmp_path / "MySpleen.toml", *arguments).code == 3
    ran = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_every_option_of_training_is_explained() -> None:
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    for options in (Output, Prompts, Where):
        assert [field.name for field in dataclasses.fields(options) if f"{field.name}" not in page] == []
    assert [name for name in (*WINDOWS, *NORMALISATIONS) if f'"{name}"' not in page] == []


@pytest.mark.parametrize("number", range(3))
def test_the_commands_for_an_unknown_folder_run(
    number: int, corpus: Path, tmp_path: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand on the page, but for where the corpus lies; ours in this process, others by a shell."""
    commands = blocks("bash", (DOCS / "unknown-folder.md").read_text(encoding="utf-8"))
    assert len(commands) == 3
    (tmp_path / "corpus").symlink_to(corpus)
    monkeypatch.chdir(tmp_path)
    said = ""
    for line in commands[number].replace("\\\n", "").splitlines():
        name, *words = shlex.split(line)
        if name != "sa-med2d":
            subprocess.run(["sh", "-c", line], check=True)
            continue
        end = words.index(">") if ">" in words else len(words)
        ran = sa_med2d(*words[:end])
        assert ran.code == 0, ran.err
        for file in words[end + 1 :]:
            Path(file).write_text(ran.out, encoding="utf-8")
        said += "" if words[end:] else ran.out
    assert "class_" not in said
    assert "no findings" in said


def test_the_example_of_the_hub_runs() -> None:
    (example,) = blocks("python", (ROOT / "tests" / "hub" / "README.md").read_text(encoding="utf-8"))
    subprocess.run([sys.executable, "-c", example], cwd=ROOT, check=True)


@pytest.mark.parametrize("tier", TIERS)
def test_the_example_of_each_tier_is_in_it_and_in_no_narrower_one(tier: str) -> None:
    example = re.search(rf"^\| `{tier}` \|.*\| (\S+) \|$", CONTRACT, re.MULTILINE)
    assert example is not None
    assert tiers(example[1])[-1] == tier


@pytest.mark.parametrize(
    "path", [*DOCS.glob("*.md"), *ROOT.glob("*.md"), ROOT / "tests" / "hub" / "README.md"], ids=str
)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        page = path.parent / file if file else path
        assert page.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, target


def test_files_and_tests_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:builder|shards|tests|docs)/[\w/.]*\w)", text)
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    names = re.findall(r"\b(test_\w+)\b(?!\.py)", text)
    assert [name for name in names if f"def {name}(" not in tests] == []


def test_what_is_cited_is_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


def test_the_paper_of_the_release_is_cited_alike() -> None:
    paper, *_ = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    entry = " ".join(bibtex().split())
    for held in (paper["title"], authors, paper["doi"].removeprefix("10.48550/"), str(paper["year"])):
        assert held.replace("arXiv.", "arXiv:") in entry


def test_the_recipe_of_dicom_trees_is_one() -> None:
    from builder.sources.load import parse_recipe  # noqa: PLC0415

    (text,) = blocks("toml", (DOCS / "dicom.md").read_text(encoding="utf-8"))
    recipe = parse_recipe(text, "dicom.md")
    assert recipe.files.dicom is not None
    assert recipe.files.dicom.image.description == ["*thorax*"]
