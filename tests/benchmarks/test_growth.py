"""How time and memory grow with slices and with sources; see README.md beside this file for figures.

Each measurement is a command in a process of its own: ``pytest tests/benchmarks/test_growth.py -m slow -rP``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.support.large_index import write_large_index
from tests.support.nifti import write_nifti
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map


@dataclass(frozen=True)
class Measured:
    """Wall time in seconds and peak resident memory in MB of a command."""

    seconds: float
    megabytes: float


COMMAND = "from builder.command_line import main; assert main(sys.argv[1:]) == 0"
PLAN = (
    "from pathlib import Path; from builder.run.build import plan; from builder.run.options import Options; "
    "from builder.sources.load import load_recipe; plan([load_recipe(p) for p in sys.argv[2:]], Path(sys.argv[1]), Options())"
)
PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
"""Not the figure that `wait4` gives: that begins with the memory of the process that started it."""


def measure(*arguments: object, script: str = COMMAND) -> Measured:
    """Run a script, the command unless said otherwise, and wait for its figures."""
    started = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; {script}; {PEAK}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return Measured(time.perf_counter() - started, int(ran.stdout.split()[-1]) / 1024)


def show(what: str, **figures: Measured) -> None:
    cells = " | ".join(f"{name} {one.seconds:.1f} s, {one.megabytes:.0f} MB" for name, one in figures.items())
    print(f"{what}: {cells}")  # noqa: T201 - shown by pytest -rP


def all_commands(recipes: Sequence[Path], raw: Path, out: Path) -> dict[str, Measured]:
    return {
        "build": measure("build", *recipes, "--raw", raw, "--out", out, "--workers", 1),
        "resume": measure("build", *recipes, "--raw", raw, "--out", out, "--workers", 1),
        "index": measure("index", out),
        "verify": measure("verify", out),
    }


@pytest.mark.slow
@pytest.mark.parametrize("slices", [1_000, 10_000, 100_000])
def test_slices(tmp_path: Path, slices: int) -> None:
    recipe = write_source(tmp_path / "raw", cases=0)
    for folder, array in (("images", ct_like()), ("labels", organ_map())):
        write_nifti(tmp_path / f"raw/Small/{folder}/first.nii.gz", array)
        for number in range(slices // 78):  # a case gives 78
            os.link(tmp_path / f"raw/Small/{folder}/first.nii.gz", tmp_path / f"raw/Small/{folder}/{number:05d}.nii.gz")
    show(f"{slices} slices", **all_commands([recipe], tmp_path / "raw", tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("sources", [10, 100, 1000])
def test_sources(tmp_path: Path, sources: int) -> None:
    recipes = [write_source(tmp_path / "raw", f"Source{number:04d}", cases=1) for number in range(sources)]
    show(f"{sources} sources", **all_commands(recipes, tmp_path / "raw", tmp_path / "out"))


@pytest.mark.slow
def test_planning_of_the_whole_collection(tmp_path: Path) -> None:
    """219 sources with five million slices: their headers are real, their voxels were never written."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((512, 512, 300))
    header.set_data_dtype(np.int16)
    header.set_sform(np.diag([0.8, 0.8, 1.0, 1.0]), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    cases = -(-5_000_000 // (219 * (512 + 512 + 300)))
    recipes = []
    for number in range(219):
        recipe = write_source(tmp_path / "raw", f"Source{number:04d}", cases=0)
        recipe.write_text(recipe.read_text().replace(".nii.gz", ".nii"))
        recipes.append(recipe)
        for folder in ("images", "labels"):
            (tmp_path / f"raw/Source{number:04d}/{folder}").mkdir(parents=True)
            for case in range(cases):
                (tmp_path / f"raw/Source{number:04d}/{folder}/{case:03d}.nii").write_bytes(
                    header.binaryblock + bytes(4)
                )
    planned = measure(tmp_path / "raw", *recipes, script=PLAN)
    show(f"planning 219 sources, {219 * cases} volumes", plan=planned)
    assert planned.megabytes < 1000


@pytest.mark.slow
def test_reports_of_a_million_images(tmp_path: Path) -> None:
    write_large_index(tmp_path, 1_000_000)
    show("1,000,000 images", stats=measure("stats", tmp_path), report=measure("report", tmp_path))
