"""The command ``export``: what is chosen, killed and run again, refused, and what goes along."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from filelock import FileLock

from sa_med2d_20m import load
from shards.export.layouts import LAYOUTS
from shards.export.state import STATE
from tests.hub.server import HubServer
from tests.support.build_process import workers_of
from tests.support.command import Command, run_quietly
from tests.support.export_source import build, masks_by_place, read_png, write_png, write_recipe
from tests.support.hand_made import HandMade, cells, write_dataset
from tests.support.object_store import Store
from tests.support.output import tree

Record = dict[str, Any]
TOKEN = "hf_" + "ann" * 6


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "masks.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def command(out: object, to: Path, *further: object) -> list[str]:
    arguments = ["export", out, "--to", to, "--layout", "files", *further]
    return [str(one) for one in (sys.executable, "-m", "builder", *arguments)]


def test_files_are_pictures_masks_and_a_table(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    ran = sa_med2d("export", built, "--to", tmp_path / "to", "--layout", "files", "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    rows = table(tmp_path / "to")
    held = {(row["key"], row["label"], int(row["instance"])): row for row in rows if row["mask"]}
    count = 0
    for split in ("train", "validation", "test"):
        for row in load(built, "all", split=split):
            for (label, instance), mask in masks_by_place(row).items():
                found = held[row["key"], label, instance]
                assert (found["split"], found["license"], found["case"]) == (split, row["license"], row["case"])
                assert int(found["area"]) == mask.sum()
                picture = read_png(tmp_path / "to" / found["mask"])
                np.testing.assert_array_equal(picture, mask * np.uint8(255))
                image = read_png(tmp_path / "to" / found["image"])
                np.testing.assert_array_equal(image, row["image"])
                count += 1
    assert count == 192
    assert sum(row["mask"] == "" for row in rows) == len(rows) - 192 == 14
    on_disk = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*.png")}
    assert on_disk == {row["image"] for row in rows} | {row["mask"] for row in rows if row["mask"]}


def test_an_image_without_a_mask_has_a_row(tmp_path: Path, sa_med2d: Command) -> None:
    write_png(tmp_path / "raw/Few/images/a0.png", np.random.default_rng(0).integers(0, 255, (20, 20), np.uint8))
    write_png(tmp_path / "raw/Few/masks/a0.png", np.zeros((20, 20), np.uint8))
    write_recipe(tmp_path / "raw", "Few", "microscopy", "MIT", "keep_empty = true", """
