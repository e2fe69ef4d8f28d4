"""``sa-med2d overlap``: which images of a set are copies, of each other or of those of another set."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from builder.command_line import main
from sa_med2d_20m import decode_png
from tests.support.build_process import workers_of
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.object_store import Store
from tests.support.output import members, tree
from tests.support.release import Member, zip_bytes
from tests.support.seeded_copies import CHANGES
from tests.support.sources import RECIPE
from tests.support.textures import SIDE, texture

SPLITS = '[splits]\ntrain = ["a"]\ntest = ["b", "c"]\n'
FOUND = [
    "mirrored left and right",
    "mirrored top and bottom",
    "turned by 180 degrees",
    "scaled to 8 bit, 5 % clipped at each end",
    "window, darkest 20 % and brightest 1 % clipped",
    "JPEG, quality 90",
    "1.7 times the size",
    "2 % cropped on each side",
    "5 % cropped on each side",
    "black border of 10 % added",
]


def smooth(seed: int) -> npt.NDArray[np.int16]:
    """Volumes whose blobs have soft borders, as anatomy has: (8, 256, 256)."""
    slices = [cv2.GaussianBlur(one.astype(np.float32), (0, 0), 2.5) for one in texture(seed, side=256)]
    return np.stack(slices).astype(np.int16)


def write(raw: Path, name: str, cases: dict[str, npt.NDArray[Any]]) -> Path:
    for case, volume in cases.items():
        mask = np.zeros(volume.shape, np.uint8)
        mask[:, volume.shape[1] // 4 : volume.shape[1] // 2, 10:60] = 1
        write_nifti(raw / name / "images" / f"{case}.nii.gz", volume)
        write_nifti(raw / name / "labels" / f"{case}.nii.gz", mask)
    recipe = raw / f"{name}.toml"
    recipe.write_text(RECIPE.format(name=name, license="CC-BY-4.0", modality="ct") + (SPLITS if name == "Own" else ""))
    return recipe


def build(recipe: Path, out: Path) -> Path:
    arguments = ["build", recipe, "--raw", recipe.parent, "--out", out, "--workers", 1]
    assert main([str(one) for one in arguments]) == 0
    return out


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients; c, in test, is a, in train, mirrored, upside down and windowed."""
    raw = tmp_path_factory.mktemp("own")
    copy = np.clip(smooth(1)[::-1, :, ::-1] + 400, 0, 800)
    return build(write(raw, "Own", {"a": smooth(1), "b": smooth(2), "c": copy}), raw / "out")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another set, whose patient x is b of the first; its slices are half as many."""
    raw = tmp_path_factory.mktemp("other")
    return build(write(raw, "Other", {"x": smooth(2)[2:7], "y": smooth(3)}), raw / "out")


@pytest.fixture(scope="module")
def slices(own: Path) -> dict[str, npt.NDArray[Any]]:
    """Slices of b by key, as they are stored."""
    found = {name.removesuffix(".png"): data for name, data in members(own) if "--b--" in name}
    return {key: decode_png(data) for key, data in found.items() if not key.endswith((".mask", ".json"))}


def overlap(sa_med2d: Command, *places: object) -> dict[str, Any]:
    ran = sa_med2d("overlap", *places, "--json", "--workers", 1)
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_a_mirrored_and_windowed_volume_is_found_within_a_set(sa_med2d: Command, own: Path) -> None:
    (pair,) = overlap(sa_med2d, own)["pairs"]
    assert (pair["kind"], pair["slices"], pair["reverse"], pair["flip"]) == ("volume", 8, True, "horizontal")
    assert (pair["one"]["volume"], pair["other"]["volume"]) == ("ct_00--Own--c--x", "ct_00--Own--a--x") or (
        pair["one"]["volume"],
        pair["other"]["volume"],
    ) == ("ct_00--Own--a--x", "ct_00--Own--c--x")


def test_copies_in_two_splits_are_said_in_words(sa_med2d: Command, own: Path) -> None:
    ran = sa_med2d("overlap", own, "--workers", 1)
    assert "Own test: 8 of 16 images (50 %), 1 of 2 patients, have a copy elsewhere in it (8 in train" in ran.out
    assert "do not train on one and test on the other" in ran.out


def test_the_set_itself_is_the_default(sa_med2d: Command, own: Path) -> None:
    assert overlap(sa_med2d, own, own)["pairs"] == overlap(sa_med2d, own)["pairs"]


def test_slices_of_another_set_are_matched_in_order(sa_med2d: Command, own: Path, other: Path) -> None:
    found = overlap(sa_med2d, own, other)
    (pair,) = found["pairs"]
    assert (pair["kind"], pair["slices"], pair["reverse"]) == ("volume", 5, False)
    assert (pair["one"]["key"], pair["one"]["last_key"]) == ("ct_00--Own--b--x_0002", "ct_00--Own--b--x_0006")
    assert (pair["other"]["key"], pair["other"]["last_key"]) == ("ct_00--Other--x--x_0000", "ct_00--Other--x--x_0004")
    (held,) = [part for part in found["parts"] if part["copies"]]
    assert (held["source"], held["copies"], held["patients_with_copies"]) == ("Other", 5, 1)
    assert (held["splits"], held["sources"]) == ({"test": 5}, {"Own": 5})


@pytest.mark.parametrize("change", FOUND)
def test_changed_copies_of_pictures_are_found_in_a_set(
    sa_med2d: Command, own: Path, slices: dict[str, npt.NDArray[Any]], change: str, tmp_path: Path
) -> None:
    for key, pixels in slices.items():
        cv2.imwrite(str(tmp_path / f"{key.rsplit('_', 1)[1]}.png"), CHANGES[change](pixels))
    found = {(pair["other"]["key"], pair["one"]["key"]) for pair in overlap(sa_med2d, own, tmp_path)["pairs"]}
    assert found == {(key.rsplit("_", 1)[1], key) for key in slices}


@pytest.mark.parametrize("kind", ["folder", "folder above", "zip"])
def test_the_release_is_read_by_its_images_and_its_names(
    sa_med2d: Command, own: Path, slices: dict[str, npt.NDArray[Any]], tmp_path: Path, kind: str
) -> None:
    top = tmp_path / "SAMed2Dv1"
    (top / "masks").mkdir(parents=True)
    (top / "images").mkdir()
    for key, pixels in slices.items():
        cv2.imwrite(str(top / "images" / f"{key.replace('Own', 'Their')}.png"), np.dstack([pixels] * 3))
        cv2.imwrite(str(top / "masks" / f"{key}.png"), pixels)
    if kind == "zip":
        shutil.make_archive(str(tmp_path / "release"), "zip", tmp_path, "SAMed2Dv1")
    found = overlap(sa_med2d, own, {"folder": top, "folder above": tmp_path, "zip": tmp_path / "release.zip"}[kind])
    (pair,) = found["pairs"]
    assert (found["other_images"], pair["kind"], pair["distance"], pair["slices"]) == (8, "volume", 0.0, 8)
    assert pair["other"]["source"] == "Their"


def test_a_zip_that_is_split_or_none_is_refused(sa_med2d: Command, own: Path, tmp_path: Path) -> None:
    (tmp_path / "none.zip").write_bytes(b"PK no zip")
    ran = sa_med2d("overlap", own, tmp_path / "none.zip")
    assert ran.code == 1
    assert "is no zip that can be read" in ran.err
    parts = zip_bytes(
        [Member(f"images/{number}.png", b"no picture" * 50, stored=True) for number in range(4)], part=700
    )
    for number, data in enumerate(parts, 1):
        (tmp_path / (f"part.z{number:02}" if number < len(parts) else "part.zip")).write_bytes(data)
    said = " ".join(sa_med2d("overlap", own, tmp_path / "part.zip").err.split())
    assert f"'sa-med2d import {tmp_path / 'part.zip'}' reads the release" in said


def test_a_picture_of_a_zip_that_is_too_large_is_named(sa_med2d: Command, own: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        _, data = cv2.imencode(".png", smooth(9)[0])
        packed.writestr("small.png", bytes(data))
        with packed.open("bomb.png", "w") as file:
            for _ in range(257):
                file.write(bytes(1 << 20))
    found = overlap(sa_med2d, own, tmp_path / "pictures.zip")
    assert (found["other_images"], found["unreadable"]) == (1, ["bomb.png"])


def test_other_pictures_are_no_copies(sa_med2d: Command, own: Path, tmp_path: Path) -> None:
    for number, pixels in enumerate(smooth(9)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), (pixels // 8 + 128).astype(np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    ran = sa_med2d("overlap", own, tmp_path, "--workers", 1)
    assert f"{tmp_path}: none of 8 images is in {own}" in ran.out
    assert f"1 picture of {tmp_path} cannot be read: broken.png" in ran.err


def test_a_shard_that_did_not_change_is_not_read_again(sa_med2d: Command, own: Path) -> None:
    first = overlap(sa_med2d, own)
    shard = next((own / "data").rglob("train-*.tar"))
    whole = shard.read_bytes()
    try:
        shard.write_bytes(bytes(512) + whole[512:])  # without its first header nobody could go through it
        kept = overlap(sa_med2d, own, own)["images"]
    finally:
        shard.write_bytes(whole)
    assert kept == first["images"]


def test_a_folder_without_pictures_is_refused(sa_med2d: Command, own: Path, tmp_path: Path) -> None:
    ran = sa_med2d("overlap", own, tmp_path)
    assert ran.code == 1
    assert "holds no picture that can be read" in ran.err
    assert "is not there" in sa_med2d("overlap", tmp_path / "gone").err


def test_removing_a_source_removes_its_fingerprints(sa_med2d: Command, tmp_path: Path) -> None:
    out = build(write(tmp_path, "Gone", {"a": texture(1)[:4, :SIDE, :SIDE]}), tmp_path / "out")
    recipe = write(tmp_path, "Stays", {"a": texture(2)[:4, :SIDE, :SIDE]})
    assert main([str(one) for one in ("build", recipe, "--raw", tmp_path, "--out", out, "--workers", 1)]) == 0
    overlap(sa_med2d, out)
    assert sa_med2d("remove", "Gone", out).code == 0
    assert [path.parent.name for path in (out / "build/fingerprints").rglob("*.parquet")] == ["Stays"]


def test_a_set_in_an_object_store_is_compared_and_keeps_its_fingerprints(
    sa_med2d: Command, own: Path, other: Path, store: Store
) -> None:
    for path, data in tree(other, "data", "index", "build/receipts").items():
        store.put(path, data)
    expected = overlap(sa_med2d, own, other)["pairs"]
    assert overlap(sa_med2d, own, store.url)["pairs"] == expected
    assert {name.split("/")[4] for name in store.tree("build/fingerprints")} == {"Other"}
    before = len(store.requests())
    assert overlap(sa_med2d, own, store.url)["pairs"] == expected
    reads = [request.path for request in store.requests(before) if request.path.endswith(".tar")]
    assert len(reads) <= 10, "only slices that are compared, no whole shard"


def test_a_worker_that_is_killed_is_said_in_words(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own, tmp_path / "out", ignore=shutil.ignore_patterns("fingerprints"))  # which are not read again
    command = [sys.executable, "-m", "builder", "overlap", str(tmp_path / "out"), "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        under_way: list[psutil.Process] = []
        while running.poll() is None and not under_way:
            under_way = [worker for worker in workers_of(running.pid) if worker.cpu_times().user > 0.3]
            time.sleep(0.01)
        under_way[0].kill()
        _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert said.splitlines()[-1].startswith("error: a worker died: it was killed"), said
    assert "Traceback" not in said
