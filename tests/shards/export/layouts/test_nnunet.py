"""The layouts ``nnunet`` and ``nnunet-3d``, by nnU-Net's own check where it is installed, and by its rules."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa_med2d_20m import Semantic, load
from tests.support.command import Command
from tests.support.export_source import build, write_eyes
from tests.support.export_volumes import CASES
from tests.support.nifti import read_nifti
from tests.support.picture_files import read_picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nnunet")


def exported(layout: str, built: Path, folder: Path, sa_med2d: Command) -> Path:
    to = folder / layout
    ran = sa_med2d("export", built, "--to", to, "--layout", layout, "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return to


@pytest.mark.parametrize(
    ("name", "source", "channels"),
    [
        ("Dataset501_Cells", "Cells", ["R", "G", "B"]),
        ("Dataset502_Deep_t1", "Deep", ["mr_grey"]),
        ("Dataset503_Rings", "Rings", ["R", "G", "B"]),
        ("Dataset504_Small", "Small", ["ct_grey"]),
    ],
)
def test_a_dataset_keeps_the_rules(
    name: str, source: str, channels: list[str], built: Path, folder: Path, sa_med2d: Command
) -> None:
    """Those of ``verify_dataset_integrity``: counts, consecutive labels, sizes, channels; and the pixels are right."""
    dataset = exported("nnunet", built, folder, sa_med2d) / name
    about = json.loads((dataset / "dataset.json").read_text())
    assert list(about["channel_names"].values()) == channels
    assert sorted(about["labels"].values()) == list(range(len(about["labels"])))
    assert about["file_ending"] == ".png"
    training = {path.name.removesuffix("_0000.png") for path in (dataset / "imagesTr").iterdir()}
    assert len(training) == about["numTraining"]
    assert {path.stem for path in (dataset / "labelsTr").iterdir()} == training
    classes = [label for label, number in sorted(about["labels"].items(), key=lambda pair: pair[1]) if number]
    seen: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        if (source, split) in (("Cells", "validation"), ("Cells", "test"), ("Deep", "test")):
            continue
        part = "Ts" if split == "test" else "Tr"
        rows = load(built, "all", split=split, sources=[source], view=Semantic(classes))
        for row in rows:
            image = read_picture(dataset / f"images{part}/{row['key']}_0000.png")
            label = read_picture(dataset / f"labels{part}/{row['key']}.png")
            assert (1 if image.ndim == 2 else image.shape[2]) == len(channels)
            assert image.shape[:2] == label.shape
            np.testing.assert_array_equal(label, row["mask"])
            seen.setdefault(split, set()).add(row["key"])
    if source == "Cells":  # nnU-Net would stop at a fold without validation
        assert not (dataset / "splits_final.json").exists()
        return
    (fold,) = json.loads((dataset / "splits_final.json").read_text())
    assert set(fold["train"]) == seen["train"]
    assert set(fold["val"]) == seen["validation"]


def test_volumes_come_back(built: Path, folder: Path, sa_med2d: Command) -> None:
    dataset = exported("nnunet-3d", built, folder, sa_med2d) / "Dataset502_Deep_t1"
    assert json.loads((dataset / "dataset.json").read_text())["labels"] == {"background": 0, "brain_tumor": 1, "kidney_left": 2}  # fmt: skip
    for number in range(2):
        for kind, back in (("images", "imagesTr/mr_t1--Deep--case{}_0000"), ("labels", "labelsTr/mr_t1--Deep--case{}")):
            raw = read_nifti(built.parent / f"raw/Deep/{kind}/case{number}.nii.gz")
            found = read_nifti(dataset / f"{back.format(number)}.nii.gz")
            np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(raw.dataobj))
            np.testing.assert_allclose(found.affine, raw.affine, atol=1e-4)


def test_a_source_without_training_cases_is_said(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    ran = sa_med2d(
        "export", built, "--to", tmp_path / "to", "--layout", "nnunet", "--source", "Rings", "--split", "test"
    )
    assert "Dataset501_Rings has no training cases, only 1 of test" in ran.err


@pytest.mark.parametrize("case", CASES)
def test_volumes_askew_have_every_voxel_at_its_place(case: str, volumes: Path, folder: Path, sa_med2d: Command) -> None:
    """Places by the affines alone, of a source whose axes are not those of the patient."""
    to = exported("nnunet-3d", volumes, folder / "askew", sa_med2d)
    (dataset,) = to.glob("Dataset*_Whole")
    part = "Ts" if CASES[case] == "test" else "Tr"
    for kind, name in (
        ("images", f"images{part}/ct_00--Whole--{case}_0000"),
        ("labels", f"labels{part}/ct_00--Whole--{case}"),
    ):
        written, source = (
            read_nifti(dataset / f"{name}.nii.gz"),
            read_nifti(volumes.parent / f"raw/Whole/{kind}/{case}.nii.gz"),
        )
        index = np.indices(written.shape).reshape(3, -1)
        there = np.linalg.inv(source.affine) @ written.affine @ np.vstack([index, np.ones(index.shape[1])])
        voxels = np.rint(there[:3]).astype(int)
        assert np.abs(there[:3] - voxels).max() < 1e-3
        values = np.asarray(source.dataobj)[tuple(voxels)]
        np.testing.assert_array_equal(np.asarray(written.dataobj).reshape(-1), values)


def test_what_nobody_looked_for_is_ignored(tmp_path: Path, sa_med2d: Command) -> None:
    """Of a case whose mask of the vessels is damaged, what has no mask may be vessel."""
    disc = np.zeros((40, 40), np.uint8)
    disc[5:15, 6:20] = 255
    masks: dict[str, dict[str, Any]] = {
        "damaged": {"disc": disc, "vessel": None},
        "fine": {"disc": disc, "vessel": disc[::-1]},
    }
    out = build(tmp_path / "raw", tmp_path / "out", [write_eyes(tmp_path / "raw", "x_ray", "train", masks)])
    (dataset,) = exported("nnunet", out, tmp_path, sa_med2d).glob("Dataset*")
    labels = json.loads((dataset / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "optic_disc": 1, "retinal_vessel": 2, "ignore": 3}
    maps = {path.name.split("--")[2]: read_picture(path) for path in dataset.glob("labelsTr/*.png")}
    np.testing.assert_array_equal(maps["damaged"], np.where(disc, 1, 3))
    np.testing.assert_array_equal(maps["fine"], np.where(disc, 1, np.where(disc[::-1], 2, 0)))


VERIFY = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

if __name__ == "__main__":  # it starts processes that read this file again
    for folder in sys.argv[1:]:
        verify_dataset_integrity(folder, num_processes=1)
"""


@pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason="'make trainers' installs nnU-Net")
def test_nnunet_accepts_every_dataset(
    built: Path, volumes: Path, folder: Path, tmp_path: Path, sa_med2d: Command
) -> None:
    found = []
    for out, place in ((built, folder), (volumes, folder / "askew")):
        for layout in ("nnunet", "nnunet-3d"):
            found += sorted(exported(layout, out, place, sa_med2d).glob("Dataset*"))
    assert len(found) == 4 + 1 + 4 + 2
    (tmp_path / "verify.py").write_text(VERIFY)
    ran = subprocess.run([sys.executable, tmp_path / "verify.py", *found], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("verify_dataset_integrity Done") == len(found)
    assert not [line for line in ran.stdout.splitlines() if line.casefold().startswith(("warning", "error"))]
