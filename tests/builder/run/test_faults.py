"""A build when processes die, hang or are told to stop, and when the disk does not take what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.build_process import command, run, sabotaged, workers_of
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members, tree
from tests.support.sources import write_source
from tests.support.volumes import ct_like

BUILD_PARTS = ("data", "index", "README.md")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve cases in a shard each, so that several processes work at once."""
    recipe = write_source(tmp_path / "raw", cases=12)
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["*"]\n')
    return recipe


@pytest.fixture
def undisturbed(source: Path, tmp_path: Path, sa_med2d: Command) -> dict[str, bytes]:
    assert sa_med2d(*command(source, tmp_path / "calm")[3:]).code == 0
    return tree(tmp_path / "calm", "data", "index")


def test_workers_that_are_killed_cost_nothing(source: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    script = sabotaged(tmp_path, "time.sleep(0.25)")
    process = subprocess.Popen(command(source, tmp_path / "out", script=script), stderr=subprocess.PIPE, text=True)
    killed = 0
    while process.poll() is None:
        for worker in workers_of(process)[:1]:
            if killed < 5 and any((tmp_path / "out/data").rglob("*.tar")):
                worker.kill()
                killed += 1
        time.sleep(0.3)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert killed == 5
    assert tree(tmp_path / "out", "data", "index") == undisturbed


def test_case_that_kills_its_process_is_quarantined(
    source: Path, tmp_path: Path, sa_med2d: Command, undisturbed: dict[str, bytes]
) -> None:
    script = sabotaged(tmp_path, 'case.name == "case05" and os.abort()')
    ran = run(command(source, tmp_path / "out", script=script))
    assert ran.returncode == 3, ran.stderr
    [entry] = json.loads((tmp_path / "out/build/quarantine/Small.json").read_text())
    assert entry["case"] == "case05"
    assert "could not be converted 3 times, the process died each time" in entry["reason"]
    assert len({name.split("--")[2] for name, _ in members(tmp_path / "out")}) == 11
    # and the next build tries it again
    assert sa_med2d(*command(source, tmp_path / "out")[3:]).code == 0
    assert tree(tmp_path / "out", "data", "index") == undisturbed


@pytest.mark.parametrize("workers", [1, 2])
def test_case_that_memory_does_not_suffice_for(
    source: Path, tmp_path: Path, sa_med2d: Command, undisturbed: dict[str, bytes], workers: int
) -> None:
    script = sabotaged(tmp_path, 'case.name == "case05" and bytearray(1 << 62)')
    ran = run(command(source, tmp_path / "out", "--workers", workers, script=script))
    assert ran.returncode == 3, ran.stderr
    assert "Traceback" not in ran.stderr
    [entry] = json.loads((tmp_path / "out/build/quarantine/Small.json").read_text())
    assert entry["case"] == "case05"
    assert "memory ran out; use fewer --workers" in entry["reason"]
    # and the next build tries it again
    assert sa_med2d(*command(source, tmp_path / "out")[3:]).code == 0
    assert tree(tmp_path / "out", "data", "index") == undisturbed


@pytest.mark.parametrize("workers", [1, 2])
def test_case_that_hangs_is_given_up(source: Path, tmp_path: Path, workers: int) -> None:
    script = sabotaged(tmp_path, 'case.name == "case05" and time.sleep(1000)')
    started = time.monotonic()
    ran = run(command(source, tmp_path / "out", "--case-minutes", 0.05, "--workers", workers, script=script))
    assert time.monotonic() - started < 60
    assert ran.returncode == 3, ran.stderr
    [entry] = json.loads((tmp_path / "out/build/quarantine/Small.json").read_text())
    assert (entry["case"], entry["stage"]) == ("case05", "convert")
    assert "took longer than 0.05 minutes (--case-minutes)" in entry["reason"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_stops_and_says_how_to_go_on(
    source: Path, tmp_path: Path, sa_med2d: Command, undisturbed: dict[str, bytes], number: int
) -> None:
    script = sabotaged(tmp_path, "time.sleep(0.5)")
    process = subprocess.Popen(command(source, tmp_path / "out", script=script), stderr=subprocess.PIPE, text=True)
    while not any((tmp_path / "out/build/receipts").rglob("*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    workers = workers_of(process)
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "run the same command again to go on from the shards that are finished" in said
    assert "Traceback" not in said
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    ran = sa_med2d(*command(source, tmp_path / "out")[3:])
    assert ran.code == 0
    assert "finished already and kept" in ran.err
    assert tree(tmp_path / "out", "data", "index") == undisturbed
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 1 MB; only the administrator can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    run(["umount", "-l", str(folder)])


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk(source: Path, small_disk: Path, undisturbed: dict[str, bytes], workers: int) -> None:
    ran = run(command(source, small_disk / "out", "--workers", workers))
    assert ran.returncode == 1
    assert "No space left on device" in ran.stderr
    assert "run the same command again to go on" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(small_disk.rglob("*.part"))
    run(["mount", "-o", "remount,size=64m", str(small_disk)])
    ran = run(command(source, small_disk / "out", "--workers", workers))
    assert ran.returncode == 0, ran.stderr
    assert tree(small_disk / "out", "data", "index") == undisturbed


def test_read_only_output(source: Path, small_disk: Path) -> None:
    run(["mount", "-o", "remount,ro", str(small_disk)])
    ran = run(command(source, small_disk / "out"))
    assert ran.returncode == 1
    assert "Read-only file system" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_second_build_is_told_who_is_at_it(source: Path, tmp_path: Path, sa_med2d: Command) -> None:
    script = sabotaged(tmp_path, "time.sleep(0.3)")
    process = subprocess.Popen(command(source, tmp_path / "out", script=script), stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out/build/lock.owner").exists():
        time.sleep(0.02)
    ran = sa_med2d(*command(source, tmp_path / "out")[3:])
    assert ran.code == 1
    assert f"another build (process {process.pid} on " in ran.err
    process.communicate()
    assert process.returncode == 0


def test_clock_that_goes_backwards(
    source: Path, tmp_path: Path, sa_med2d: Command, undisturbed: dict[str, bytes]
) -> None:
    """Files from the future are files like any other; what changes is noticed by size and time, not by order."""
    future = time.time() + 10**7
    for path in (tmp_path / "raw").rglob("*.nii.gz"):
        os.utime(path, (future, future))
    assert sa_med2d(*command(source, tmp_path / "out")[3:]).code == 0
    assert tree(tmp_path / "out", "data", "index") == undisturbed
    write_nifti(tmp_path / "raw/Small/images/case03.nii.gz", ct_like(77))
    os.utime(tmp_path / "raw/Small/images/case03.nii.gz", (1, 1))
    assert sa_med2d(*command(source, tmp_path / "out")[3:]).code == 0
    assert tree(tmp_path / "out", "data", "index") != undisturbed
