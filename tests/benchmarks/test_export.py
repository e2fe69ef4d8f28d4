"""Exports on one worker, beside a bound that reads the same samples and codes the same pictures, and writes nothing.

``--benchmark-only -m ''`` runs it; the extra column says images a second.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from builder.command_line import main
from builder.commands.demo import demo_folder
from sa_med2d_20m import decode_masks, select
from shards.export.layouts import LAYOUTS
from tests.support.loader_benchmark import note_rate


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNI152, three axes, two maps that overlap."""
    pytest.importorskip("nilearn", reason="the benchmarks read a volume out of nilearn")
    folder = tmp_path_factory.mktemp("export")
    with demo_folder() as raw:
        arguments = ["build", "MNI152", "--raw", raw, "--out", folder / "out", "--workers", 1]
        assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


@pytest.mark.benchmark(group="export, one worker")
def test_bound(benchmark: BenchmarkFixture, out: Path) -> None:
    """A PNG for each mask by OpenCV, in memory."""

    def code() -> int:
        selection, count = select(out, "mr"), 0
        for number in range(len(selection.parts)):
            for _, label_map, record in selection.samples(number):
                for mask in decode_masks({**record, "mask": label_map}):
                    cv2.imencode(".png", mask.astype(np.uint8) * 255)
                count += 1
        return count

    note_rate(benchmark, benchmark.pedantic(code, rounds=3, warmup_rounds=1))


@pytest.mark.benchmark(group="export, one worker")
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_export(benchmark: BenchmarkFixture, out: Path, tmp_path: Path, layout: str) -> None:
    to = tmp_path / "to"
    arguments = ["export", out, "--to", to, "--layout", layout, "--config", "mr", "--workers", 1]

    def export() -> None:
        assert main([str(argument) for argument in arguments]) == 0

    benchmark.pedantic(export, setup=lambda: shutil.rmtree(to, ignore_errors=True), rounds=3, warmup_rounds=1)
    note_rate(benchmark, sum(part.samples for part in select(out, "mr").parts))
    written = [path.stat().st_size for path in to.rglob("*") if path.is_file()]
    benchmark.extra_info["files"], benchmark.extra_info["MB"] = len(written), round(sum(written) / 1e6, 1)
