"""Every command is given every kind of wrong input once; each ends in a sentence and an exit code, never in a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.command import Command, Ran
from tests.support.release import good_files, with_json, write_tree
from tests.support.sources import write_source

CODES = (1, 2, 3)
NAME, LICENCE, MODALITY = ("--name", "A"), ("--license", "MIT"), ("--modality", "ct")

COMMANDS = {
    "recipe of build": ("build", "WRONG", "--raw", "RAW", "--out", "OUT"),
    "raw of build": ("build", "RECIPE", "--raw", "WRONG", "--out", "OUT"),
    "out of build": ("build", "RECIPE", "--raw", "RAW", "--out", "WRONG", "--workers", "1"),
    "recipe of check": ("sources", "check", "WRONG"),
    "raw of check": ("sources", "check", "RECIPE", "--raw", "WRONG"),
    "recipe of show": ("sources", "show", "WRONG"),
    "folder of init": ("sources", "init", "--from", "WRONG", *NAME, *LICENCE, *MODALITY),
    "folder of verify": ("verify", "WRONG"),
    "folder of verify --deep": ("verify", "WRONG", "--deep"),
    "folder of index": ("index", "WRONG"),
    "folder of remove": ("remove", "Small", "WRONG"),
    "folder of publish": ("publish", "WRONG", "owner/name", "--dry-run"),
    "folder of status": ("status", "owner/name", "WRONG"),
    "out of demo": ("demo", "--out", "WRONG", "--workers", "1"),
    "release of import": ("import", "WRONG", "--out", "OUT"),
    "out of import": ("import", "RELEASE", "--out", "WRONG", "--workers", "1"),
    "set of export": ("export", "WRONG", "--to", "OUT", "--layout", "coco"),
}
"""Place of the wrong input -> command."""


def missing(folder: Path) -> str:
    return str(folder / "not here")


def empty_file(folder: Path) -> str:
    (folder / "empty.toml").touch()
    return str(folder / "empty.toml")


def binary_file(folder: Path) -> str:
    (folder / "binary.toml").write_bytes(Random(1).randbytes(5000))
    return str(folder / "binary.toml")


def wrong_types(folder: Path) -> str:
    (folder / "types.toml").write_text('name = 1\ntitle = []\nlicense = 2020-01-01\nfiles = "a"\nlabels = [1]\n')
    return str(folder / "types.toml")


def folder_for_file(folder: Path) -> str:
    (folder / "folder.toml").mkdir()
    return str(folder / "folder.toml")


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.toml")
    return str(folder / "pipe.toml")


def circle(folder: Path) -> str:
    (folder / "circle").symlink_to("circle")
    return str(folder / "circle")


def too_long(_: Path) -> str:
    return "x" * 5000


def with_nul(_: Path) -> str:
    return "a\0b.toml"


def no_utf8(_: Path) -> str:
    return "\udcff\udcfe"


def markup(_: Path) -> str:
    return "[/red][bold]a[/bold]"


def url_that_nothing_reads(_: Path) -> str:
    return "nowhere://bucket/out"


def closed(folder: Path) -> str:
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0)
    return str(folder / "closed/in.toml")


KINDS: tuple[Callable[[Path], str], ...] = (
    missing,
    empty_file,
    binary_file,
    wrong_types,
    folder_for_file,
    pipe,
    circle,
    too_long,
    with_nul,
    no_utf8,
    markup,
    url_that_nothing_reads,
    *(() if os.geteuid() == 0 else (closed,)),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command is called in; nothing answers where the Hub should."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


def check(ran: Ran, named: str) -> None:
    said = " ".join(ran.err.split())
    assert ran.code in CODES, said
    assert "Traceback" not in ran.err
    assert "error: " in said
    assert any(form in said for form in (named, named.replace("://", ":/"), ascii(named).strip("'"))), said


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize("place", COMMANDS)
def test_wrong_input_is_named(sa_med2d: Command, here: Path, place: str, kind: Callable[[Path], str]) -> None:
    wrong = kind(here)
    if place in ("out of build", "out of demo", "out of import") and kind in (
        missing,
        no_utf8,
        markup,
        folder_for_file,
    ):
        pytest.skip("a folder can be made there")
    recipe = write_source(here / "raw", cases=1)
    places = {"WRONG": wrong, "RAW": here / "raw", "RECIPE": recipe, "OUT": here / "out"}
    if "RELEASE" in COMMANDS[place]:
        places["RELEASE"] = write_tree(here, with_json(good_files()))
    ran = sa_med2d(*(places.get(word, word) for word in COMMANDS[place]))
    check(ran, "owner/name" if place == "folder of status" and "owner/name" in ran.err else wrong)


@pytest.mark.parametrize("value", ["-1", "0", "x", "", "1e999", "nan", "-inf", "9" * 5000, "1.5x"])
@pytest.mark.parametrize("option", ["--workers", "--shard-size", "--case-minutes", "--limit-cases"])
def test_wrong_numbers_are_named(sa_med2d: Command, here: Path, option: str, value: str) -> None:
    ran = sa_med2d("build", "A", "--raw", here, "--out", here / "out", option, value)
    assert (ran.code, ran.out) == (2, "")
    assert f"argument {option}: " in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "repository", ["", "name", "a/b/c", "a//b", "../b", "a/b\0", "[red]/b", "ä/b", "x" * 300 + "/b"]
)
@pytest.mark.parametrize("command", [("publish", "BUILT", "REPO"), ("withdraw", "Small", "REPO"), ("status", "REPO")])
def test_wrong_repositories_are_named(sa_med2d: Command, here: Path, repository: str, command: tuple[str, ...]) -> None:
    places = {"BUILT": here / "built", "REPO": repository}
    if "BUILT" in command:
        recipe = write_source(here / "raw", cases=1)
        assert sa_med2d("build", recipe, "--raw", here / "raw", "--out", here / "built", "--workers", 1).code == 0
    check(sa_med2d(*(places.get(word, word) for word in command)), repository)
