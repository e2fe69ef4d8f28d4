"""An import when it is killed, when the disk is full, and when a part goes while it is read: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from builder.command_line import main
from tests.support.build_process import run, wait_for
from tests.support.output import tree
from tests.support.release import box, decoded, differing, given_back, members_of, png, with_json, write_zip, zip_bytes

SamplesOf = Callable[[Path], dict[str, dict[str, bytes]]]
SIDE = 256
CASES = 100


def large_files() -> dict[str, bytes]:
    """Pictures that take some milliseconds each, all in training; several share their content."""
    noise = np.random.default_rng(0)
    images = [png(noise.integers(0, 255, (SIDE, SIDE), np.uint8), rgb=True) for _ in range(5)]
    mask = png(box(10, 10, 90, 70, of=(SIDE, SIDE)))
    files: dict[str, bytes] = {}
    for case in range(CASES):
        name = f"pet_00--Large--case{case:03d}--2d_none"
        files[f"images/{name}.png"], files[f"masks/{name}--0000_000.png"] = images[case % 5], mask
    return with_json(files, {"Large": {"liver": "0000"}})


@pytest.fixture(scope="module")
def parts() -> list[bytes]:
    """A release in 50 parts or so."""
    return zip_bytes(members_of(large_files()), part=1 << 19)


@pytest.fixture(scope="module")
def packed(parts: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zip(tmp_path_factory.mktemp("packed"), parts)


@pytest.fixture(scope="module")
def undisturbed(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("calm") / "out"
    assert main([str(part) for part in command(packed, out, "--workers", 1)[3:]]) == 0
    return tree(out, "data", "index")


def command(release: Path, out: Path, *further: object) -> list[str]:
    arguments = ["import", release, "--out", out, "--no-repair-twins", "--shard-size", "3MB", *further]
    return [str(part) for part in (sys.executable, "-m", "builder", *arguments)]


def pieces(out: Path) -> set[str]:
    """The logs of cases below an output folder; a folder that an import deletes meanwhile holds none."""
    walk = os.walk(out / "build/pieces")
    return {f"{folder}/{name}" for folder, _, names in walk for name in names if name.endswith(".pieces")}


def killed(release: Path, out: Path, rng: random.Random) -> bool:
    """Begin an import and kill it, workers and all, at some moment of its work; whether it was still at it."""
    arguments = command(release, out, "--workers", 2)
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    known = pieces(out)
    while process.poll() is None and pieces(out) <= known:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.4))
    hit = process.poll() is None
    with suppress(ProcessLookupError):  # it ended, and its workers with it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return hit


def kill_and_finish(release: Path, out: Path, times: int) -> int:
    """Kill an import so often, and finish it; gives how many of these met it at work."""
    rng = random.Random(times)
    hits = sum(killed(release, out, rng) for _ in range(times))
    ran = run(command(release, out, "--workers", 2))
    assert ran.returncode == 0, ran.stderr
    return hits


def test_import_that_is_killed_goes_on(packed: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    assert kill_and_finish(packed, tmp_path / "out", 2) >= 1
    assert tree(tmp_path / "out", "data", "index") == undisturbed


@pytest.mark.slow
def test_import_that_is_killed_thirty_times(packed: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    hits = turn = 0
    while hits < 30:  # when all is there, it begins anew
        turn += 1
        hits += kill_and_finish(packed, tmp_path / f"out{turn}", 5)
        assert tree(tmp_path / f"out{turn}", "data", "index") == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes, on machines that let us make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    run(["umount", str(disk)])


def test_full_disk(packed: Path, small_disk: Path, undisturbed: dict[str, bytes]) -> None:
    ran = run(command(packed, small_disk / "out", "--workers", 1))
    assert ran.returncode == 1
    assert "No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(small_disk.rglob("*.part"))
    run(["mount", "-o", "remount,size=90m", str(small_disk)])
    ran = run(command(packed, small_disk / "out", "--workers", 2))
    assert ran.returncode == 0, ran.stderr
    assert tree(small_disk / "out", "data", "index") == undisturbed


@pytest.mark.parametrize("how", ["gone", pytest.param("cut off", marks=pytest.mark.slow)])
def test_part_that_goes_while_it_is_read(
    parts: list[bytes], tmp_path: Path, samples_of: SamplesOf, undisturbed: dict[str, bytes], how: str
) -> None:
    packed, out = write_zip(tmp_path / "raw", parts), tmp_path / "out"
    late = packed.with_suffix(f".z{len(parts) - 6:02d}")
    arguments = command(packed, out, "--workers", 1)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    wait_for(out, "*.pieces", process)
    if how == "gone":
        late.unlink()
    else:
        late.write_bytes(parts[len(parts) - 7][: 1 << 18])
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 3, said
    what = f"the part {late.name} is no longer there" if how == "gone" else f"the part {late.name} ends"
    assert what in said
    assert "Traceback" not in said
    some = given_back(samples_of(out).values())
    every = decoded(large_files())
    assert CASES < len(some) < len(every)
    assert differing(some, {name: every[name] for name in some}) == []
    late.write_bytes(parts[len(parts) - 7])
    ran = run(command(packed, out, "--workers", 1))
    assert ran.returncode == 0, ran.stderr
    assert tree(out, "data", "index") == undisturbed
