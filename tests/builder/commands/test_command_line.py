"""The command as a shell starts it: quick to answer, and its ends are told by exit codes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.command import Command

HEAVY = [
    "SimpleITK",
    "cv2",
    "datasets",
    "huggingface_hub",
    "nibabel",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pydicom",
    "rich",
    "upath",
    "yaml",
]
"""Packages that cost tens or hundreds of milliseconds to import."""

STARTED = """
import sys
from builder.command_line import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(" ".join({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def imported(*arguments: str) -> set[str]:
    ran = subprocess.run([sys.executable, "-c", STARTED, *arguments], capture_output=True, text=True, check=True)
    assert ran.stdout
    return set(ran.stderr.split())


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("build", "--help"), ("sources", "--help"), ("verify", "--help")]
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not imported(*arguments).intersection(HEAVY)


def test_list_of_the_catalogue_imports_no_more_than_its_table() -> None:
    assert imported("sources", "list").intersection(HEAVY) <= {"rich", "pydantic"}


def test_version_is_that_of_the_package(sa_med2d: Command) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    ran = sa_med2d("--version")
    assert (ran.code, ran.out) == (0, f"sa-med2d {project['version']}\n")


@pytest.mark.parametrize(("arguments", "offered"), [((), ["build", "verify", "publish"]), (("sources",), ["list"])])
def test_without_a_command_it_shows_them(sa_med2d: Command, arguments: tuple[str, ...], offered: list[str]) -> None:
    ran = sa_med2d(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert all(f"\n    {name} " in ran.err for name in offered)


def test_help_lists_the_choices(sa_med2d: Command) -> None:
    assert "{ct,mr,pet,ultrasound," in " ".join(sa_med2d("sources", "init", "--help").out.split())
    assert "{all,commercial,permissive}" in " ".join(sa_med2d("publish", "--help").out.split())
    assert "{local,ray,slurm}" in " ".join(sa_med2d("build", "--help").out.split())


def test_wrong_choice_names_the_right_ones(sa_med2d: Command) -> None:
    ran = sa_med2d("sources", "init", "--from", ".", "--name", "A", "--license", "MIT", "--modality", "mri")
    assert ran.code == 2
    assert "'mri'" in ran.err
    assert "mr" in ran.err.partition("choose from")[2]