[files]
image = "images/{case}.png"
mask = "masks/{case}.png"
[labels]
1 = "cell"
""")  # fmt: skip
    out = build(tmp_path / "raw", tmp_path / "out", [tmp_path / "raw/Few.toml"])
    assert sa_med2d("export", out, "--to", tmp_path / "to", "--layout", "files").code == 0
    ((row),) = table(tmp_path / "to")
    assert (row["key"], row["mask"], row["label"]) == ("microscopy_00--Few--a0--2d_none", "", "")


CHOICES: dict[str, tuple[list[str], Callable[[dict[str, str]], bool]]] = {
    "label": (["--label", "liver", "--label", "cell"], lambda row: row["label"] in ("liver", "cell")),
    "organ": (["--organ", "eye"], lambda row: row["organ"] == "eye"),
    "group": (["--group", "lesion"], lambda row: row["group"] == "lesion"),
    "source": (["--source", "Small"], lambda row: row["source"] == "Small"),
    "license": (["--license", "cc0-1.0"], lambda row: row["license"] == "CC0-1.0"),
    "submodality": (["--submodality", "t1"], lambda row: row["submodality"] == "t1"),
    "plane": (["--plane", "axial", "--plane", "2d"], lambda row: row["plane"] in ("axial", "2d")),
    "area": (["--min-area", "300"], lambda row: int(row["area"] or 0) >= 300),
    "split": (["--split", "test", "--split", "validation"], lambda row: row["split"] in ("test", "validation")),
    "label in one split alone": (["--label", "brain_tumor"], lambda row: row["label"] == "brain_tumor"),
    "together": (
        ["--label", "spleen", "--plane", "axial", "--split", "train"],
        lambda row: (row["label"], row["plane"], row["split"]) == ("spleen", "axial", "train"),
    ),
}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("everything")


@pytest.mark.parametrize("choice", CHOICES)
def test_filters_are_those_of_the_loader(
    choice: str, everything: Path, calm: dict[str, bytes], built: Path, tmp_path: Path, sa_med2d: Command
) -> None:
    arguments, keeps = CHOICES[choice]
    ran = sa_med2d(*command(built, tmp_path / "to", "--config", "all", "--workers", 1, *arguments)[3:])
    assert ran.code == 0, ran.err
    expected = [row for row in table(everything / "to") if keeps(row)]
    assert expected
    assert table(tmp_path / "to") == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--label", "livr"], "no labels 'livr' here; did you mean liver?"),
        (["--source", "Smal"], "no sources 'Smal' here; did you mean Small?"),
        (["--label", "cell", "--plane", "axial"], "no image here has labels cell and planes axial at once"),
        (["--config", "oct"], "no config 'oct'"),
        (["--config", "microscopy", "--split", "test"], "config 'microscopy' of {out} has no split 'test'"),
    ],
)
def test_what_nothing_has_is_said(
    arguments: list[str], said: str, built: Path, tmp_path: Path, sa_med2d: Command
) -> None:
    config = [] if "--config" in arguments else ["--config", "all"]
    ran = sa_med2d("export", built, "--to", tmp_path / "to", "--layout", "coco", *config, *arguments)
    assert ran.code == 1
    assert said.format(out=built) in ran.err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("layout", ["coco", "release"])
def test_workers_make_no_difference(layout: str, built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    for workers in (1, 2):
        to, choice = tmp_path / str(workers), ("--config", "all", "--plane", "axial", "--plane", "2d")
        ran = sa_med2d("export", built, "--to", to, "--layout", layout, *choice, "--workers", workers)
        assert ran.code == 0, ran.err
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


@pytest.fixture(scope="module")
def calm(everything: Path, built: Path) -> dict[str, bytes]:
    """All of it, exported in one go; nobody writes to it."""
    assert run_quietly(*command(built, everything / "to", "--config", "all", "--workers", 1)[3:]).code == 0
    return tree(everything / "to")


def pictures(folder: Path) -> int:
    """How many there are, so far."""
    return sum(1 for _ in folder.rglob("*.png"))


def stopped(arguments: list[str], folder: Path, after: int, number: int) -> subprocess.CompletedProcess[str]:
    """Send a signal to an export when so many pictures are there."""
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and pictures(folder) < after:
            time.sleep(0.002)
        process.send_signal(number)
        said = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, *said)


@pytest.mark.parametrize("after", [1, 200])
def test_killed_and_run_again_is_as_in_one_go(
    after: int, built: Path, tmp_path: Path, calm: dict[str, bytes], sa_med2d: Command
) -> None:
    arguments = command(built, tmp_path / "to", "--config", "all", "--workers", 1)
    assert stopped(arguments, tmp_path / "to", after, signal.SIGKILL).returncode == -signal.SIGKILL
    assert after <= pictures(tmp_path / "to") < 340
    ran = sa_med2d(*arguments[3:])
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "to") == calm


@pytest.mark.slow
def test_killed_thirty_times(built: Path, tmp_path: Path, calm: dict[str, bytes], sa_med2d: Command) -> None:
    """On two workers, now and then before a unit is finished."""
    arguments = command(built, tmp_path / "to", "--config", "all", "--workers", 2)
    for number in range(30):
        stopped(arguments, tmp_path / "to", 1 + 17 * number, signal.SIGKILL)
    assert sa_med2d(*arguments[3:]).code == 0
    assert tree(tmp_path / "to") == calm


def test_asked_to_stop_it_stops_and_goes_on(
    built: Path, tmp_path: Path, calm: dict[str, bytes], sa_med2d: Command
) -> None:
    arguments = command(built, tmp_path / "to", "--config", "all", "--workers", 2)
    ran = stopped(arguments, tmp_path / "to", 1, signal.SIGTERM)
    assert ran.returncode == 130, ran.stderr
    assert "run the same command again" in ran.stderr
    again = sa_med2d(*arguments[3:])
    assert again.code == 0, again.err
    assert tree(tmp_path / "to") == calm


def test_run_again_when_finished_it_does_nothing(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    arguments = ("export", built, "--to", tmp_path / "to", "--layout", "files", "--source", "Rings")
    assert sa_med2d(*arguments).code == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "to").rglob("*.*") if "lock" not in path.name}
    ran = sa_med2d(*arguments)
    assert (ran.code, ran.out) == (0, f"{tmp_path}/to: was exported before, whole: 3 images with 9 masks\n")
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_folder_holds_one_export(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    arguments = ("export", built, "--to", tmp_path / "to", "--source", "Rings")
    assert sa_med2d(*arguments, "--layout", "files").code == 0
    before = tree(tmp_path / "to")
    for further, said in (
        (["--layout", "coco"], "layout files, now coco"),
        (["--layout", "files", "--label", "optic_disc"], "labels not given, now optic_disc"),
    ):
        ran = sa_med2d(*arguments, *further)
        assert ran.code == 1
        assert f"holds an export that was asked for otherwise: {said}; choose another folder" in ran.err
    assert tree(tmp_path / "to") == before


def test_one_export_at_a_time_writes_to_a_folder(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    arguments = ("export", built, "--to", tmp_path / "to", "--layout", "files", "--source", "Rings")
    (tmp_path / "to/.sa-med2d-export").mkdir(parents=True)
    with FileLock(tmp_path / "to/.sa-med2d-export/lock"):
        ran = sa_med2d(*arguments)
    assert ran.code == 1
    assert "another export is writing to this folder" in ran.err
    assert sa_med2d(*arguments).code == 0


@pytest.mark.slow
def test_a_worker_that_dies_is_said(built: Path, tmp_path: Path, calm: dict[str, bytes], sa_med2d: Command) -> None:
    """As when memory runs out: killed as soon as it writes."""
    arguments = command(built, tmp_path / "to", "--config", "all", "--workers", 2)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not pictures(tmp_path / "to"):
            time.sleep(0.002)
        for worker in workers_of(process.pid):
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        _, said = process.communicate()
    assert process.returncode == 1, said
    assert "a worker died" in said
    assert "run the same command again" in said
    assert sa_med2d(*arguments[3:]).code == 0
    assert tree(tmp_path / "to") == calm


def test_a_folder_with_other_files_is_left_alone(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to/thesis.tex").write_text("years of work")
    ran = sa_med2d("export", built, "--to", tmp_path / "to", "--layout", "files")
    assert ran.code == 1
    assert f"{tmp_path}/to: is not empty and holds no export" in ran.err
    assert tree(tmp_path / "to") == {"thesis.tex": b"years of work"}


def test_a_file_is_no_target(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    (tmp_path / "to").write_text("mine")
    ran = sa_med2d("export", built, "--to", tmp_path / "to", "--layout", "files")
    assert ran.code == 1
    assert f"{tmp_path}/to: is a file; choose an empty folder" in ran.err
    assert (tmp_path / "to").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder in which nobody makes one")
def test_a_target_that_cannot_be_made(built: Path, sa_med2d: Command) -> None:
    ran = sa_med2d("export", built, "--to", "/proc/nobody", "--layout", "files")
    assert ran.code == 1
    assert "/proc/nobody: no folder can be made there; choose another folder" in ran.err
    assert "run the same command again" not in ran.err


def test_a_dataset_that_changed_is_not_mixed_in(tmp_path: Path, sa_med2d: Command) -> None:
    first, _ = cells(2)
    second = HandMade(first.image, first.mask, first.record | {"key": "microscopy_00--Cells--b--2d_none", "case": "b"})
    write_dataset(tmp_path / "out", [first])
    arguments = ("export", tmp_path / "out", "--to", tmp_path / "to", "--layout", "files")
    assert sa_med2d(*arguments).code == 0
    write_dataset(tmp_path / "out", [first, second])
    ran = sa_med2d(*arguments)
    assert ran.code == 1
    assert "asked for otherwise: the dataset has changed since; choose another folder" in ran.err


def test_dry_run_counts_and_writes_nothing(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    arguments = ("export", built, "--to", tmp_path / "to", "--layout", "release", "--json", "--workers", 1)
    ran = sa_med2d(*arguments, "--dry-run")
    assert ran.code == 0, ran.err
    assert not (tmp_path / "to").exists()
    expected = json.loads(ran.out)
    assert (expected["images"], expected["masks"]) == (4, 14)
    assert expected["free_bytes"] > 0
    done = json.loads(sa_med2d(*arguments).out)
    assert (done["images"], done["masks"]) == (4, 14)
    on_disk = {path: data for path, data in tree(tmp_path / "to").items() if not path.startswith(".")}
    assert done["files"] == len(on_disk) == 4 + 14 + 3
    assert done["bytes"] == sum(map(len, on_disk.values()))
    assert abs(expected["files"] - done["files"]) < 4
    assert 0.5 < expected["bytes"] / done["bytes"] < 2


def test_sources_and_their_licences_go_along(
    built: Path, calm: dict[str, bytes], tmp_path: Path, sa_med2d: Command
) -> None:
    text = calm["SOURCES.md"].decode()
    assert "| Small | [CC-BY-SA-4.0](https://spdx.org/licenses/CC-BY-SA-4.0.html) | naming the authors; the same licence for what is made of it | 144 | 144 |" in text  # fmt: skip
    assert "| Deep | [CC-BY-NC-4.0](https://spdx.org/licenses/CC-BY-NC-4.0.html) | naming the authors; no commercial use | 48 | 34 |" in text  # fmt: skip
    assert "[Rings that a test &lt;drew&gt;](https://example.org/Rings). Nobody et al., Rings, 2026" in text
    assert "Its licence is stated at https://example.org/license." in text
    assert sa_med2d("export", built, "--to", tmp_path / "free", "--layout", "files", "--workers", 1).code == 0
    assert "Deep" not in (tmp_path / "free/SOURCES.md").read_text()  # the default config is the permissive one


def test_what_the_default_config_leaves_out_is_said(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    arguments = ("export", built, "--to", tmp_path / "to", "--layout", "files", "--dry-run")
    ran = sa_med2d(*arguments)
    assert ran.code == 0
    (said,) = (line for line in ran.err.splitlines() if line.startswith("left out: "))
    assert "Deep (cc-by-nc-4.0)" in said
    assert "Rings" not in said
    assert said.endswith(", which the default config 'all-permissive' does not hold; '--config all-local' takes all")
    deep = {"source": "Deep", "license": "cc-by-nc-4.0"}
    assert deep in json.loads(sa_med2d(*arguments, "--json").out)["left_out"]
    assert deep in json.loads(sa_med2d(*arguments[:-1], "--json", "--workers", 1).out)["left_out"]
    assert json.loads(sa_med2d(*arguments, "--json", "--config", "all-permissive").out)["left_out"] == []
    assert "left out" not in sa_med2d(*arguments, "--config", "all-permissive").err
    assert "left out" not in sa_med2d(*arguments, "--source", "Rings").err
    for choice in (("--source", "Deep"), ("--label", "brain_tumor")):
        ran = sa_med2d(*arguments, *choice)
        assert ran.code == 1
        assert "this is the config 'all-permissive', the default, and 'all-local' holds more" in ran.err


def test_an_address_is_no_target(built: Path, sa_med2d: Command) -> None:
    ran = sa_med2d("export", built, "--to", "s3://bucket/folder", "--layout", "files")
    assert ran.code == 2
    assert "s3://bucket/folder: tools read files of this machine; give a folder of it" in ran.err


# --- hostile and broken data ------------------------------------------------------------------------------------------

Change = Callable[[Record], Record]


def entry(record: Record, **changes: Any) -> Record:
    return record | {"masks": [record["masks"][0] | changes, *record["masks"][1:]]}


HOSTILE: dict[str, tuple[Change, str, str]] = {
    "key that climbs": (lambda one: one | {"key": "../../etc/passwd"}, "files", "is no key"),
    "source that climbs": (lambda one: one | {"source": ".."}, "files", "its source and case are '..'"),
    "case that climbs": (
        lambda one: one | {"case": "../a", "key": "microscopy_00--Cells--%2E%2E%2Fa--2d_none"}, "files", "",
    ),
    "case that climbs, by its own name": (
        lambda one: one | {"case": "../a", "key": "microscopy_00--Cells--%2E%2E%2Fa--2d_none"}, "release", "",
    ),
    "image file that climbs": (
        lambda one: one | {"image_file": "images/../../x--Cells--..--2d_none.png"}, "release", "",
    ),
    "split that climbs": (lambda one: one | {"split": "../.."}, "coco", "its split is '../..', but that of the shard is 'train'"),
    "another licence": (lambda one: one | {"license": "CC0-1.0"}, "coco", "its license is 'cc0-1.0', but that of the shard is 'mit'"),
    "label that climbs": (lambda one: entry(one, label="../../x"), "files", "which the index does not name"),
    "class id that climbs": (lambda one: entry(one, class_id="../../x"), "release", "'..' cannot be the name of a file"),
    "area that is none": (lambda one: entry(one, area=30), "coco", "area: expected 30 pixels, its label map has 36"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_data_stay_below_the_folder(what: str, tmp_path: Path, sa_med2d: Command) -> None:
    change, layout, said = HOSTILE[what]
    sample, _ = cells(2)
    changed = HandMade(sample.image, sample.mask, change(sample.record))
    row = sample.record | {name: changed.record[name] for name in ("key", "case")}
    write_dataset(tmp_path / "out", [changed], row_of=lambda made: {**made, **row, "masks": sample.record["masks"]})
    (tmp_path / "deep/er").mkdir(parents=True)
    before = tree(tmp_path)
    ran = sa_med2d("export", tmp_path / "out", "--to", tmp_path / "deep/er/to", "--layout", layout, "--workers", 1)
    assert said in ran.err
    assert ran.code == (1 if said else 0), ran.err
    after = tree(tmp_path)
    assert {path for path in after if not path.startswith("deep/er/to/")} == before.keys()


def test_two_samples_of_one_key_are_refused(tmp_path: Path, sa_med2d: Command) -> None:
    sample, _ = cells(2)
    write_dataset(tmp_path / "out", [sample, sample])
    ran = sa_med2d("export", tmp_path / "out", "--to", tmp_path / "to", "--layout", "files", "--workers", 1)
    assert ran.code == 1
    assert "two samples or masks ask for this name" in ran.err


def test_an_index_that_counts_wrongly_is_refused(tmp_path: Path, sa_med2d: Command) -> None:
    sample, _ = cells(2)
    write_dataset(tmp_path / "out", [sample], row_of=lambda row: row | {"masks": row["masks"][1:]})
    ran = sa_med2d("export", tmp_path / "out", "--to", tmp_path / "to", "--layout", "coco", "--workers", 1)
    assert ran.code == 1
    assert "its index says that samples 0 to 1 have 399 masks, they have 400" in ran.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB; only the administrator can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk(workers: int, built: Path, small_disk: Path, calm: dict[str, bytes], sa_med2d: Command) -> None:
    arguments = command(built, small_disk / "to", "--config", "all", "--workers", workers)[3:]
    ran = sa_med2d(*arguments)
    assert ran.code == 1
    assert "there may be too little room" in ran.err
    assert "No space left on device; make room there" in ran.err
    assert "run the same command again" in ran.err
    assert all(data for path, data in tree(small_disk / "to").items() if path.endswith(".png"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    ran = sa_med2d(*arguments)
    assert ran.code == 0, ran.err
    assert tree(small_disk / "to") == calm


@pytest.mark.slow
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_full_disk_leaves_no_half_file(layout: str, volumes: Path, small_disk: Path, sa_med2d: Command) -> None:
    """Full after two thirds, and when only the documents over all samples are missing."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    arguments = ("export", volumes, "--to", small_disk / "to", "--layout", layout, "--config", "all", "--workers", 1)
    assert sa_med2d(*arguments).code == 0
    whole = tree(small_disk / "to")
    size = sum(-(-len(data) // 4096) * 4096 for data in whole.values())
    for share in (0.66, 0.99):
        shutil.rmtree(small_disk / "to")
        subprocess.run(["mount", "-o", f"remount,size={int(share * size)}", str(small_disk)], check=True)
        ran = sa_med2d(*arguments)
        assert ran.code == 1, ran.err
        assert "No space left on device; make room there" in ran.err
        there = {path: data for path, data in tree(small_disk / "to").items() if not path.startswith(STATE)}
        assert there.items() <= whole.items()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert sa_med2d(*arguments).code == 0
        assert tree(small_disk / "to") == whole


def test_a_store_is_exported(
    built: Path, store: Store, tmp_path: Path, calm: dict[str, bytes], sa_med2d: Command
) -> None:
    for path, data in tree(built).items():
        store.put(path, data)
    ran = sa_med2d(*command(store.url, tmp_path / "to", "--config", "all", "--workers", 1)[3:])
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "to") == calm


UPLOAD = """
import sys
from huggingface_hub import HfApi

api = HfApi()
api.create_repo("ann/scans", repo_type="dataset")
api.upload_folder(repo_id="ann/scans", repo_type="dataset", folder_path=sys.argv[1], ignore_patterns="build/*")
"""


def test_a_repository_of_the_hub_is_exported(built: Path, tmp_path: Path, calm: dict[str, bytes]) -> None:
    """Its manifests describe the sources, as the folder does otherwise."""
    shutil.copytree(built, tmp_path / "out")
    for path in (tmp_path / "out/build/sources").iterdir():
        manifest = tmp_path / "out/sources" / path.name
        manifest.parent.mkdir(exist_ok=True)
        manifest.write_text(json.dumps({"source": json.loads(path.read_text()), "shards": []}))
    with HubServer(tmp_path / "hub", objects="direct") as hub:
        hub.add_user("ann", TOKEN)
        environment = hub.environment(home=tmp_path / "home", token=TOKEN)
        for arguments in (
            [sys.executable, "-c", UPLOAD, str(tmp_path / "out")],
            command("ann/scans", tmp_path / "to", "--config", "all", "--workers", 2),
        ):
            ran = subprocess.run(arguments, env=environment, check=False, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr
    assert tree(tmp_path / "to") == calm
