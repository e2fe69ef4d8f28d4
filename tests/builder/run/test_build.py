"""Builds end the same way, however they were run, interrupted and resumed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from filelock import FileLock

from tests.support.command import Command
from tests.support.dicom_source import build, write_ct_series
from tests.support.nifti import write_nifti
from tests.support.output import members, tree
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map

PUBLISHED = ("data", "index")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two sources with enough cases for several shards each."""
    for name, license_id in (("First", "CC-BY-4.0"), ("Second", "CC-BY-SA-4.0")):
        write_source(tmp_path / "raw", name, cases=7, license_id=license_id)
    return tmp_path / "raw"


def arguments(raw: Path, out: Path, *more: object) -> list[object]:
    return [
        "build",
        raw / "First.toml",
        raw / "Second.toml",
        "--raw",
        raw,
        "--out",
        out,
        "--shard-size",
        "250KB",
        *more,
    ]


@pytest.fixture
def reference(sa_med2d: Command, raw: Path, tmp_path: Path) -> dict[str, bytes]:
    ran = sa_med2d(*arguments(raw, tmp_path / "reference", "--workers", 1))
    assert ran.code == 0, ran.err
    return tree(tmp_path / "reference")


def without(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if not path.endswith(names)}


def test_reference_has_several_shards(reference: dict[str, bytes]) -> None:
    assert sum(path.endswith(".tar") for path in reference) >= 6
    assert sum(path.endswith(".parquet") for path in reference) == sum(path.endswith(".tar") for path in reference)


@pytest.mark.parametrize("workers", [2, 4])
def test_worker_count_changes_no_byte(
    sa_med2d: Command, raw: Path, tmp_path: Path, reference: dict[str, bytes], workers: int
) -> None:
    ran = sa_med2d(*arguments(raw, tmp_path / "out", "--workers", workers))
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "out") == reference


