"""The layouts ``nnunet`` and ``nnunet-3d``: nnU-Net's own check (``make trainers``), and pixels read by others."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from sa_med2d_20m import Semantic, load
from tests.support.command import Command
from tests.support.export_source import build, write_png, write_recipe
from tests.support.export_volumes import CASES, image_of, labels_of
from tests.support.nifti import read_nifti

LABELS = {"Whole": ["liver", "spleen"], "Gaps": ["liver", "spleen"], "Union": ["liver", "spleen", "abdomen_organs"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nnunet")


@pytest.fixture
def slices(folder: Path, volumes: Path, sa_med2d: Command) -> Path:
    """Made once."""
    ran = sa_med2d("export", volumes, "--to", folder / "2d", "--layout", "nnunet", "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return folder / "2d"


@pytest.fixture
def whole(folder: Path, volumes: Path, sa_med2d: Command) -> Path:
    """Made once."""
    ran = sa_med2d("export", volumes, "--to", folder / "3d", "--layout", "nnunet-3d", "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return folder / "3d"


def dataset(exported: Path, source: str) -> Path:
    (found,) = exported.glob(f"Dataset[0-9]*_{source}_*")
    return found


VERIFY = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

if __name__ == "__main__":  # it starts processes that read this file again
    for folder in sys.argv[1:]:
        verify_dataset_integrity(folder, num_processes=1)
"""


@pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason="make trainers installs nnunetv2")
def test_nnunet_accepts_every_dataset(slices: Path, whole: Path, tmp_path: Path) -> None:
    found = [str(path) for place in (slices, whole) for path in sorted(place.glob("Dataset*"))]
    assert len(found) == 4 + 2
    (tmp_path / "verify.py").write_text(VERIFY)
    ran = subprocess.run([sys.executable, tmp_path / "verify.py", *found], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("verify_dataset_integrity Done") == len(found)
    assert not [line for line in ran.stdout.splitlines() if line.startswith(("Warning", "Error", "ERROR", "WARNING"))]


@pytest.mark.parametrize("source", LABELS)
def test_slices_are_those_of_the_loader(slices: Path, volumes: Path, source: str) -> None:
    """Pictures as they are stored, and the class maps of ``view="semantic"``, where the smaller mask wins."""
    place = dataset(slices, source)
    seen = 0
    for split in ("train", "test"):
        for row in load(volumes, "all", split=split, sources=[source], view=Semantic(classes=LABELS[source])):
            kind = "Ts" if split == "test" else "Tr"
            image = cv2.imread(str(place / f"images{kind}/{row['key']}_0000.png"), cv2.IMREAD_UNCHANGED)
            label = cv2.imread(str(place / f"labels{kind}/{row['key']}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(image, row["image"])
            np.testing.assert_array_equal(label, row["mask"])
            seen += 1
    assert seen == len(list(place.glob("images*/*.png"))) == len(list(place.glob("labels*/*.png")))


def moved(written: Any, source: Any) -> npt.NDArray[np.int64]:
    """Where each voxel of a written volume lies in the source's: (3, voxels), by the affines alone."""
    index = np.indices(written.shape).reshape(3, -1)
    there = np.linalg.inv(source.affine) @ written.affine @ np.vstack([index, np.ones(index.shape[1])])
    whole: npt.NDArray[np.int64] = np.rint(there[:3]).astype(int)
    assert np.abs(there[:3] - whole).max() < 1e-3
    assert sorted(written.shape) == sorted(source.shape)
    return whole


@pytest.mark.parametrize("case", CASES)
def test_volumes_are_those_of_the_source(whole: Path, volumes: Path, case: str) -> None:
    """Every value and every label, at its place in the patient."""
    kind = "Ts" if CASES[case] == "test" else "Tr"
    raw = volumes.parent / "raw/Whole"
    for exported, source in (
        (f"images{kind}/ct_00--Whole--{case}_0000.nii.gz", raw / f"images/{case}.nii.gz"),
        (f"labels{kind}/ct_00--Whole--{case}.nii.gz", raw / f"labels/{case}.nii.gz"),
    ):
        written, held = read_nifti(dataset(whole, "Whole") / exported), read_nifti(source)
        found = np.asarray(written.dataobj).reshape(-1)
        np.testing.assert_array_equal(found, np.asarray(held.dataobj)[tuple(moved(written, held))])
        assert written.header.get_xyzt_units()[0] == "mm"
    assert np.asarray(held.dataobj).T.shape == image_of(case).shape == labels_of(case).shape


def test_where_classes_overlap_the_smaller_mask_wins_and_the_loss_is_said(
    volumes: Path, whole: Path, tmp_path: Path, sa_med2d: Command
) -> None:
    """The union of both organs is never smaller than one, and equals it where the other is not there."""
    choice = ("--config", "all", "--source", "Union", "--workers", 1)
    ran = sa_med2d("export", volumes, "--to", tmp_path / "to", "--layout", "nnunet", *choice)
    rows = [row for split in ("train", "test") for row in load(volumes, "all", split=split, sources=["Union"])]
    maps = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / "to").rglob("labels*/*.png"))]
    shown = sum(int(np.count_nonzero(one)) for one in maps)
    areas = sum(entry["area"] for row in rows for entry in row["masks"])
    assert f"{areas - shown:,} pixels of theirs are lost" in ran.err
    for case, split in CASES.items():
        path = dataset(whole, "Union") / f"labels{'Ts' if split == 'test' else 'Tr'}/ct_00--Union--{case}.nii.gz"
        read = nibabel.load(path)
        source = read_nifti(volumes.parent / f"raw/Union/labels/{case}.nii.gz")
        held = np.asarray(source.dataobj)[tuple(moved(read, source))].reshape(read.shape)
        found = np.asarray(read.dataobj)
        np.testing.assert_array_equal(found > 0, held > 0)


