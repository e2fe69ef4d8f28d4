"""Quality gates: each finds what it is for, and does what the recipe says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813

from sa_med2d_20m import decode_masks
from tests.support.command import Command, Ran
from tests.support.nifti import lps_affine, write_nifti
from tests.support.output import members
from tests.support.series import recipe
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


def build(
    sa_med2d: Command, tmp_path: Path, image: npt.NDArray[Any], mask: npt.NDArray[Any], more: str, **mask_grid: Any
) -> Ran:
    write_nifti(tmp_path / "raw/images/a.nii.gz", image)
    write_nifti(tmp_path / "raw/labels/a.nii.gz", mask, **mask_grid)
    recipe = tmp_path / "Gate.toml"
    head, labels = RECIPE.format(name="Gate", license="MIT", modality="ct").split("[files]")
    recipe.write_text(f"{head}[files]{labels}{more}" if more.startswith("[") else f"{head}{more}\n[files]{labels}")
    return sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")


def receipt(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next((tmp_path / "out/build/receipts").rglob("*.json")).read_text())
    return found


def two_valued() -> npt.NDArray[np.int16]:
    return np.where(ct_like() > 0, 7, -3).astype(np.int16)


def partly_constant() -> npt.NDArray[np.int16]:
    image = ct_like()
    image[10] = 55
    return image


def with_nan() -> npt.NDArray[np.float32]:
    image = ct_like().astype(np.float32)
    image[5, 5, 5], image[6, 6, 6] = np.nan, np.inf
    return image


def with_padding() -> npt.NDArray[np.int16]:
    """One voxel, in an axial slice that has masks, and in a coronal and a sagittal one that have none."""
    image, mask = ct_like(), organ_map()
    shown = [np.bincount(axis, minlength=side) for axis, side in zip(mask.nonzero(), mask.shape, strict=True)]
    z, y, x = int(shown[0].argmax()), int(shown[1].argmin()), int(shown[2].argmin())
    assert (shown[0][z] > 0, shown[1][y], shown[2][x]) == (True, 0, 0)
    image[z, y, x] = -3024
    return image


def nearly_full() -> npt.NDArray[np.uint8]:
    mask = organ_map()
    mask[8] = 1
    mask[8, 0] = 0
    return mask


def with_a_third_value() -> npt.NDArray[np.uint8]:
    mask = organ_map()
    mask[20, 2:9, 2:9] = 9
    return mask


FOUND: dict[str, tuple[Callable[[], npt.NDArray[Any]], Callable[[], npt.NDArray[Any]]]] = {
    "constant_slice": (partly_constant, organ_map),
    "two_valued_image": (two_valued, organ_map),
    "full_mask": (ct_like, nearly_full),
    "unnamed_values": (ct_like, with_a_third_value),
    "nonfinite_values": (with_nan, organ_map),
    "beyond_tissue": (with_padding, organ_map),
}
DEFAULTS = {
    "constant_slice": "drop",
    "two_valued_image": "quarantine",
    "full_mask": "flag",
    "unnamed_values": "quarantine",
    "nonfinite_values": "quarantine",
    "beyond_tissue": "flag",
}


@pytest.mark.parametrize("gate", FOUND)
@pytest.mark.parametrize("action", ["default", "off", "flag", "drop", "quarantine"])
def test_each_gate_does_what_is_said(sa_med2d: Command, tmp_path: Path, gate: str, action: str) -> None:
    image, mask = FOUND[gate]
    ran = build(sa_med2d, tmp_path, image(), mask(), "" if action == "default" else f'[gates]\n{gate} = "{action}"\n')
    if not (tmp_path / "out").exists():  # not every gate has every action; the recipe says which
        assert f"gates.{gate}: " in ran.err
        assert "'quarantine'" in ran.err
        assert ran.code == 1
        return
    action = DEFAULTS[gate] if action == "default" else action
    if action == "quarantine":
        assert ran.code == 1
        assert f"gate: {gate}: " in ran.err
        assert not list((tmp_path / "out").rglob("*.tar"))
    else:
        assert ran.code == 0
        counts = receipt(tmp_path)
        assert counts["flagged"].get(gate, 0) == (action == "flag")
        assert counts["dropped"].get(gate, 0) == (action == "drop")
        assert (f"the gate {gate} found 1 and kept them" in ran.err) == (action == "flag")


@pytest.mark.parametrize("gate", FOUND)
def test_gates_are_silent_on_good_data(sa_med2d: Command, tmp_path: Path, gate: str) -> None:
    assert build(sa_med2d, tmp_path, ct_like(), organ_map(), f'[gates]\n{gate} = "quarantine"\n').code == 0


def test_flagged_nonfinite_values_become_the_lowest(sa_med2d: Command, tmp_path: Path) -> None:
    assert build(sa_med2d, tmp_path, with_nan(), organ_map(), '[gates]\nnonfinite_values = "flag"\n').code == 0
    mended = ct_like().astype(np.float32)
    mended[5, 5, 5] = mended[6, 6, 6] = np.delete(mended.ravel(), 0).min()
    first = dict(members(tmp_path / "out"))
    assert build(sa_med2d, tmp_path, mended, organ_map(), "").code == 0
    assert {name: data for name, data in members(tmp_path / "out") if name.endswith("png")} == {
        name: data for name, data in first.items() if name.endswith("png")
    }


def test_mask_on_another_grid_is_resampled_when_asked(sa_med2d: Command, tmp_path: Path) -> None:
    coarse, affine = organ_map((12, 20, 18)), lps_affine((1.6, 1.6, 3.0))
    refused = build(sa_med2d, tmp_path, ct_like(), coarse, "", affine=affine)
    assert refused.code == 1
    assert "grid: the image has 36 x 40 x 24 pixels, the mask 18 x 20 x 12" in refused.err
    ran = build(sa_med2d, tmp_path, ct_like(), coarse, "resample_masks = true", affine=affine)
    assert ran.code == 0, ran.err
    image, mask = (sitk.ReadImage(str(tmp_path / f"raw/{folder}/a.nii.gz")) for folder in ("images", "labels"))
    expected = sitk.GetArrayFromImage(
        sitk.DICOMOrient(sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor), "LPS")
    )
    found = dict(members(tmp_path / "out"))
    seen = 0
    for name, data in found.items():
        key, member = name.split(".", 1)
        if member != "json" or "--x_" not in key:
            continue
        record = json.loads(data)
        masks = decode_masks({"mask.png": found[f"{key}.mask.png"], "json": record})
        for label, value in (("liver", 1), ("spleen", 2)):
            own = [m for m, entry in zip(masks, record["masks"], strict=True) if entry["label"] == label]
            union = np.logical_or.reduce(own) if own else np.zeros((40, 36), bool)
            assert np.array_equal(union, expected[record["index"]] == value)
            seen += bool(own)
    assert seen > 10


def test_missing_slices_are_never_resampled(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, ct_like(), organ_map()[:18], "resample_masks = true")
    assert ran.code == 1
    assert "the mask 36 x 40 x 18" in ran.err
    assert "it cannot be resampled" in ran.err


@pytest.mark.parametrize(
    ("labels", "masks", "lost"),
    [
        ('1 = "liver"\n2 = "spleen"', "", "spleen"),
        ('"*" = "cell"', "instances = true", "object 2"),
        ('1 = "spleen"', "threshold = 2", "the mask"),
    ],
)
def test_masks_that_resampling_loses_are_held_back(
    sa_med2d: Command, tmp_path: Path, labels: str, masks: str, lost: str
) -> None:
    """The spleen lies beyond the image for the most part; the liver is on it, and loses nothing."""
    fine, affine = organ_map((48, 80, 72)), lps_affine((0.4, 0.4, 0.75))
    affine[0, 3] += 10
    write_nifti(tmp_path / "raw/images/a.nii.gz", ct_like())
    write_nifti(tmp_path / "raw/labels/a.nii.gz", fine, affine)
    text, recipe = RECIPE.format(name="Gate", license="MIT", modality="ct"), tmp_path / "Gate.toml"
    text = f"resample_masks = true\n{text.split('[labels]', 1)[0]}[labels]\n{labels}\n[masks]\n{masks}\n"
    recipe.write_text(text)
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1, ran.err
    volume = (fine == 2).sum() * 0.4 * 0.4 * 0.75
    assert f"gate: resampling_loss: on the grid of the image {lost} keeps " in ran.err
    assert f" of {volume:,.4g} mm^3; a mask may lose 5%" in ran.err
    recipe.write_text(f'{text}[gates]\nresampling_loss = "flag"\n')
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "gate resampling_loss found 1" in ran.err


def test_case_without_any_mask_pixel_is_counted(sa_med2d: Command, tmp_path: Path) -> None:
    for case in "ab":
        write_nifti(tmp_path / f"raw/images/{case}.nii.gz", ct_like())
        write_nifti(tmp_path / f"raw/labels/{case}.nii.gz", organ_map() * (case == "a"))
    text = recipe(tmp_path, "")
    plain = text.read_text()
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "gate empty_mask found 1" in ran.err
    assert "gave no sample, every slice was dropped by a rule: b" in ran.err
    text.write_text(plain + '\n[gates]\nempty_mask = "quarantine"\n')
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert "b: labels/b.nii.gz: gate: empty_mask: the masks of the case have no pixel" in ran.err


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [("inverted = true", 0, 7), ("inverted = true\nthreshold = 128", 10, 200), ("threshold = -0.5", 0, -3)],
)
def test_what_lies_outside_of_a_resampled_mask_is_background(
    sa_med2d: Command, tmp_path: Path, rule: str, inside: int, outside: int
) -> None:
    """The mask covers half of the image: where it says nothing, an inverted one has no foreground either."""
    coarse = np.where(organ_map((12, 20, 18)) == 1, inside, outside).astype(np.int16)
    half, affine = coarse[:, :, :9], lps_affine((1.6, 1.6, 3.0))
    write_nifti(tmp_path / "raw/images/a.nii.gz", ct_like())
    write_nifti(tmp_path / "raw/labels/a.nii.gz", half, affine)
    text = RECIPE.format(name="Gate", license="MIT", modality="ct").split("2 =")[0]
    recipe = tmp_path / "Gate.toml"
    recipe.write_text(f'resample_masks = true\n{text}[masks]\n{rule}\n[gates]\nresampling_loss = "flag"\n')
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    axial = [record for record in records if record["plane"] == "axial"]
    assert axial
    assert all(x + width <= 18 for record in axial for x, _, width, _ in (mask["bbox"] for mask in record["masks"]))
