"""A long build under fire: 20,000 slices, 200 kills, and at the end the same bytes as if nothing had happened."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support.build_process import command, workers_of
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members, tree
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map

SLICES = 20_000
KILLS = 200
SHAPE = (40, 1024, 1024)
"""Of each case: so large that the build outlasts the kills."""


def write_large_cases(raw: Path, cases: int) -> Path:
    """Cases of 40 axial slices, all links to one that is made of squares, so that it takes time and little space."""
    recipe = write_source(raw, cases=0)
    recipe.write_text(f'axes = ["x"]\n{recipe.read_text()}')
    squares = np.kron(ct_like(shape=(SHAPE[0], 16, 16)), np.ones((1, 64, 64), np.int16))
    for folder, volume in (("images", squares), ("labels", organ_map(SHAPE))):
        write_nifti(raw / f"large/{folder}.nii.gz", volume)
        (raw / f"Small/{folder}").mkdir(parents=True)
        for number in range(cases):
            (raw / f"Small/{folder}/case{number:03d}.nii.gz").hardlink_to(raw / f"large/{folder}.nii.gz")
    return recipe


def shoot(process: subprocess.Popen[bytes], rng: random.Random) -> bool:
    """Kill a worker, or one time in ten the whole command; whether anything was hit."""
    workers = workers_of(process.pid)
    try:
        if rng.random() < 0.1:
            process.kill()
            return True
        if workers:
            rng.choice(workers).kill()
        return bool(workers)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_soak(tmp_path: Path, sa_med2d: Command) -> None:
    recipe = write_large_cases(tmp_path / "raw", SLICES // SHAPE[0] + 1)
    assert sa_med2d(*command(recipe, tmp_path / "calm")[3:]).code == 0
    assert sum(name.endswith(".json") for name, _ in members(tmp_path / "calm")) >= SLICES
    rng, kills, runs, begun = random.Random(1), 0, 0, time.monotonic()
    code = None
    while code != 0:
        runs += 1
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(command(recipe, tmp_path / "out"), stderr=said)
            while process.poll() is None:
                time.sleep(rng.uniform(0.3, 1.7))
                if kills < KILLS and process.poll() is None:
                    kills += shoot(process, rng)
        code = process.wait()
        assert code in (0, 3, -9), (tmp_path / "said").read_text()  # 3: one case was hit three times; it is tried again
    assert kills == KILLS
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "calm", "data", "index")
    print(f"{kills} kills in {runs} runs, {time.monotonic() - begun:.0f} s")  # noqa: T201 - shown by pytest -rP