def test_labels_count_from_zero_and_ct_is_hu_in_volumes_alone(slices: Path, whole: Path) -> None:
    flat, deep = (json.loads((dataset(one, "Whole") / "dataset.json").read_text()) for one in (slices, whole))
    assert flat["labels"] == deep["labels"] == {"background": 0, "liver": 1, "spleen": 2}
    assert flat["channel_names"]["0"].casefold() != "ct" == deep["channel_names"]["0"].casefold()
    assert (flat["numTraining"], deep["numTraining"]) == (200, 2)
    colour = json.loads((dataset(slices, "Rings") / "dataset.json").read_text())
    assert colour["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    numbers = [int(path.name[7:].split("_")[0]) for path in slices.glob("Dataset*")]
    assert len(set(numbers)) == len(numbers)


def test_the_fold_is_our_validation_split(slices: Path, volumes: Path) -> None:
    (fold,) = json.loads((dataset(slices, "Rings") / "splits_final.json").read_text())
    for name, split in (("train", "train"), ("val", "validation")):
        assert fold[name] == [row["key"] for row in load(volumes, "all", split=split, sources=["Rings"])]
    assert not (dataset(slices, "Whole") / "splits_final.json").exists()


def test_volumes_with_gaps_and_pictures_are_left_out_and_said(volumes: Path, tmp_path: Path, sa_med2d: Command) -> None:
    ran = sa_med2d("export", volumes, "--to", tmp_path / "to", "--layout", "nnunet-3d", "--config", "all")
    assert ran.code == 0, ran.err
    assert "3 images are left out: they are no slices of a volume" in ran.err
    assert "3 images of volumes are left out: slices are missing along every axis" in ran.err


def test_what_nobody_looked_for_is_ignored(tmp_path: Path, sa_med2d: Command) -> None:
    """Of a case whose mask of the vessels is damaged, what has no mask may be vessel."""
    disc, empty = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    disc[5:15, 6:20] = 255
    raw = tmp_path / "raw"
    for case in ("damaged", "fine"):
        write_png(raw / f"Eyes/images/{case}.png", np.random.default_rng(0).integers(0, 255, disc.shape, np.uint8))
        write_png(raw / f"Eyes/masks/disc/{case}.png", disc)
        write_png(raw / f"Eyes/masks/vessel/{case}.png", disc[::-1] if case == "fine" else empty)
    (raw / "Eyes/masks/vessel/damaged.png").write_bytes(b"no picture")
    write_recipe(raw, "Eyes", "fundus_photography", "MIT", "", """
[files]
image = "images/{case}.png"
mask = "masks/{label}/{case}.png"
[labels]
disc = "optic_disc"
vessel = "retinal_vessel"
[gates]
bad_mask = "drop"
""", '[splits]\ntrain = ["*"]\n')  # fmt: skip
    out = build(raw, tmp_path / "out", [raw / "Eyes.toml"])
    ran = sa_med2d("export", out, "--to", tmp_path / "to", "--layout", "nnunet")
    assert ran.code == 0, ran.err
    labels = json.loads((dataset(tmp_path / "to", "Eyes") / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "optic_disc": 1, "retinal_vessel": 2, "ignore": 3}
    maps = {
        path.name.split("--")[2]: cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for path in dataset(tmp_path / "to", "Eyes").glob("labelsTr/*.png")
    }
    np.testing.assert_array_equal(maps["damaged"], np.where(disc, 1, 3))
    np.testing.assert_array_equal(maps["fine"], np.where(disc, 1, np.where(disc[::-1], 2, 0)))
