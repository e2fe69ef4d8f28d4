"""``build --dedup``: copies are left out, or all who share images go into one split; the same on one worker or many."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.command_line import main
from tests.support.build_process import run
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.object_store import Store
from tests.support.output import members, tree
from tests.support.sources import RECIPE
from tests.support.textures import SIDE, texture

SPLITS = '[splits]\ntrain = ["{train}"]\ntest = ["{test}"]\n'


def write(raw: Path, name: str, cases: dict[str, np.ndarray[Any, Any]], splits: str = "") -> Path:
    mask = np.zeros((8, SIDE, SIDE), np.uint8)
    mask[:, 20:40, 20:40] = 1
    for case, volume in cases.items():
        write_nifti(raw / name / "images" / f"{case}.nii.gz", volume)
        write_nifti(raw / name / "labels" / f"{case}.nii.gz", mask[: len(volume)])
    recipe = raw / f"{name}.toml"
    recipe.write_text(RECIPE.format(name=name, license="CC-BY-4.0", modality="ct") + splits)
    return recipe


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Alpha has its own patients; one of Beta's, in another split, is Alpha's, windowed and scaled to 8 bit."""
    raw = tmp_path_factory.mktemp("raw")
    shared = texture(1)
    copy = np.clip((shared + 1500) * 255.0 / 3500, 0, 255).round().astype(np.int16)
    return [
        write(raw, "Alpha", {"a": shared, "b": texture(2)}, SPLITS.format(train="a", test="b")),
        write(raw, "Beta", {"c": copy, "d": texture(3), "e": texture(4)}, SPLITS.format(train="d", test="c")),
    ]


def build(recipes: list[Path], out: Path | str, *options: object) -> None:
    arguments = ["build", *recipes, "--raw", recipes[0].parent, "--out", out, "--workers", 1, *options]
    assert main([str(one) for one in arguments]) == 0


def cases_of(out: Path) -> dict[tuple[str, str], str]:
    """Source and case -> split, by the metadata in the shards."""
    found = {}
    for name, data in members(out):
        if name.endswith(".json"):
            record = json.loads(data)
            found[record["source"], record["case"]] = record["split"]
    return found


