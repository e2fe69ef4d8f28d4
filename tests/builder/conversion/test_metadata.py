"""What the metadata of a slice says beside its pixels: where it lies, who placed it, what it lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile

from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE, write_source
from tests.support.volumes import ct_like, organ_map

SPACING = ("slice_spacing", "slices", "origin", "direction")


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data in members(out) if name.endswith(".json")]


def build(sa_med2d: Command, folder: Path, recipe: str) -> list[dict[str, Any]]:
    (folder / "Small.toml").write_text(recipe)
    ran = sa_med2d("build", folder / "Small.toml", "--raw", folder / "raw", "--out", folder / "out")
    assert ran.code == 0, ran.err
    return records(folder / "out")


def oblique() -> np.ndarray:
    """Turned by 20 degrees about z and by 10 about x, with a flipped axis."""
    a, b = np.radians(20), np.radians(10)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([-0.7, 0.9, 1.25])
    affine[:3, 3] = (101.5, -33.25, 12.125)
    return affine


def test_a_slice_says_where_its_volume_lies_as_itk_does(sa_med2d: Command, tmp_path: Path) -> None:
    write_nifti(tmp_path / "raw/images/a.nii.gz", ct_like(), oblique())
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map(), oblique())
    found = build(sa_med2d, tmp_path, RECIPE.format(name="Small", license="MIT", modality="ct"))
    lps = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "raw/images/a.nii.gz")), "LPS")
    assert {record["axis"] for record in found} == {"x", "y", "z"}
    for record in found:
        assert record["origin"] == pytest.approx(lps.GetOrigin(), abs=1e-4)
        assert record["direction"] == pytest.approx(lps.GetDirection(), abs=1e-6)
        along = {"x": 2, "y": 1, "z": 0}[record["axis"]]
        assert record["slice_spacing"] == pytest.approx(lps.GetSpacing()[along], abs=1e-5)
        assert record["slices"] == lps.GetSize()[along]


def test_a_picture_lies_nowhere(sa_med2d: Command, tmp_path: Path) -> None:
    for folder in ("i", "m"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    assert cv2.imwrite(str(tmp_path / "raw/i/a.png"), pixels)
    assert cv2.imwrite(str(tmp_path / "raw/m/a.png"), np.ones((40, 50), np.uint8))
    text = RECIPE.format(name="Small", license="MIT", modality="endoscopy")
    text = text.replace("images/{case}.nii.gz", "i/{case}.png").replace("labels/{case}.nii.gz", "m/{case}.png")
    (record,) = build(sa_med2d, tmp_path, text)
    assert [record[name] for name in SPACING] == [None] * 4
    assert record["official_split"] is False


def test_a_stack_without_geometry_has_a_number_of_slices(sa_med2d: Command, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    tifffile.imwrite(tmp_path / "raw/images/a.tif", ct_like().astype(np.uint16))
    tifffile.imwrite(tmp_path / "raw/labels/a.tif", organ_map())
    text = RECIPE.format(name="Small", license="MIT", modality="microscopy").replace(".nii.gz", ".tif")
    found = build(sa_med2d, tmp_path, text)
    sides = dict(zip("xyz", ct_like().shape, strict=True))
    assert found
    for record in found:
        assert [record[name] for name in SPACING] == [None, sides[record["axis"]], None, None]


def test_it_says_whether_the_source_placed_the_case(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=3)
    recipe.write_text(recipe.read_text() + '[splits]\ntest = ["case01"]\n')
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    placed = {(record["case"], record["official_split"]) for record in records(tmp_path / "out")}
    assert placed == {("case00", False), ("case01", True), ("case02", False)}


BY_CLASS = RECIPE.format(name="Small", license="MIT", modality="ct").split("[labels]")[0]
BY_CLASS = BY_CLASS.replace("labels/{case}.nii.gz", "labels/{case}_{label}.nii.gz")


@pytest.mark.parametrize(
    ("more", "files", "missing"),
    [
        ("", {"a": ["liver", "spleen"], "b": ["liver"]}, {"a": [], "b": ["spleen"]}),
        ("", {"a": ["liver", "spleen"], "b": ["liver", "spleen"]}, {"a": [], "b": []}),
        (
            '[labels]\nliver = "liver"\nspleen = "spleen"\n[regions]\ntorso_fat = ["liver", "spleen"]\n',
            {"a": ["liver", "spleen"], "b": ["liver"]},
            {"a": [], "b": ["spleen", "torso_fat"]},
        ),
    ],
    ids=["one file is missing", "none is missing", "a region lacks a part"],
)
def test_classes_that_a_case_has_no_file_of_are_named(
    sa_med2d: Command, tmp_path: Path, more: str, files: dict[str, list[str]], missing: dict[str, list[str]]
) -> None:
    values = {"liver": 1, "spleen": 2}
    for case, labels in files.items():
        write_nifti(tmp_path / f"raw/images/{case}.nii.gz", ct_like())
        for label in labels:
            write_nifti(tmp_path / f"raw/labels/{case}_{label}.nii.gz", (organ_map() == values[label]).astype(np.uint8))
    found = build(sa_med2d, tmp_path, BY_CLASS + more)
    assert {record["case"] for record in found} == set(files)
    assert all(record["not_annotated"] == missing[record["case"]] for record in found)


def test_a_label_map_annotates_all_classes(sa_med2d: Command, tmp_path: Path) -> None:
    write_nifti(tmp_path / "raw/images/a.nii.gz", ct_like())
    write_nifti(tmp_path / "raw/labels/a.nii.gz", (organ_map() == 1).astype(np.uint8))
    found = build(sa_med2d, tmp_path, RECIPE.format(name="Small", license="MIT", modality="ct"))
    assert {mask["label"] for record in found for mask in record["masks"]} == {"liver"}
    assert all(record["not_annotated"] == [] for record in found)
