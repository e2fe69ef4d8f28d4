"""A shell that asks how a line may go on, by the protocol of argcomplete: the line in the environment, answers on 8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("argcomplete", reason="the extra 'publish' is not installed")


def offered(line: str, folder: Path) -> set[str]:
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    environment = {
        **os.environ,
        **asked,
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", ""))),
    }
    ran = subprocess.run(
        ["bash", "-c", 'exec 8>&1 >&2; exec "$0" -m builder', sys.executable],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=True,
    )
    return {answer.strip() for answer in ran.stdout.splitlines()}


def test_commands_and_their_options(tmp_path: Path) -> None:
    assert offered("sa-med2d wi", tmp_path) == {"withdraw"}
    assert {"build", "sources", "publish"} <= offered("sa-med2d ", tmp_path)
    assert offered("sa-med2d verify --d", tmp_path) == {"--deep"}


def test_names_of_the_catalogue_and_recipe_files(tmp_path: Path) -> None:
    (tmp_path / "MNI_mine.toml").touch()
    (tmp_path / "MNI_notes.txt").touch()
    assert offered("sa-med2d build MNI", tmp_path) == {"MNI152", "MNI_mine.toml"}
    assert offered("sa-med2d sources show Star", tmp_path) == {"StarDist_Nuclei"}


def test_options_that_are_declared_late(tmp_path: Path) -> None:
    assert offered("sa-med2d build MNI152 --case", tmp_path) == {"--case-minutes"}
    assert offered("sa-med2d demo --executor l", tmp_path) == {"local"}


def test_choices(tmp_path: Path) -> None:
    assert offered("sa-med2d publish OUT owner/name --modality m", tmp_path) == {"mr", "microscopy"}


def test_marked_for_global_completion() -> None:
    for module in ("command_line.py", "__main__.py"):
        head = (Path(__file__).parents[3] / "builder" / module).read_bytes()[:1024]
        assert b"PYTHON_ARGCOMPLETE_OK" in head
