"""Making a cache: bounded, whole or not there, the same files however it is interrupted, anew where its source is."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from builder.command_line import main
from sa_med2d_20m import DatasetError, load
from tests.support.build_process import workers_of
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import tree
from tests.support.sources import write_source
from tests.support.volumes import organ_map

LOCK = {"build/lock", "build/lock.owner"}


def build(folder: Path, out: Path) -> None:
    recipes = sorted((folder / "raw").glob("*.toml"))
    arguments = ["build", *recipes, "--raw", folder / "raw", "--out", out, "--workers", 1, "--shard-size", "100KB"]
    assert main([str(argument) for argument in arguments]) == 0


def files(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(folder).items() if name not in LOCK}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``out`` with two sources, and ``cache`` of it; nobody writes to them."""
    folder = tmp_path_factory.mktemp("made")
    write_source(folder / "raw", "Free", cases=2)
    write_source(folder / "raw", "Magnet", cases=1, modality="mr")
    build(folder, folder / "out")
    assert main(["cache", str(folder / "out"), "--size", "40", "--to", str(folder / "cache"), "--workers", "1"]) == 0
    return folder


def test_a_cache_is_the_same_on_two_workers(made: Path, sa_med2d: Command, tmp_path: Path) -> None:
    assert sa_med2d("cache", made / "out", "--size", 40, "--to", tmp_path / "cache", "--workers", 2).code == 0
    assert files(tmp_path / "cache") == files(made / "cache")


def test_one_that_is_killed_goes_on_to_the_same_files(made: Path, sa_med2d: Command, tmp_path: Path) -> None:
    to = tmp_path / "cache"
    command = [sys.executable, "-m", "builder", "cache", made / "out", "--size", "40", "--to", to, "--workers", "1"]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(to.rglob("*.images.npy*")) and time.monotonic() < end:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert files(to) != files(made / "cache")
    assert sa_med2d("cache", made / "out", "--size", 40, "--to", to, "--workers", 1).code == 0
    assert files(to) == files(made / "cache")


