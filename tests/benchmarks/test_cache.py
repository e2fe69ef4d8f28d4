"""A cache beside the PNG that it is made of, in one run: 512 x 512 image and label map to arrays, in one process.

``pytest tests/benchmarks/test_cache.py --benchmark-only``
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from builder.command_line import main
from sa_med2d_20m import Output, load
from tests.support.loader_benchmark import build, note_rate, write

BATCH = 16
"""Rows that are held together, as a DataLoader holds them until it has made a batch of them."""
CACHES = ("cache", "cache, by random numbers", "cache, in batches")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 slices with two classes, blurred noise as in MR, and a cache of them."""
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    slices = [cv2.GaussianBlur(rng.normal(0, 400, (512, 512)), (0, 0), 8) for _ in range(120)]
    image = np.stack([one * 20 + rng.normal(0, 12, one.shape) for one in slices], -1).astype(np.int16)
    label = np.stack([(one > 20).astype(np.uint8) + (one > 40) for one in slices], -1)
    write(folder / "Large/images/0.nii.gz", image)
    write(folder / "Large/labels/0.nii.gz", label)
    out = build(folder, "Large", '1 = "grey_matter"\n2 = "white_matter"')
    assert main(["cache", str(out), "--size", "512", "--to", str(folder / "kept"), "--workers", "1"]) == 0
    return folder


@pytest.mark.benchmark(group="512 x 512 image and label map to arrays, one process")
@pytest.mark.parametrize("name", [*CACHES, "PNG", "PNG, with decode=Output(512)"])
def test_cache(benchmark: BenchmarkFixture, folder: Path, name: str) -> None:
    options: dict[str, Any] = {} if name == "PNG" else {"decode": Output(512, channels=1)}
    if name.startswith("cache"):
        options["cache"] = folder / "kept"
    rows: Any = load(folder / "out", "mr-local", **options)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()

    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

    def read() -> int:
        if name.endswith("batches"):
            return sum(len([rows[number] for number in batch]) for batch in batches)
        taken = (rows[number] for number in order) if name.endswith("numbers") else rows
        return sum(1 for _ in taken)

    assert benchmark.pedantic(read, rounds=5, warmup_rounds=1) == len(rows) >= 100
    note_rate(benchmark, len(rows))
