"""The layouts ``monai`` and ``monai-3d``, by MONAI itself where it is installed."""

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
from tests.support.export_source import build, write_recipe, write_turned
from tests.support.nifti import read_nifti
from tests.support.picture_files import read_picture
from tests.support.volumes import ct_like, organ_map


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monai")


def exported(layout: str, built: Path, folder: Path, sa_med2d: Command) -> tuple[Path, str]:
    to = folder / layout
    ran = sa_med2d("export", built, "--to", to, "--layout", layout, "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return to, ran.err


def items(to: Path, name: str, document: str = "dataset.json") -> list[dict[str, Any]]:
    """What ``load_decathlon_datalist`` gives, by its rules: a list of that name, paths beside the file."""
    listed = json.loads((to / document).read_text())[name]
    return [{**item, **{file: str(to / item[file]) for file in ("image", "label")}} for item in listed]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_classes_are_those_of_the_loader(split: str, built: Path, folder: Path, sa_med2d: Command) -> None:
    to, _ = exported("monai", built, folder, sa_med2d)
    listed = items(to, "training" if split == "train" else split)
    numbers = json.loads((to / "dataset.json").read_text())["labels"]
    assert numbers["0"] == "background"
    classes = [numbers[str(number)] for number in range(1, len(numbers))]
    rows = {row["key"]: row for row in load(built, "all", split=split, view=Semantic(classes))}
    assert {Path(item["image"]).stem for item in listed} == rows.keys()
    for item in listed:
        row = rows[Path(item["image"]).stem]
        label = read_picture(item["label"])
        np.testing.assert_array_equal(label, row["mask"])
        image = read_picture(item["image"])
        np.testing.assert_array_equal(image, row["image"])
        assert item["license"] == row["license"]


def test_each_source_has_a_list_of_its_own(built: Path, folder: Path, sa_med2d: Command) -> None:
    """A class that another source annotates would be background in its pictures."""
    to, _ = exported("monai", built, folder, sa_med2d)
    whole = json.loads((to / "dataset.json").read_text())
    classes = {"Small": {"liver", "spleen"}, "Deep": {"brain_tumor", "kidney_left"}, "Cells": {"cell"}}
    assert {path.name for path in to.glob("*.json")} == {
        "dataset.json", *(f"dataset_{name}.json" for name in (*classes, "Rings")),
    }  # fmt: skip
    together: dict[str, list[dict[str, Any]]] = {name: [] for name in ("training", "validation", "test")}
    for source in (*classes, "Rings"):
        own = json.loads((to / f"dataset_{source}.json").read_text())
        labels = own["labels"]
        assert labels.items() <= whole["labels"].items()
        assert set(labels.values()) - {"background"} == classes.get(source, {"optic_disc", "retinal_vessel"})
        assert own["numTraining"] == len(own.get("training", []))
        for name in together.keys() & own.keys():
            listed = items(to, name, f"dataset_{source}.json")
            assert {item["source"] for item in listed} == {source}
            shown = {value for item in listed for value in np.unique(read_picture(item["label"]))}
            assert {str(value) for value in shown} <= labels.keys()
            together[name] += listed
    for name, listed in together.items():
        assert sorted(listed, key=lambda item: str(item["image"])) == sorted(
            items(to, name), key=lambda item: str(item["image"])
        )


def test_overlaps_are_said(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    ran = sa_med2d(
        "export", built, "--to", tmp_path / "to", "--layout", "monai", "--source", "Rings", "--split", "test"
    )
    (row,) = load(built, "all", split="test", sources=["Rings"])
    both = np.count_nonzero((row["mask"].reshape(-1, row["height"], row["width"]) > 0).sum(axis=0) > 1)
    assert f"{both:,} pixels of several classes" in ran.err
    assert items(tmp_path / "to", "test")
    with pytest.raises(KeyError):  # MONAI stops at an empty list, so there is none
        items(tmp_path / "to", "training")


def test_volumes_are_those_of_the_source(built: Path, folder: Path, sa_med2d: Command) -> None:
    """In the axes, the geometry and, as it was built losslessly, the values of the files that it was built from."""
    to, said = exported("monai-3d", built, folder, sa_med2d)
    assert "6 volumes are left out, as not all of their slices along one axis are there" not in said
    found = {item["case"]: item for name in ("training", "validation") for item in items(to, name)}
    assert {item["source"] for item in found.values()} == {"Deep"}
    numbers = json.loads((to / "dataset.json").read_text())["labels"]
    places = {label: int(number) for number, label in numbers.items()}
    for case in ("case0", "case1"):
        for kind, folder_of in (("image", "images"), ("label", "labels")):
            raw = read_nifti(built.parent / f"raw/Deep/{folder_of}/{case}.nii.gz")
            back = read_nifti(found[case][kind])
            np.testing.assert_allclose(back.affine, raw.affine, atol=1e-4)
            expected = np.asarray(raw.dataobj)
            if kind == "label":
                expected = np.array([0, places["brain_tumor"], places["kidney_left"]])[expected]
            np.testing.assert_array_equal(np.asarray(back.dataobj), expected)


@pytest.mark.parametrize("axis", ["y", "z"])
def test_volumes_of_other_slices_are_those_of_the_source(axis: str, tmp_path: Path, sa_med2d: Command) -> None:
    """Coronal and sagittal slices are stored head up."""
    raw = tmp_path / "raw"
    for kind, volume in (("images", ct_like(3)), ("labels", organ_map())):
        write_turned(raw / f"Tall/{kind}/case0.nii.gz", volume)
    more = f'axes = ["{axis}"]\nkeep_empty = true'
    write_recipe(raw, "Tall", "ct", "MIT", more, """
[files]
image = "images/{case}.nii.gz"
mask = "labels/{case}.nii.gz"
[labels]
1 = "liver"
2 = "spleen"
[intensity]
mode = "lossless"
[masks]
min_area = 0
""")  # fmt: skip
    out = build(raw, tmp_path / "out", [raw / "Tall.toml"])
    assert sa_med2d("export", out, "--to", tmp_path / "to", "--layout", "monai-3d", "--workers", 1).code == 0
    (item,) = items(tmp_path / "to", "training")
    for kind, folder_of in (("image", "images"), ("label", "labels")):
        expected, found = read_nifti(raw / f"Tall/{folder_of}/case0.nii.gz"), read_nifti(item[kind])
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)


def test_what_is_in_no_volume_is_said(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    ran = sa_med2d("export", built, "--to", tmp_path / "to", "--layout", "monai-3d", "--config", "all")
    assert "left out: 3 volumes, of which not all slices along one axis are there" in ran.err
    assert "left out: 4 pictures, as a volume has slices" in ran.err


READ = """
import sys
import numpy as np
from monai.data import load_decathlon_datalist, load_decathlon_properties
from monai.transforms import LoadImaged

path, kind, to = sys.argv[1:]
load_decathlon_properties(path, ["name", "labels", "modality", "numTraining", "tensorImageSize"])
read, arrays = LoadImaged(keys=["image", "label"]), {}
for item in load_decathlon_datalist(path, is_segmentation=True, data_list_key=kind):
    data = read(item)
    for name in ("image", "label"):
        arrays[item[name]] = np.asarray(data[name])
        arrays[item[name] + " affine"] = np.asarray(data[name].affine)
np.savez(to, **{name.replace("/", "|"): array for name, array in arrays.items()})
"""


def monai_reads(to: Path, name: str, read: Path) -> dict[str, Any]:
    """Path of a file -> its array, and with `` affine`` behind it, its affine, through MONAI."""
    arguments = [sys.executable, "-c", READ, str(to / "dataset.json"), name, str(read)]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return {name.replace("|", "/"): array for name, array in np.load(read).items()}


needs_monai = pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="'make trainers' installs MONAI")


@needs_monai
def test_monai_reads_the_same_pictures(built: Path, folder: Path, tmp_path: Path, sa_med2d: Command) -> None:
    """It puts the column first."""
    to, _ = exported("monai", built, folder, sa_med2d)
    arrays = monai_reads(to, "test", tmp_path / "read.npz")
    listed = items(to, "test")
    assert len(arrays) == 4 * len(listed) > 0
    for item in listed:
        image, label = (read_picture(item[name]) for name in ("image", "label"))
        np.testing.assert_array_equal(arrays[item["image"]], np.moveaxis(image, 0, 1))
        np.testing.assert_array_equal(arrays[item["label"]], label.T)


@needs_monai
def test_monai_reads_the_volumes_of_the_source(volumes: Path, folder: Path, tmp_path: Path, sa_med2d: Command) -> None:
    """Every voxel at its place, which the affines alone say, of sources that are straight and askew."""
    to, _ = exported("monai-3d", volumes, folder / "askew", sa_med2d)
    arrays = monai_reads(to, "training", tmp_path / "read.npz")
    names = json.loads((to / "dataset.json").read_text())["labels"]
    numbers = np.array([0, *(next(int(at) for at in names if names[at] == label) for label in ("liver", "spleen"))])
    seen = 0
    for item in (item for item in items(to, "training") if item["source"] == "Whole"):
        for name, kind in (("image", "images"), ("label", "labels")):
            source = read_nifti(volumes.parent / f"raw/Whole/{kind}/{item['case']}.nii.gz")
            array, affine = (arrays[f"{item[name]}{what}"] for what in ("", " affine"))
            index = np.indices(array.shape).reshape(3, -1)
            there = np.linalg.inv(source.affine) @ affine @ np.vstack([index, np.ones(index.shape[1])])
            voxels = np.rint(there[:3]).astype(int)
            assert np.abs(there[:3] - voxels).max() < 1e-3
            expected = np.asarray(source.dataobj)[tuple(voxels)]
            np.testing.assert_array_equal(array.reshape(-1), expected if name == "image" else numbers[expected])
            seen += 1
    assert seen == 4
