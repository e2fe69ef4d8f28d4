"""A long build under fire: 20,000 slices, 200 kills, and at the end the same bytes as if nothing had happened."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.support.build_process import command, sabotaged, workers_of
from tests.support.command import Command
from tests.support.output import members, tree
from tests.support.sources import write_source

SLICES = 20_000
KILLS = 200


def shoot(process: subprocess.Popen[bytes], rng: random.Random) -> bool:
    """Kill a worker, or one time in ten the whole command; whether anything was hit."""
    workers = workers_of(process)
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
    recipe = write_source(tmp_path / "raw", cases=SLICES // 78 + 1)  # a case gives 78
    assert sa_med2d(*command(recipe, tmp_path / "calm")[3:]).code == 0
    assert sum(name.endswith(".json") for name, _ in members(tmp_path / "calm")) >= SLICES
    script = sabotaged(tmp_path, "time.sleep(1.2)")
    rng, kills, runs, begun = random.Random(1), 0, 0, time.monotonic()
    code = None
    while code != 0:
        runs += 1
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(command(recipe, tmp_path / "out", script=script), stderr=said)
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
