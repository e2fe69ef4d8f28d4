"""What benchmarks of the loader share: volumes that are written and built, their shards, and rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from builder.command_line import main

RECIPE = """\
name = "{name}"
title = "Volumes that a benchmark wrote"
license = "CC0-1.0"
modality = "mr"
axes = ["x"]
[files]
image = "images/{{case}}.nii.gz"
mask = "labels/{{case}}.nii.gz"
[labels]
{labels}
[splits]
train = ["*"]
"""


def build(folder: Path, name: str, labels: str) -> Path:
    recipe = folder / f"{name}.toml"
    recipe.write_text(RECIPE.format(name=name, labels=labels))
    arguments = ["build", recipe, "--raw", folder, "--out", folder / "out", "--workers", 1, "--shard-size", "20MB"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


def write(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0])), path)


def tars(out: Path) -> list[str]:
    return [str(path) for path in sorted(out.glob("data/**/*.tar"))]


def note_rate(benchmark: BenchmarkFixture, count: int) -> None:
    assert benchmark.stats is not None
    benchmark.extra_info["samples a second"] = round(count / benchmark.stats.stats.median)
