"""Grids of images and masks, compared in voxels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
import tifffile
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from builder.conversion.grid import corner_offset
from sa_med2d_20m import decode_masks, decode_png
from tests.support.command import Command
from tests.support.nifti import RAS_TO_LPS, lps_affine, write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


def test_grids_are_compared_in_voxels() -> None:
    image, moved = lps_affine((2.0, 2.0, 5.0)), lps_affine((2.0, 2.0, 5.0))
    moved[0, 3] += 0.5
    assert corner_offset(image, moved, (10, 10, 10)) == pytest.approx(0.25)
    wider = lps_affine((2.0, 2.0, 5.05))
    assert corner_offset(image, wider, (10, 10, 11)) == pytest.approx(0.1)


@pytest.mark.parametrize(("shift", "code"), [(0.05, 0), (0.5, 1), (1.5, 1)])
def test_shifted_mask_is_quarantined_beyond_the_tolerance(
    sa_med2d: Command, tmp_path: Path, shift: float, code: int
) -> None:
    raw, affine = tmp_path / "raw", lps_affine()
    write_nifti(raw / "images/a.nii.gz", ct_like())
    affine[1, 3] += shift * 0.8
    write_nifti(raw / "labels/a.nii.gz", organ_map(), affine)
    recipe = tmp_path / "Moved.toml"
    recipe.write_text(RECIPE.format(name="Moved", license="MIT", modality="ct"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == code
    assert ("labels/a.nii.gz: grid" in ran.err) is (code == 1)
    assert ("raise masks.grid_tolerance" in ran.err) is (shift == 0.5)
    assert ("more than masks.grid_tolerance may allow" in ran.err) is (shift == 1.5)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SRP", "AIL"])
@pytest.mark.parametrize(
    ("ending", "header"),
    [(".nii.gz", "moved"), (".nii.gz", "turned"), (".nii.gz", "nonsense"), (".nrrd", "moved"), (".nrrd", "turned")],
)
def test_masks_may_lie_on_their_image_by_index(
    sa_med2d: Command, tmp_path: Path, axes: str, ending: str, header: str
) -> None:
    """Image and mask as they are stored fit voxel by voxel, whatever the mask's header says."""
    for name in ("sound", "odd"):
        image, mask = (
            nibabel.Nifti1Image(array.transpose(2, 1, 0), RAS_TO_LPS @ lps_affine())
            for array in (ct_like(), organ_map())
        )
        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(axes))
        image, mask = image.as_reoriented(turn), mask.as_reoriented(turn)
        stored, affine = np.asarray(mask.dataobj), mask.affine
        if name == "odd":
            affine = (
                np.diag([2.0, -1.0, 1.0, 1.0]) if header == "turned" else affine + np.outer([1, 1, 1, 0], [0, 0, 0, 70])
            )
        raw = tmp_path / name / "raw"
        (raw / "images").mkdir(parents=True)
        (raw / "labels").mkdir()
        nibabel.save(image, raw / "images/a.nii.gz")
        write_mask(raw / f"labels/a{ending}", stored, affine, header=header if name == "odd" else "")
        text = RECIPE.format(name="Pair", license="MIT", modality="ct").replace(
            "labels/{case}.nii.gz", f"labels/{{case}}{ending}"
        )
        recipe = tmp_path / name / "Pair.toml"
        recipe.write_text(text)
        if name == "odd":
            assert sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / name / "none").code == 1
            recipe.write_text(f'{text}[masks]\npair = "index"\n')
        ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / name / "out")
        assert ran.code == 0, ran.err
    sound = dict(members(tmp_path / "sound/out"))
    assert sound
    assert sound == dict(members(tmp_path / "odd/out"))


def write_mask(path: Path, array: npt.NDArray[Any], affine: npt.NDArray[Any], *, header: str) -> None:
    """Write an (X, Y, Z) array with an affine to RAS, which in a NIfTI header may be nonsense."""
    if path.suffix == ".nrrd":
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
        lps = RAS_TO_LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        sitk.WriteImage(image, path)
        return
    mask = nibabel.Nifti1Image(array, np.eye(4) if header == "nonsense" else affine)
    nibabel.save(mask, path)
    if header == "nonsense":
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[280:328] = bytes(48)  # the rows of the affine (srow_x, srow_y, srow_z)
        path.write_bytes(gzip.compress(content))


