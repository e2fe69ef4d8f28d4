"""The layouts ``monai`` and ``monai-3d``, by MONAI itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa_med2d_20m import load
from tests.support.command import Command
from tests.support.export_source import build, read_png, write_recipe, write_turned
from tests.support.nifti import read_nifti
from tests.support.volumes import ct_like, organ_map


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monai")


def exported(layout: str, built: Path, folder: Path, sa_med2d: Command) -> tuple[Path, str]:
    to = folder / layout
    ran = sa_med2d("export", built, "--to", to, "--layout", layout, "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return to, ran.err


def items(to: Path, name: str) -> list[dict[str, Any]]:
    """What ``load_decathlon_datalist`` gives, by its rules: a list of that name, paths beside the file."""
    listed = json.loads((to / "dataset.json").read_text())[name]
    return [{**item, **{file: str(to / item[file]) for file in ("image", "label")}} for item in listed]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_classes_are_those_of_the_loader(split: str, built: Path, folder: Path, sa_med2d: Command) -> None:
    to, _ = exported("monai", built, folder, sa_med2d)
    listed = items(to, "training" if split == "train" else split)
    numbers = json.loads((to / "dataset.json").read_text())["labels"]
    assert numbers["0"] == "background"
    classes = [numbers[str(number)] for number in range(1, len(numbers))]
    rows = {row["key"]: row for row in load(built, "all", split=split, view="semantic", classes=classes)}
    assert {Path(item["image"]).stem for item in listed} == rows.keys()
    for item in listed:
        row = rows[Path(item["image"]).stem]
        label = read_png(item["label"])
        np.testing.assert_array_equal(label, row["mask"])
        image = read_png(item["image"])
        np.testing.assert_array_equal(image, row["image"])
        assert item["license"] == row["license"]


def test_overlaps_are_said(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    ran = sa_med2d(
        "export", built, "--to", tmp_path / "to", "--layout", "monai", "--source", "Rings", "--split", "test"
    )
    (row,) = load(built, "all", split="test", sources=["Rings"])
    both = np.count_nonzero((row["mask"].reshape(-1, row["height"], row["width"]) > 0).sum(axis=0) > 1)
    assert f"{both:,} pixels belong to several classes" in ran.err
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
    assert "3 volumes are left out, as not all of their slices along one axis are there" in ran.err
    assert "4 pictures are left out: they are no volumes" in ran.err


@pytest.mark.parametrize("layout", ["monai", "monai-3d"])
def test_monai_reads_the_list(layout: str, built: Path, folder: Path, sa_med2d: Command) -> None:
    data = pytest.importorskip("monai.data", reason="MONAI is not installed")
    transforms = pytest.importorskip("monai.transforms")
    to, _ = exported(layout, built, folder, sa_med2d)
    listed = data.load_decathlon_datalist(str(to / "dataset.json"), True, "training")
    assert [item["label"] for item in listed] == [item["label"] for item in items(to, "training")]
    read = transforms.LoadImaged(keys=["image", "label"])
    for item in listed[:5]:
        loaded = read({name: item[name] for name in ("image", "label")})
        assert loaded["image"].shape[:2] == loaded["label"].shape[:2]