def test_sources_in_any_order_and_one_by_one_change_no_byte(
    sa_med2d: Command, raw: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    for name in ("Second", "First"):
        ran = sa_med2d("build", raw / f"{name}.toml", "--raw", raw, "--out", tmp_path / "out", "--shard-size", "250KB")
        assert ran.code == 0, ran.err
    assert tree(tmp_path / "out") == reference


def test_resume_keeps_finished_shards_and_repairs_the_rest(
    sa_med2d: Command, raw: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    out = tmp_path / "reference"
    receipts, tars = sorted(out.rglob("receipts/**/*.json")), sorted(out.rglob("*.tar"))
    receipts[0].unlink()
    tars[1].unlink()
    sorted(out.rglob("*.parquet"))[2].unlink()
    tars[3].write_bytes(tars[3].read_bytes()[:1000])
    receipts[4].write_text("{")
    kept = tars[5].stat().st_mtime_ns
    (out / "README.md").unlink()
    ran = sa_med2d(*arguments(raw, out, "--workers", 2))
    assert ran.code == 0, ran.err
    assert f"{len(tars) - 5} of {len(tars)} shards are finished already" in ran.err
    assert tars[5].stat().st_mtime_ns == kept
    assert tree(out) == reference


def test_killed_builds_lose_and_double_nothing(raw: Path, tmp_path: Path, reference: dict[str, bytes]) -> None:
    """SIGKILL at random moments, over and over, to the build and its workers."""
    out, chance = tmp_path / "out", random.Random(7)
    command = [sys.executable, "-m", "builder", *map(str, arguments(raw, out, "--workers", 2))]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - started
    shutil.rmtree(out)
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(chance.uniform(0.3, 1.0) * whole)
        if process.poll() is None:
            kills += 1
            os.killpg(process.pid, signal.SIGKILL)
        else:
            whole /= 2  # the first build ran while the machine was busier
        process.wait()
        assert_nothing_half_written(out, reference)
    assert kills >= 1  # how many are hit in time hangs on how busy the machine is
    subprocess.run(command, check=True, capture_output=True)
    assert tree(out) == reference


def assert_nothing_half_written(out: Path, reference: dict[str, bytes]) -> None:
    for path, data in tree(out, *PUBLISHED).items() if out.exists() else ():
        assert path.endswith(".part") or data == reference[path]


def test_changed_input_rebuilds_its_shard_only(sa_med2d: Command, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert sa_med2d(*arguments(raw, out)).code == 0
    before = {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*.tar"))}
    write_nifti(raw / "First/images/case03.nii.gz", ct_like(99))
    assert sa_med2d(*arguments(raw, out)).code == 0
    touched = [path for path in before if path.stat().st_mtime_ns != before[path]]
    assert len(touched) == 1
    assert "First" in str(touched[0])


def test_changed_recipe_rebuilds_its_source_only(sa_med2d: Command, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert sa_med2d(*arguments(raw, out)).code == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.tar")}
    recipe = raw / "Second.toml"
    recipe.write_text(recipe.read_text().replace('2 = "spleen"', '2 = "stomach"'))
    assert sa_med2d(*arguments(raw, out)).code == 0
    assert all(("Second" in str(path)) == (path.stat().st_mtime_ns != before[path]) for path in before)


def test_shards_that_are_no_longer_planned_go_and_others_stay(sa_med2d: Command, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert sa_med2d(*arguments(raw, out)).code == 0
    second = {path: data for path, data in tree(out, *PUBLISHED).items() if "Second" in path}
    recipe = raw / "First.toml"
    recipe.write_text(recipe.read_text().replace("CC-BY-4.0", "CC0-1.0"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", out)
    assert ran.code == 0
    assert "removed data/ct/cc-by-4.0/First/" in ran.err
    found = tree(out, *PUBLISHED)
    assert not [path for path in found if "cc-by-4.0/First" in path]
    assert {path: data for path, data in found.items() if "Second" in path} == second
    assert sa_med2d("verify", out, "--deep").code == 0


def test_limit_keeps_class_ids_and_cases_whole(sa_med2d: Command, raw: Path, tmp_path: Path) -> None:
    ran = sa_med2d("build", raw / "First.toml", "--raw", raw, "--out", tmp_path / "out", "--limit-cases", 2)
    assert ran.code == 0
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    assert {record["case"] for record in records} == {"case00", "case01"}


def test_quarantined_case_leaves_the_rest_untouched(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    recipe = write_source(raw, cases=4)
    assert sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "good").code == 0
    image = raw / "Small/images/case02.nii.gz"
    image.write_bytes(image.read_bytes()[:-2000])
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "bad", "--workers", 2)
    assert ran.code == 3
    assert "case02: images/case02.nii.gz: read: " in ran.err
    good, bad = dict(members(tmp_path / "good")), dict(members(tmp_path / "bad"))
    assert bad == {name: data for name, data in good.items() if "--case02--" not in name}
    assert len(bad) < len(good)
    (entry,) = json.loads((tmp_path / "bad/build/quarantine/Small.json").read_text())
    assert (entry["case"], entry["file"], entry["stage"]) == ("case02", "images/case02.nii.gz", "read")
    assert sa_med2d("verify", tmp_path / "bad", "--deep").code == 0


def test_repaired_case_leaves_quarantine(sa_med2d: Command, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    recipe = write_source(raw, cases=2)
    image = raw / "Small/images/case01.nii.gz"
    whole = image.read_bytes()
    image.write_bytes(whole[:500])
    assert sa_med2d("build", recipe, "--raw", raw, "--out", out).code == 3
    image.write_bytes(whole)
    assert sa_med2d("build", recipe, "--raw", raw, "--out", out).code == 0
    assert json.loads((out / "build/quarantine/Small.json").read_text()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_strict_stops_at_the_first_bad_case(sa_med2d: Command, tmp_path: Path, workers: int) -> None:
    raw = tmp_path / "raw"
    recipe = write_source(raw, cases=2)
    write_nifti(raw / "Small/labels/case01.nii.gz", organ_map((24, 40, 35)))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out", "--strict", "--workers", workers)
    assert ran.code == 1
    assert "labels/case01.nii.gz: grid: " in ran.err
    assert "Traceback" not in ran.err


def test_second_build_into_one_folder_is_refused(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=1)
    (tmp_path / "out/build").mkdir(parents=True)
    with FileLock(tmp_path / "out/build/lock"):
        ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "another command, which has just begun, is writing to this folder" in ran.err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--workers", "0"],
        ["--shard-size", "much"],
        ["--limit-cases", "-1"],
        ["--executor", "moon"],
        ["--nonsense"],
    ],
)
def test_wrong_usage_is_exit_code_2(sa_med2d: Command, tmp_path: Path, wrong: list[str]) -> None:
    ran = sa_med2d("build", "MSD_Spleen", "--raw", tmp_path, "--out", tmp_path / "out", *wrong)
    assert ran.code == 2
    assert "usage: sa-med2d" in ran.err


def test_output_that_is_a_file(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=1)
    (tmp_path / "out").write_text("in the way")
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "is no folder; expected one, or one that is not there yet" in ran.err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder in which nobody makes one")
def test_output_where_no_folder_can_be_made(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=1)
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", "/proc/nobody")
    assert (
        ran.code,
        "/proc/nobody/build: cannot be written: no folder can be made there; choose another" in ran.err,
    ) == (
        1,
        True,
    ), ran.err
    assert "run the same command again" not in ran.err


def test_one_source_named_twice(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=1)
    ran = sa_med2d("build", recipe, recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "Small: named by 2 recipes" in ran.err


def test_changed_slice_rebuilds_the_series(sa_med2d: Command, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "raw/p1/ct", ct_like())
    mask = sitk.GetImageFromArray((ct_like() > 0).astype(np.uint8))
    mask.SetSpacing((0.7, 0.8, 2))
    mask.SetOrigin((-10, -20, 30))
    sitk.WriteImage(mask, str(tmp_path / "raw/p1/seg.nrrd"))
    text = '[files]\nimage = "{case}/ct/"\nmask = "{case}/seg.nrrd"\n[labels]\n1 = "bone"\n'
    assert build(sa_med2d, tmp_path, tmp_path / "raw", text).code == 0
    before = dict(members(tmp_path / "out"))
    write_ct_series(tmp_path / "raw/p1/ct", ct_like(8))
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", text)
    assert ran.code == 0
    assert "finished already" not in ran.err
    assert dict(members(tmp_path / "out")) != before


def test_a_source_that_gives_nothing_leaves_nothing(sa_med2d: Command, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good, bad = write_source(raw, "Good", cases=1), write_source(raw, "Bad", cases=2)
    for path in (raw / "Bad").rglob("*.nii.gz"):
        path.write_bytes(b"no image")
    ran = sa_med2d("build", good, bad, "--raw", raw, "--out", out)
    assert ran.code == 3
    assert not [path for path in tree(out, "data", "index", "build/receipts") if "Bad" in path]
    assert not [name for name in ("README.md", "LICENSE.md", "SOURCES.md") if "Bad" in (out / name).read_text()]
    assert len(json.loads((out / "build/quarantine/Bad.json").read_text())) == 2
    assert sa_med2d("verify", out).code == 0
