"""A build when processes die, hang or are told to stop, and when the disk does not take what is written."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from builder.command_line import main
from tests.support.build_process import command, run, struck, wait_for, workers_of, write_long_source
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members, tree
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve cases in a shard each, so that several processes work at once."""
    recipe = write_source(tmp_path / "raw", cases=12)
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["*"]\n')
    return recipe


@pytest.fixture(scope="module")
def long_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve cases, one of which takes so long that a process can be met at it; nobody writes to it."""
    return write_long_source(tmp_path_factory.mktemp("long") / "raw", large=[5])


def image(recipe: Path, number: int) -> Path:
    return recipe.parent / f"Small/images/case{number:02d}.nii.gz"


def calm(recipe: Path, folder: Path) -> dict[str, bytes]:
    """What a build gives that nothing happens to."""
    assert main(command(recipe, folder / "calm")[3:]) == 0
    return tree(folder / "calm", "data", "index")


@pytest.fixture
def undisturbed(source: Path, tmp_path: Path) -> dict[str, bytes]:
    return calm(source, tmp_path)


@pytest.fixture(scope="module")
def undisturbed_long(long_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return calm(long_source, tmp_path_factory.mktemp("undisturbed"))


def started(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def test_workers_that_are_killed_cost_nothing(tmp_path: Path, sa_med2d: Command) -> None:
    large = (1, 5, 9)
    recipe = write_long_source(tmp_path / "raw", large)
    process = started(command(recipe, tmp_path / "out"))
    with ExitStack() as stack:
        watched = [struck(process.pid, image(recipe, number), signal.SIGKILL, times=1) for number in large]
        hits = [stack.enter_context(one) for one in watched]
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert [len(hit) for hit in hits] == [1, 1, 1]
    assert tree(tmp_path / "out", "data", "index") == calm(recipe, tmp_path)


def test_case_that_kills_its_process_is_quarantined(
    long_source: Path, tmp_path: Path, sa_med2d: Command, undisturbed_long: dict[str, bytes]
) -> None:
    process = started(command(long_source, tmp_path / "out"))
    with struck(process.pid, image(long_source, 5), signal.SIGKILL) as hit:
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 3, said
    assert len(hit) == 3
    [entry] = json.loads((tmp_path / "out/build/quarantine/Small.json").read_text())
    assert entry["case"] == "case05"
    assert "could not be converted 3 times, the process died each time" in entry["reason"]
    assert len({name.split("--")[2] for name, _ in members(tmp_path / "out")}) == 11
    # and the next build tries it again
    assert sa_med2d(*command(long_source, tmp_path / "out")[3:]).code == 0
    assert tree(tmp_path / "out", "data", "index") == undisturbed_long


def most_addresses(recipe: Path, out: Path, workers: int) -> int:
    """Bytes of address space that the largest process of a build takes."""
    process = subprocess.Popen(command(recipe, out, "--workers", workers), stderr=subprocess.DEVNULL, env=one_arena())
    most = 0
    while process.poll() is None:
        for pid in (process.pid, *(worker.pid for worker in workers_of(process.pid))):
            with suppress(OSError):  # it has ended
                status = Path(f"/proc/{pid}/status").read_text()
                most = max([most, *(int(peak) << 10 for peak in re.findall(r"VmPeak:\s+(\d+) kB", status))])
        time.sleep(0.005)
    assert process.wait() == 0
    return most


def one_arena() -> dict[str, str]:
    """An environment in which a thread more takes no address space worth speaking of."""
    return {**os.environ, "MALLOC_ARENA_MAX": "1"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="address space is measured in Linux's way")
@pytest.mark.parametrize("workers", [1, 2])
def test_case_that_memory_does_not_suffice_for(tmp_path: Path, sa_med2d: Command, workers: int) -> None:
    recipe = write_source(tmp_path / "raw", cases=12)
    recipe.write_text(f'axes = ["x"]\n{recipe.read_text()}[splits]\ntrain = ["*"]\n')
    enough = most_addresses(recipe, tmp_path / "measured", workers) + (100 << 20)
    huge = np.zeros((2, 5000, 5000), np.float32)  # 200 MB
    huge[:, :40, :36] = ct_like()[4:6]
    write_nifti(image(recipe, 5), huge)
    write_nifti(recipe.parent / "Small/labels/case05.nii.gz", np.pad(organ_map()[4:6], ((0, 0), (0, 4960), (0, 4964))))
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (enough, enough))
    ran = run(command(recipe, tmp_path / "out", "--workers", workers), preexec_fn=limit, env=one_arena())
    assert ran.returncode == 3, ran.stderr
    assert "Traceback" not in ran.stderr
    [entry] = json.loads((tmp_path / "out/build/quarantine/Small.json").read_text())
    assert entry["case"] == "case05"
    assert "memory ran out; use fewer --workers" in entry["reason"]
    # and the next build tries it again
    assert sa_med2d(*command(recipe, tmp_path / "out")[3:]).code == 0
    assert tree(tmp_path / "out", "data", "index") == calm(recipe, tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_case_that_hangs_is_given_up(long_source: Path, tmp_path: Path, workers: int) -> None:
    """Its process is stopped, as by a disk that does not answer."""
    begun = time.monotonic()
    process = started(command(long_source, tmp_path / "out", "--case-minutes", 0.05, "--workers", workers))
    with struck(process.pid, image(long_source, 5), signal.SIGSTOP) as hit:
        said = process.communicate(timeout=300)[1]
    assert time.monotonic() - begun < 90
    assert process.returncode == 3, said
    assert len(hit) == 1
    [entry] = json.loads((tmp_path / "out/build/quarantine/Small.json").read_text())
    assert (entry["case"], entry["stage"]) == ("case05", "convert")
    assert "took longer than 0.05 minutes (--case-minutes)" in entry["reason"]
    assert not psutil.pid_exists(hit[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_stops_and_says_how_to_go_on(
    long_source: Path, tmp_path: Path, sa_med2d: Command, undisturbed_long: dict[str, bytes], number: int
) -> None:
    process = started(command(long_source, tmp_path / "out"))
    wait_for(tmp_path / "out", "build/receipts/**/*.json", process)
    workers = workers_of(process.pid)
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "run the same command again to go on from the cases that are finished" in said
    assert "Traceback" not in said
    assert workers
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    ran = sa_med2d(*command(long_source, tmp_path / "out")[3:])
    assert ran.code == 0
    assert "finished already and kept" in ran.err
    assert tree(tmp_path / "out", "data", "index") == undisturbed_long
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
    process = started(command(source, tmp_path / "out"))
    wait_for(tmp_path / "out", "build/lock.owner", process)
    process.send_signal(signal.SIGSTOP)  # so that it is still at it
    ran = sa_med2d(*command(source, tmp_path / "out")[3:])
    process.send_signal(signal.SIGCONT)
    assert ran.code == 1
    assert f"sa-med2d build, process {process.pid} on " in ran.err
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
