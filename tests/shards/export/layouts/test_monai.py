"""The layouts ``monai`` and ``monai-3d`` as MONAI reads them (``make trainers``), and as the Decathlon lays them out."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sa_med2d_20m import Semantic, load
from tests.support.command import Command
from tests.support.export_volumes import CASES
from tests.support.nifti import read_nifti

SOURCES = {
    "Whole": ["liver", "spleen"], "Gaps": ["liver", "spleen"], "Union": ["liver", "spleen", "abdomen_organs"],
    "Rings": ["optic_disc", "retinal_vessel"],
}  # fmt: skip
LISTS = {"train": "training", "validation": "validation", "test": "test"}
READ = """
import pathlib, sys
import numpy as np
from monai.data import load_decathlon_datalist, load_decathlon_properties
from monai.transforms import LoadImaged

folder, kind, to = sys.argv[1:]
found = load_decathlon_datalist(folder + "/dataset.json", is_segmentation=True, data_list_key=kind)
load_decathlon_properties(folder + "/dataset.json", ["name", "labels", "modality", "numTraining", "tensorImageSize"])
read = LoadImaged(keys=["image", "label"])
arrays = {}
for number, item in enumerate(found):
    data = read(item)
    for name in ("image", "label"):
        arrays[f"{pathlib.Path(item[name]).name.split('.')[0]} {name}"] = np.asarray(data[name])
        arrays[f"{pathlib.Path(item[name]).name.split('.')[0]} {name} affine"] = np.asarray(data[name].affine)
np.savez(to, **arrays)
"""
needs_monai = pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="make trainers installs monai")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monai")


def export(volumes: Path, to: Path, layout: str, sa_med2d: Command) -> Path:
    ran = sa_med2d("export", volumes, "--to", to, "--layout", layout, "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return to


@pytest.fixture
def slices(folder: Path, volumes: Path, sa_med2d: Command) -> Path:
    """Made once."""
    return export(volumes, folder / "2d", "monai", sa_med2d)


@pytest.fixture
def whole(folder: Path, volumes: Path, sa_med2d: Command) -> Path:
    """Made once."""
    return export(volumes, folder / "3d", "monai-3d", sa_med2d)


def monai_reads(dataset: Path, kind: str, tmp_path: Path) -> dict[str, Any]:
    """Name of a file and what it is -> array and affine, through MONAI."""
    arguments = [sys.executable, "-c", READ, dataset, kind, tmp_path / "read.npz"]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return dict(np.load(tmp_path / "read.npz"))


@needs_monai
@pytest.mark.parametrize("source", ["Union", "Rings"])
def test_monai_reads_the_slices_of_the_loader(slices: Path, volumes: Path, source: str, tmp_path: Path) -> None:
    """It puts the column first."""
    found = monai_reads(slices / source, "test", tmp_path)
    rows = list(load(volumes, "all", split="test", sources=[source], view=Semantic(classes=SOURCES[source])))
    assert {name for name in found if name.endswith("image")} == {f"{row['key']} image" for row in rows}
    for row in rows:
        np.testing.assert_array_equal(found[f"{row['key']} image"], np.moveaxis(row["image"], 0, 1))
        np.testing.assert_array_equal(found[f"{row['key']} label"], row["mask"].T)


@needs_monai
def test_monai_reads_the_volumes_of_the_source(whole: Path, volumes: Path, tmp_path: Path) -> None:
    found = monai_reads(whole / "Whole", "training", tmp_path)
    for case in (case for case, split in CASES.items() if split == "train"):
        for name, kind in (("image", "images"), ("label", "labels")):
            source = read_nifti(volumes.parent / f"raw/Whole/{kind}/{case}.nii.gz")
            array, affine = (found[f"ct_00--Whole--{case} {name}{what}"] for what in ("", " affine"))
            index = np.indices(array.shape).reshape(3, -1)
            there = np.linalg.inv(source.affine) @ affine @ np.vstack([index, np.ones(index.shape[1])])
            voxels = np.rint(there[:3]).astype(int)
            assert np.abs(there[:3] - voxels).max() < 1e-3
            np.testing.assert_array_equal(array.reshape(-1), np.asarray(source.dataobj)[tuple(voxels)])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("split", LISTS)
def test_lists_name_every_slice_with_its_class_map(slices: Path, volumes: Path, source: str, split: str) -> None:
    listed = json.loads((slices / source / "dataset.json").read_text())
    assert listed["labels"] == {str(at): label for at, label in enumerate(["background", *SOURCES[source]])}
    assert listed["tensorImageSize"] == "2D"
    view = Semantic(classes=SOURCES[source])
    rows = {}
    if split != "validation" or source == "Rings":
        rows = {row["key"]: row for row in load(volumes, "all", split=split, sources=[source], view=view)}
    assert {item["key"] for item in listed[LISTS[split]]} == rows.keys()
    assert listed[f"num{LISTS[split].capitalize()}"] == len(rows)
    for item in listed[LISTS[split]]:
        image, label = (
            cv2.imread(str(slices / source / item[name]), cv2.IMREAD_UNCHANGED) for name in ("image", "label")
        )
        assert image is not None
        row = rows[item["key"]]
        np.testing.assert_array_equal(image[..., ::-1] if image.ndim == 3 else image, row["image"])
        np.testing.assert_array_equal(label, row["mask"])
        assert (item["patient"], item["license"]) == (row["patient"], row["license"])


def test_volumes_are_listed_once(whole: Path) -> None:
    """The classes of a volume are those of its slices; the first axis is taken."""
    assert {path.name for path in whole.iterdir() if path.is_dir() and path.name[0] != "."} == {"Whole", "Union"}
    listed = json.loads((whole / "Whole/dataset.json").read_text())
    assert [item["case"] for item in listed["training"]] == ["askew", "straight"]
    assert [item["case"] for item in listed["test"]] == ["third"]
    assert (listed["tensorImageSize"], listed["modality"]) == ("3D", {"0": "ct"})
    for name in ("training", "test"):
        for item in listed[name]:
            image, label = (read_nifti(whole / "Whole" / item[kind]) for kind in ("image", "label"))
            assert image.shape == label.shape == (36, 40, 24)
            np.testing.assert_array_equal(image.affine, label.affine)
