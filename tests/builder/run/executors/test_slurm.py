"""Builds in Slurm jobs, by the executor of `submitit` that runs them on this machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.build_process import command, struck, write_long_source
from tests.support.command import Command
from tests.support.output import tree
from tests.support.sources import write_source

pytest.importorskip("submitit", reason="Slurm's jobs go through submitit")

LOCAL = ("--executor", "slurm", "--slurm-cluster", "local")


def test_the_same_bytes_as_here(tmp_path: Path, sa_med2d: Command) -> None:
    recipe = write_source(tmp_path / "raw", cases=5)
    here = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "here", "--workers", 1)
    assert here.code == 0
    there = sa_med2d(*command(recipe, tmp_path / "there", "--shard-size", "1GiB", *LOCAL)[3:])
    assert there.code == 0, there.err
    assert tree(tmp_path / "there", "data", "index", "build/receipts") == tree(
        tmp_path / "here", "data", "index", "build/receipts"
    )


def test_a_case_that_ends_its_process_costs_the_case(tmp_path: Path, sa_med2d: Command) -> None:
    """The job goes on: its processes are its own."""
    recipe = write_long_source(tmp_path / "raw", [5])
    with struck(os.getpid(), tmp_path / "raw/Small/images/case05.nii.gz", signal.SIGKILL):
        ran = sa_med2d(*command(recipe, tmp_path / "out", *LOCAL)[3:])
    assert ran.code == 3, ran.err
    assert "could not be converted 3 times" in ran.err
    # and the next build tries it again
    assert sa_med2d(*command(recipe, tmp_path / "out")[3:]).code == 0
    assert sa_med2d(*command(recipe, tmp_path / "calm")[3:]).code == 0
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "calm", "data", "index")


def test_a_job_that_is_lost_is_submitted_again(
    tmp_path: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job itself dies with its node: what it had finished is kept, the rest is converted by another."""
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 2)  # what disks that nodes share may take
    recipe = write_long_source(tmp_path / "raw", [11])
    file = tmp_path / "raw/Small/images/case11.nii.gz"
    with struck(os.getpid(), file, signal.SIGKILL, times=1, ancestor="submitit") as hit:
        ran = sa_med2d(*command(recipe, tmp_path / "out", *LOCAL)[3:])
    assert (ran.code, len(hit)) == (0, 1), ran.err
    assert sa_med2d(*command(recipe, tmp_path / "calm")[3:]).code == 0
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "calm", "data", "index")


def test_without_a_cluster_it_is_said(tmp_path: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_source(tmp_path / "raw", cases=1)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--executor", "slurm")
    assert ran.code == 1
    assert "needs the command sbatch" in ran.err
