"""Each script in examples/ runs on a small set that was built for it, and what it learns gets better."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builder.command_line import main
from tests.support.sources import write_source

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    recipe = write_source(folder / "raw", "Small", cases=2)
    arguments = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


def run(name: str, *arguments: object) -> str:
    """What a script prints."""
    script = ROOT / "examples" / f"{name}.py"
    for module in re.findall(r"^(?:from|import) (torch|monai)\b", script.read_text(), re.MULTILINE):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    command = [sys.executable, str(script), *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 60
    assert script.stem not in sys.stdlib_module_names  # which the script's own imports would find instead


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_stand_where_training_is_described(script: Path) -> None:
    assert f"](../examples/{script.name})" in (ROOT / "docs/training.md").read_text()


def test_classes_are_counted(out: Path) -> None:
    printed = run("count_classes", out)
    assert re.search(r"^liver: \d+ masks, 0\.\d+$", printed, re.MULTILINE)
    assert re.search(r"^ct train: \d+ images of \d patients$", printed, re.MULTILINE)


def test_resume(out: Path) -> None:
    printed = run("resume", out, "ct-local")
    assert "resumed exactly: True" in printed
    seen = re.search(r"two workers: (\d+) images, (\d+) of", printed)
    assert seen is not None
    assert seen[1] == seen[2] != "0"


@pytest.mark.parametrize("arguments", [("unet", "liver", 25), ("prompts", 40), ("clips", 40)], ids=lambda of: of[0])
def test_what_is_trained_gets_better(out: Path, arguments: tuple[str | int, ...]) -> None:
    name, *further = arguments
    printed = run(str(name), out, "ct-local", *further)
    losses = re.search(r"loss from ([\d.]+) to ([\d.]+)", printed)
    assert losses is not None
    assert float(losses[2]) < 0.8 * float(losses[1])
