"""Each script in examples/ runs on the demo as its first lines say, and what it learns gets better."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import pytest

from tests.support.command import Ran
from tests.support.output import members

ROOT = Path(__file__).parents[1]


def run(name: str, out: Path, *further: object) -> str:
    """What a script prints, called by the line below its title that names the demo, from beside the demo."""
    script = ROOT / "examples" / f"{name}.py"
    text = script.read_text()
    for module in re.findall(r"^(?:from|import) (torch|monai)\b", text, re.MULTILINE):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    line = re.search(rf"^python examples/{name}\.py (demo\b.*)$", text, re.MULTILINE)
    assert line is not None, "its first lines name no command for the demo"
    command = [sys.executable, script, *shlex.split(line[1], comments=True), *further]
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=out.parent,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 60
    assert script.stem not in sys.stdlib_module_names  # which the script's own imports would find instead


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_stand_where_training_is_described(script: Path) -> None:
    assert f"](../examples/{script.name})" in (ROOT / "docs/training.md").read_text()


def test_classes_are_counted(demo: tuple[Path, Ran]) -> None:
    """Beside the metadata in the tars themselves."""
    records = [json.loads(data) for name, data in members(demo[0]) if name.endswith(".json")]
    shares = defaultdict(list)
    for record in records:
        for mask in record["masks"]:
            shares[mask["label"]].append(mask["area"] / (record["height"] * record["width"]))
    images = Counter((record["modality"], record["split"]) for record in records)
    people = {(record["modality"], record["split"], record["source"], record["patient"]) for record in records}
    lines = run("count_classes", demo[0]).splitlines()
    found = {line.split(": ")[0]: line for line in lines}
    assert len(shares) == 3
    for label, held in shares.items():
        counted = re.fullmatch(rf"{label}: (\d+) masks, ([\d.]+)", found[label])
        assert counted is not None
        assert int(counted[1]) == len(held)
        assert float(counted[2]) == pytest.approx(median(held), abs=6e-5)
    assert [line for line in lines if " images of " in line] == [
        f"{modality} {split}: {count} images of {sum(one[:2] == (modality, split) for one in people)} patients"
        for (modality, split), count in sorted(images.items())
    ]


def test_resume(demo: tuple[Path, Ran]) -> None:
    printed = run("resume", demo[0])
    assert "resumed exactly: True" in printed
    seen = re.search(r"two workers: (\d+) images, (\d+) of", printed)
    assert seen is not None
    held = [name for name, _ in members(demo[0]) if name.startswith("microscopy") and name.endswith(".json")]
    assert int(seen[1]) == int(seen[2]) == len(held) > 0


@pytest.mark.parametrize(("name", "steps"), [("unet", 25), ("prompts", 40), ("clips", 40)])
def test_what_is_trained_gets_better(demo: tuple[Path, Ran], name: str, steps: int) -> None:
    printed = run(name, demo[0], steps)
    losses = re.search(r"loss from ([\d.]+) to ([\d.]+)", printed)
    assert losses is not None
    assert float(losses[2]) < 0.8 * float(losses[1])