@pytest.fixture(scope="module")
def kept_first(recipes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "out"
    build(recipes, out, "--dedup", "keep-first")
    return out


@pytest.fixture(scope="module")
def grouped(recipes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grouped") / "out"
    build(recipes, out, "--dedup", "group")
    return out


def test_keep_first_leaves_the_later_copy_out_and_nothing_else(kept_first: Path) -> None:
    assert cases_of(kept_first).keys() == {("Alpha", "a"), ("Alpha", "b"), ("Beta", "d"), ("Beta", "e")}


def test_what_is_left_out_is_counted(kept_first: Path) -> None:
    receipts = [json.loads(path.read_text()) for path in (kept_first / "build/receipts").rglob("test-*.json")]
    left_out = [receipt for receipt in receipts if receipt["shard"].split("/")[2] == "Beta"]
    assert [receipt["dropped"]["copy"] for receipt in left_out] == [8]
    assert left_out[0]["lost_pixels"]["copy"] == 8 * 20 * 20
    assert "left out: 8 images that other cases hold too" in (kept_first / "SOURCES.md").read_text()


def test_a_folder_with_cases_left_out_is_sound(sa_med2d: Command, kept_first: Path) -> None:
    assert sa_med2d("verify", kept_first, "--deep").code == 0


def test_group_puts_all_copies_of_a_patient_into_one_split(grouped: Path) -> None:
    splits = cases_of(grouped)
    assert len(splits) == 5
    assert splits["Alpha", "a"] == splits["Beta", "c"] == "test", "what is held back for testing stays so"
    assert (splits["Alpha", "b"], splits["Beta", "d"]) == ("test", "train")


def test_who_was_moved_is_no_longer_in_the_official_split(grouped: Path) -> None:
    records = [json.loads(data) for name, data in members(grouped) if name.endswith(".json")]
    official = {record["case"]: record["official_split"] for record in records}
    assert official == {"a": False, "b": True, "c": True, "d": True, "e": False}
    assert json.loads((grouped / "build/sources/Alpha.json").read_text())["regrouped"] == 1
    assert "1 patient who share images with others stand in their split" in (grouped / "SOURCES.md").read_text()


@pytest.mark.parametrize("mode", ["keep-first", "group"])
def test_the_output_is_the_same_on_two_workers(
    mode: str, recipes: list[Path], kept_first: Path, grouped: Path, tmp_path: Path
) -> None:
    build(recipes, tmp_path / "out", "--dedup", mode, "--workers", 2)
    expected = tree(kept_first if mode == "keep-first" else grouped, "data", "index")
    assert tree(tmp_path / "out", "data", "index") == expected


def test_the_output_is_the_same_in_jobs_of_slurm(recipes: list[Path], kept_first: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="Slurm's jobs go through submitit")
    jobs = ("--executor", "slurm", "--slurm-cluster", "local")
    arguments = ("build", *recipes, "--raw", recipes[0].parent, "--out", tmp_path / "out", "--dedup", "keep-first")
    ran = run([sys.executable, "-m", "builder", *map(str, arguments), *jobs])
    assert ran.returncode == 0, ran.stderr
    assert tree(tmp_path / "out", "data", "index", "build/receipts") == tree(
        kept_first, "data", "index", "build/receipts"
    )


@pytest.mark.parametrize("mode", ["keep-first", "group"])
def test_the_output_is_the_same_in_an_object_store(
    mode: str, recipes: list[Path], kept_first: Path, grouped: Path, store: Store
) -> None:
    build(recipes, store.url, "--dedup", mode)
    expected = tree(kept_first if mode == "keep-first" else grouped, "data", "index", "build/receipts")
    assert store.tree("data", "index", "build/receipts") == expected
    before = store.tree()
    build(recipes, store.url, "--dedup", mode)
    assert store.tree("data", "index", "build/receipts", "build/dedup") == {
        path: data
        for path, data in before.items()
        if path.startswith(("data/", "index/", "build/receipts/", "build/dedup/"))
    }


def test_a_second_build_changes_nothing_and_converts_nothing(
    recipes: list[Path], kept_first: Path, grouped: Path
) -> None:
    for out, mode in ((kept_first, "keep-first"), (grouped, "group")):
        before = {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.tar")}
        build(recipes, out, "--dedup", mode)
        assert {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.tar")} == before


@pytest.mark.parametrize("seen", ["pieces/**/*.pieces", "dedup/Beta.json"])
def test_a_build_that_was_killed_goes_on_to_the_same(
    seen: str, recipes: list[Path], kept_first: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["build", *recipes, "--raw", recipes[0].parent, "--out", out, "--workers", 1, "--dedup", "keep-first"]
    started = subprocess.Popen(
        [sys.executable, "-m", "builder", *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while started.poll() is None and not any((out / "build").glob(seen)):
        time.sleep(0.002)
    started.kill()
    started.wait()
    build(recipes, out, "--dedup", "keep-first")
    assert tree(out, "data", "index", "build/receipts") == tree(kept_first, "data", "index", "build/receipts")


def test_one_source_after_the_other_gives_what_both_at_once_do(
    recipes: list[Path], kept_first: Path, tmp_path: Path
) -> None:
    for recipe in recipes:
        build([recipe], tmp_path / "out", "--dedup", "keep-first")
    assert tree(tmp_path / "out", "data", "index") == tree(kept_first, "data", "index")


def test_without_dedup_the_copies_come_back(sa_med2d: Command, recipes: list[Path], tmp_path: Path) -> None:
    build(recipes, tmp_path / "plain")
    build(recipes, tmp_path / "out", "--dedup", "keep-first")
    build(recipes, tmp_path / "out")
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "plain", "data", "index")


def test_the_result_names_what_was_left_out(sa_med2d: Command, recipes: list[Path], tmp_path: Path) -> None:
    arguments = ("build", *recipes, "--raw", recipes[0].parent, "--out", tmp_path, "--workers", 1, "--json")
    ran = sa_med2d(*arguments, "--dedup", "keep-first")
    beta = next(source for source in json.loads(ran.out)["sources"] if source["name"] == "Beta")
    assert (beta["duplicates"], beta["without_sample"]) == ({"c": ["Alpha/a"]}, [])
    assert "1 case with 8 images left out as copies (--dedup keep-first): c of Alpha/a\n" in ran.err
    assert "already and kept" not in ran.err  # it is this build that has converted them


def test_later_sources_are_compared_with_those_that_are_there(
    sa_med2d: Command, kept_first: Path, tmp_path: Path
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(kept_first, out)
    recipe = write(raw, "Gamma", {"x": texture(1), "y": texture(2)})
    command = ("build", recipe, "--raw", raw, "--out", out, "--workers", 1, "--dedup", "keep-first")
    ran = sa_med2d(*command)
    assert (
        ran.code,
        "2 cases with 16 images left out as copies (--dedup keep-first): x of Alpha/a, ..." in ran.err,
    ) == (
        0,
        True,
    ), ran.err
    index = next((out / "index").rglob("Alpha/train*.parquet"))
    index.unlink()
    shutil.rmtree(out / "build/dedup")
    ran = sa_med2d(*command)
    said = f"{index}: is missing, though its shard is there; 'sa-med2d index' writes it"
    assert (ran.code, said in ran.err) == (1, True), ran.err


def test_what_changed_is_compared_again(recipes: list[Path], tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    own = [
        write(raw, "Alpha", {"a": texture(1)}),
        write(raw, "Beta", {"c": texture(1), "d": texture(3)}),
    ]
    build(own, tmp_path / "out", "--dedup", "keep-first")
    assert ("Beta", "c") not in cases_of(tmp_path / "out")
    write_nifti(raw / "Alpha/images/a.nii.gz", texture(9))
    build(own, tmp_path / "out", "--dedup", "keep-first")
    assert ("Beta", "c") in cases_of(tmp_path / "out")
    build(own, tmp_path / "anew", "--dedup", "keep-first")
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "anew", "data", "index")