def test_an_array_of_another_shape_is_not_paired_by_index(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_nifti(raw / "images/a.nii.gz", ct_like())
    write_nifti(raw / "labels/a.nii.gz", organ_map().transpose(0, 2, 1))
    recipe = tmp_path / "Pair.toml"
    recipe.write_text(RECIPE.format(name="Pair", license="MIT", modality="ct") + '[masks]\npair = "index"\n')
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "grid: the image has 36 x 40 x 24 pixels, the mask 40 x 36 x 24" in ran.err


@pytest.mark.parametrize("placed", ["image", "mask"])
def test_an_image_with_geometry_and_a_mask_without_are_not_laid_on_each_other(
    sa_med2d: Command, tmp_path: Path, placed: str
) -> None:
    """A RAS volume is turned to LPS, a stack of TIFF pages is not: without a word the mask lay mirrored."""
    files: dict[str, tuple[str, npt.NDArray[Any]]] = {
        "image": ("images", ct_like()),
        "mask": ("labels", organ_map()),
    }
    turn = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt("RAS"))
    endings = {}
    for kind, (folder, array) in files.items():
        (tmp_path / "raw" / folder).mkdir(parents=True)
        stored = nibabel.Nifti1Image(array.transpose(2, 1, 0), RAS_TO_LPS @ lps_affine()).as_reoriented(turn)
        if kind == placed:
            nibabel.save(stored, tmp_path / "raw" / folder / "a.nii.gz")
        else:
            pages = np.ascontiguousarray(np.asarray(stored.dataobj).transpose(2, 1, 0))
            tifffile.imwrite(tmp_path / "raw" / folder / "a.tif", pages)
        endings[kind] = ".nii.gz" if kind == placed else ".tif"
    text = RECIPE.format(name="Half", license="MIT", modality="ct")
    text = text.replace("images/{case}.nii.gz", f"images/{{case}}{endings['image']}")
    text = text.replace("labels/{case}.nii.gz", f"labels/{{case}}{endings['mask']}")
    (tmp_path / "Half.toml").write_text(text)
    ran = sa_med2d("build", tmp_path / "Half.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert f"only the {placed} says where it lies in space" in ran.err
    assert 'set masks.pair = "index"' in ran.err
    (tmp_path / "Half.toml").write_text(f'{text}[masks]\npair = "index"\n')
    ran = sa_med2d("build", tmp_path / "Half.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    image, organs = ct_like(), organ_map()
    if placed == "mask":  # the image stays as it is stored
        image, organs = image[:, ::-1, ::-1], organs[:, ::-1, ::-1]
    found = dict(members(tmp_path / "out"))
    seen = 0
    for name, data in found.items():
        if "--x_" not in name or not name.endswith(".json"):
            continue
        record = json.loads(data)
        pixels = decode_png(found[name.replace(".json", ".png")]).astype(float)
        plane = image[record["index"]].astype(float)
        scaled = np.round((plane - plane.min()) / (plane.max() - plane.min()) * 255)
        assert np.array_equal(pixels, scaled)
        masks = decode_masks({"mask.png": found[name.replace(".json", ".mask.png")], "json": record})
        for mask, entry in zip(masks, record["masks"], strict=True):
            assert (organs[record["index"]][mask] == {"liver": 1, "spleen": 2}[entry["label"]]).all()
            seen += int(mask.sum())
    assert seen > 1000


@pytest.mark.parametrize("picture", ["images", "labels"])
def test_a_picture_and_a_volume_of_one_slice(sa_med2d: Command, tmp_path: Path, picture: str) -> None:
    pixels, drawn = (np.arange(64 * 80).reshape(64, 80) % 251).astype(np.uint8), np.zeros((64, 80), np.uint8)
    drawn[5:30, 40:70] = 1
    for folder, array in (("images", pixels), ("labels", drawn)):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        if folder == picture:
            assert cv2.imwrite(str(tmp_path / "raw" / folder / "a.png"), array)
        else:
            write_nifti(tmp_path / "raw" / folder / "a.nii.gz", array[np.newaxis])
    text = RECIPE.format(name="Flat", license="MIT", modality="x_ray")
    text = text.replace(f"{picture}/{{case}}.nii.gz", f"{picture}/{{case}}.png")
    (tmp_path / "Flat.toml").write_text(text)
    ran = sa_med2d("build", tmp_path / "Flat.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert 'set masks.pair = "index"' in ran.err
    assert "DICOM" not in ran.err
    (tmp_path / "Flat.toml").write_text(f'{text}[masks]\npair = "index"\n')
    ran = sa_med2d("build", tmp_path / "Flat.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    (record,) = (json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json"))
    assert [mask["bbox"] for mask in record["masks"]] == [[40, 5, 30, 25]]
