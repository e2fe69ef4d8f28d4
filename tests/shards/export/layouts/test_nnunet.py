"""The layouts ``nnunet`` and ``nnunet-3d``, by nnU-Net's own check where it is installed, and by its rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sa_med2d_20m import load
from tests.support.command import Command
from tests.support.export_source import read_png
from tests.support.nifti import read_nifti


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
        rows = load(built, "all", split=split, sources=[source], view="semantic", classes=classes)
        for row in rows:
            image = read_png(dataset / f"images{part}/{row['key']}_0000.png")
            label = read_png(dataset / f"labels{part}/{row['key']}.png")
            assert (1 if image.ndim == 2 else image.shape[2]) == len(channels)
            assert image.shape[:2] == label.shape
            np.testing.assert_array_equal(label, row["mask"])
            seen.setdefault(split, set()).add(row["key"])
    (fold,) = json.loads((dataset / "splits_final.json").read_text())
    assert set(fold["train"]) == seen.get("train", set())
    assert set(fold["val"]) == seen.get("validation", set())


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


@pytest.mark.parametrize("layout", ["nnunet", "nnunet-3d"])
def test_nnunet_accepts_it(layout: str, built: Path, folder: Path, sa_med2d: Command) -> None:
    check = pytest.importorskip(
        "nnunetv2.experiment_planning.verify_dataset_integrity", reason="nnU-Net is not installed"
    )
    to = exported(layout, built, folder, sa_med2d)
    datasets = sorted(to.glob("Dataset*"))
    assert datasets
    for dataset in datasets:
        check.verify_dataset_integrity(str(dataset), 1)