@pytest.mark.slow
def test_a_worker_that_dies_is_said(made: Path, sa_med2d: Command, tmp_path: Path) -> None:
    """As when memory runs out: killed as soon as it writes."""
    to = tmp_path / "cache"
    command = [sys.executable, "-m", "builder", "cache", made / "out", "--size", "200", "--to", to, "--workers", "2"]
    arguments = [str(part) for part in command]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(to.rglob("*.images.npy*")):
            time.sleep(0.001)
        for worker in workers_of(process.pid):
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        _, said = process.communicate()
    assert (process.returncode, "error: a worker died" in said) == (1, True)
    assert "Traceback" not in said
    assert not list(to.rglob("*.part"))
    assert sa_med2d(*arguments[3:]).code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--size", 512, "--limit", "0.000001tb"],
            r"would take [\d,]+ bytes, and --limit is 1,000,000; nothing was written",
        ),
        (["--size", 16385], r"size is \(16385, 16385\), expected a whole number from 1 to 16384"),
        (["--size", 40, "--window", "lungs"], "no window 'lungs' here; did you mean lung"),
        (["--size", 40, "--window=-600,0"], r"window is \(-600.0, 0.0\), expected \(centre, width\)"),
        (
            ["--size", 40, "--window=-600,1500"],
            r"in another scaling: Free \(slice\), Magnet \(slice\); nothing was written. Build them with "
            "intensity.mode = 'lossless', or leave --window out$",
        ),
        (["--size", 40, "--source", "Fre"], "holds no shard of Fre; it has these sources: Free, Magnet"),
        (["--size", 40, "--source", "Free", "--source", "Fre"], "holds no shard of Fre; it has these sources: Free"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_is_refused_leaves_nothing(
    made: Path, sa_med2d: Command, tmp_path: Path, options: list[str | int], message: str
) -> None:
    ran = sa_med2d("cache", made / "out", "--to", tmp_path / "new" / "cache", *options)
    assert ran.code == 1
    assert re.search(message, " ".join(ran.err.split()))
    assert not list(tmp_path.iterdir())


def test_the_size_that_is_said_is_kept(made: Path, sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("cache", made / "out", "--size", 40, "--to", tmp_path / "cache", "--workers", 1)
    said = int(ran.err.split("writing at most ")[1].split(" bytes")[0].replace(",", ""))
    arrays = sum(len(data) for name, data in files(tmp_path / "cache").items() if not name.endswith(".json"))
    assert 0.8 * said < arrays <= said


def test_only_the_shards_that_are_others_now_are_written(made: Path, sa_med2d: Command, tmp_path: Path) -> None:
    shutil.copytree(made / "raw", tmp_path / "raw")
    shutil.copytree(made / "out", tmp_path / "out")
    shutil.copytree(made / "cache", tmp_path / "cache")
    turned = organ_map()[:, ::-1].copy()
    write_nifti(tmp_path / "raw/Magnet/labels/case00.nii.gz", turned)
    build(tmp_path, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"holds an earlier data/mr/.*; run 'sa-med2d cache .* again"):
        load(tmp_path / "out", "mr-local", split="all", cache=tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/ct").rglob("*.npy")}
    ran = sa_med2d("cache", tmp_path / "out", "--size", 40, "--to", tmp_path / "cache", "--workers", 1)
    assert "1 shard written, 2 kept, 0 deleted" in ran.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(load(tmp_path / "out", "mr-local", split="all", cache=tmp_path / "cache")) > 0
    assert sa_med2d("remove", "Magnet", tmp_path / "out").code == 0
    ran = sa_med2d("cache", tmp_path / "out", "--size", 40, "--to", tmp_path / "cache", "--workers", 1)
    assert "0 shards written, 2 kept, 1 deleted" in ran.out
    assert not list((tmp_path / "cache").rglob("mr/**/*.npy"))
    shutil.rmtree(tmp_path / "out/build")
    ran = sa_med2d("cache", tmp_path / "out", "--size", 40, "--to", tmp_path / "cache", "--workers", 1)
    assert "0 shards written, 2 kept, 0 deleted" in ran.out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_a_command_left_that_was_killed_is_deleted(made: Path, sa_med2d: Command, tmp_path: Path) -> None:
    """Also of shards that are gone since, and of one whose receipt was not written yet."""
    shutil.copytree(made / "cache", tmp_path / "cache")
    receipt = min((tmp_path / "cache/ct").rglob("*.json"))
    receipt.unlink()
    left = [receipt.with_name(name) for name in ("train-00099.images.npy", ".train-00000.images.npy.0123abcd.part")]
    for path in left:
        path.write_bytes(b"0")
    ran = sa_med2d("cache", made / "out", "--size", 40, "--to", tmp_path / "cache", "--workers", 1)
    assert "1 shard written, 2 kept, 0 deleted" in ran.out
    assert files(tmp_path / "cache") == files(made / "cache")


def test_folders_that_hold_something_else_are_refused(made: Path, sa_med2d: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    ran = sa_med2d("cache", made / "out", "--size", 40, "--to", tmp_path / "photos")
    assert (ran.code, "holds something that is no cache" in ran.err) == (1, True)
    ran = sa_med2d("cache", made / "out", "--size", 64, "--to", made / "cache")
    assert (ran.code, "is a cache with size (40, 40), not (64, 64)" in ran.err) == (1, True)
    stranger = Path(shutil.copytree(made / "cache", tmp_path / "stranger"))
    for receipt in stranger.glob("*/*/*/*.json"):
        written = receipt.read_text()
        receipt.unlink()
        moved = stranger / receipt.relative_to(stranger).as_posix().replace("/Free/", "/Other/").replace(
            "/Magnet/", "/Else/"
        )
        moved.parent.mkdir(exist_ok=True)
        moved.write_text(written.replace("/Free/", "/Other/").replace("/Magnet/", "/Else/"))
    before = files(stranger)
    ran = sa_med2d("cache", made / "out", "--size", 40, "--to", stranger)
    assert (ran.code, "stranger is a cache of another folder: " in ran.err) == (1, True)
    assert files(stranger) == before
    ran = sa_med2d("cache", made / "out", "--size", 40, "--to", tmp_path / "photos" / "cat.png")
    assert (ran.code, "cat.png: is no folder; expected one, or one that is not there yet" in ran.err) == (2, True)
