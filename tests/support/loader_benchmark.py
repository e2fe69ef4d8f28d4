"""What benchmarks of the loader share: volumes that are written and built, their shards, and rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from builder.command_line import main
from builder.commands.demo import demo_folder

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


def build_large(folder: Path, *, cases: int, slices: int) -> Path:
    """MNI152 enlarged to 512 x 512, with noise as scanners have it; grey and white matter are the masks.

    Each case fills a shard, of as many slices.
    """
    pytest.importorskip("nilearn", reason="the benchmarks read a volume out of nilearn")
    rng = np.random.default_rng(0)

    def enlarged(volume: Any, interpolation: int) -> Any:
        kept = range(20, 20 + slices)
        return np.stack([cv2.resize(volume[:, :, at], (512, 512), interpolation=interpolation) for at in kept], -1)

    with demo_folder() as raw:
        t1, grey, white = (
            np.asarray(nibabel.Nifti1Image.from_filename(next(raw.rglob(f"*_{name}_*"))).dataobj).astype(np.float32)
            for name in ("t1", "gm", "wm")
        )
    image = enlarged(t1, cv2.INTER_CUBIC) * 10
    label = enlarged(np.clip((grey > 128) + 2 * (white > 128), 0, 2).astype(np.uint8), cv2.INTER_NEAREST)
    for case in range(cases):
        noisy = (image + rng.normal(0, 12, image.shape)).astype(np.int16)
        write(folder / f"Large/images/{case}.nii.gz", noisy)
        write(folder / f"Large/labels/{case}.nii.gz", label)
    return build(folder, "Large", '1 = "grey_matter"\n2 = "white_matter"')


def write(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0])), path)


def tars(out: Path) -> list[str]:
    return [str(path) for path in sorted(out.glob("data/**/*.tar"))]


def note_rate(benchmark: BenchmarkFixture, count: int) -> None:
    assert benchmark.stats is not None
    benchmark.extra_info["samples a second"] = round(count / benchmark.stats.stats.median)
