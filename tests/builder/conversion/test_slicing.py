"""Slices: where they lie, how they are turned and spaced, and which are left out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813

from builder.conversion.slicing import AXES, passes_edge_rule
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.orientations import build_one
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


def naive(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The formula of the design as anybody would write it."""
    low, high = float(values.min()), float(values.max())
    pixels: npt.NDArray[np.uint8] = np.round((values.astype(float) - low) / (high - low) * 255).astype(np.uint8)
    return pixels


def test_slices_lie_as_the_design_says(sa_med2d: Command, tmp_path: Path) -> None:
    built = build_one(sa_med2d, tmp_path, "other", ".nii.gz", "RAS", "RAS")
    lps = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "other/images/case00.nii.gz")), "LPS"))
    seen = set()
    for name, data in built.items():
        key, member = name.split(".", 1)
        if member != "png":
            continue
        axis, index = key.rsplit("--", 1)[1].split("_")
        expected = {"x": lambda i: lps[i], "y": lambda i: lps[::-1, i], "z": lambda i: lps[::-1, :, i]}[axis](
            int(index)
        )
        with PIL.Image.open(io.BytesIO(data)) as picture:
            assert np.array_equal(np.asarray(picture), naive(expected))
        seen.add(axis)
    assert seen == {"x", "y", "z"}


def test_spacing_is_of_rows_and_columns(sa_med2d: Command, tmp_path: Path) -> None:
    built = build_one(sa_med2d, tmp_path, "other", ".nrrd", "SLA", "SLA")
    spacings = {
        json.loads(data)["plane"]: json.loads(data)["spacing"] for name, data in built.items() if "json" in name
    }
    assert spacings == {"axial": [0.8, 0.8], "coronal": [1.5, 0.8], "sagittal": [1.5, 0.8]}


@pytest.mark.parametrize(
    ("height", "width", "kept"), [(1, 2, True), (2, 1, True), (99, 200, False), (100, 200, True), (300, 149, False)]
)
def test_edge_rule(height: int, width: int, kept: bool) -> None:
    assert passes_edge_rule(height, width) is kept


def test_flat_volume_keeps_its_axial_slices_only(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_nifti(raw / "images/a.nii.gz", ct_like(shape=(10, 40, 36)))
    write_nifti(raw / "labels/a.nii.gz", organ_map((10, 40, 36)))
    recipe = tmp_path / "Flat.toml"
    recipe.write_text(RECIPE.format(name="Flat", license="MIT", modality="mr"))
    assert sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out").code == 0
    keys = [name for name, _ in members(tmp_path / "out") if name.endswith(".json")]
    assert {key.rsplit("--", 1)[1][0] for key in keys} == {"x"}
    receipt = json.loads(next((tmp_path / "out/build/receipts").rglob("*.json")).read_text())
    assert receipt["dropped"]["edge"] == 40 + 36


def test_axes_cover_the_release_letters() -> None:
    assert [(axis.name, axis.number, axis.plane) for axis in AXES.values()] == [
        ("x", 0, "axial"),
        ("y", 1, "coronal"),
        ("z", 2, "sagittal"),
    ]
