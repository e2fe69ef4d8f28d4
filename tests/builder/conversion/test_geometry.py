"""The same anatomy gives the same pictures, however its volume was stored."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from builder.conversion.grid import corner_offset
from builder.conversion.orientation import to_lps
from builder.conversion.slicing import AXES, passes_edge_rule
from builder.readers.image import Volume, axis_codes
from tests.support.command import Command
from tests.support.nifti import lps_affine, read_nifti, write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map

ORIENTATIONS = ["".join(axes) for axes in itertools.product("LR", "AP", "IS")] + ["PIL", "SLA", "AIR"]


def store(path: Path, array: npt.NDArray[Any], codes: str) -> None:
    """Write an LPS (Z, Y, X) array in another orientation, by nibabel; other formats than NIfTI through SimpleITK."""
    nifti = path.parent / f"{path.name}.stored.nii"
    write_nifti(nifti, array)
    image = read_nifti(nifti)
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(codes)))
    nibabel.save(image.as_reoriented(turn), nifti)
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.save(read_nifti(nifti), path)
    elif path.suffix == ".nrrd" and array.dtype == np.int16:  # a second writer of NRRD, that is not ITK
        turned = read_nifti(nifti)
        header = {"space": "right-anterior-superior", "space directions": turned.affine[:3, :3].T}
        nrrd.write(str(path), np.asarray(turned.dataobj), {**header, "space origin": turned.affine[:3, 3]})
    else:
        sitk.WriteImage(sitk.ReadImage(str(nifti)), str(path))
    if path != nifti:
        nifti.unlink()


def build_one(
    sa_med2d: Command, tmp_path: Path, name: str, ending: str, codes: str, mask_codes: str
) -> dict[str, bytes]:
    raw = tmp_path / name
    for folder, array, axes in (("images", ct_like(), codes), ("labels", organ_map(), mask_codes)):
        (raw / folder).mkdir(parents=True)
        store(raw / folder / f"case00{ending}", array, axes)
    recipe = raw / "recipe.toml"
    recipe.write_text(RECIPE.format(name="Same", license="MIT", modality="ct").replace(".nii.gz", ending))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", raw / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    return dict(members(raw / "out"))


@pytest.fixture
def reference(sa_med2d: Command, tmp_path: Path) -> dict[str, bytes]:
    return build_one(sa_med2d, tmp_path, "reference", ".nii.gz", "LPS", "LPS")


def assert_same_pictures(built: dict[str, bytes], reference: dict[str, bytes]) -> None:
    assert list(built) == list(reference)
    differing = [name for name in reference if name.endswith(".png") and built[name] != reference[name]]
    assert not differing
    for name in reference:
        if name.endswith(".json"):
            ours, theirs = json.loads(built[name]), json.loads(reference[name])
            for record in (ours, theirs):
                record.pop("stored_axes"), record.pop("image_file")
            assert ours == theirs


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha", ".mhd"])
def test_every_format_gives_the_same_pictures(
    sa_med2d: Command, tmp_path: Path, reference: dict[str, bytes], ending: str
) -> None:
    assert_same_pictures(build_one(sa_med2d, tmp_path, "other", ending, "LPS", "LPS"), reference)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_gives_the_same_pictures(
    sa_med2d: Command, tmp_path: Path, reference: dict[str, bytes], codes: str
) -> None:
    built = build_one(sa_med2d, tmp_path, "other", ".nii.gz", codes, codes)
    assert_same_pictures(built, reference)
    assert {json.loads(data)["stored_axes"] for name, data in built.items() if name.endswith(".json")} == {codes}


@pytest.mark.parametrize(("ending", "codes"), [(".nrrd", "RAS"), (".mha", "PIL"), (".mhd", "RIA")])
def test_format_and_orientation_together(
    sa_med2d: Command, tmp_path: Path, reference: dict[str, bytes], ending: str, codes: str
) -> None:
    assert_same_pictures(build_one(sa_med2d, tmp_path, "other", ending, codes, codes), reference)


def test_mask_may_be_stored_in_other_axes_than_its_image(
    sa_med2d: Command, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    assert_same_pictures(build_one(sa_med2d, tmp_path, "other", ".nii.gz", "RAS", "LPI"), reference)


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


@pytest.mark.parametrize("dtype", ["uint8", ">i2", "int16", "float32", "float64", "bool"])
def test_every_orientation_becomes_lps(dtype: str) -> None:
    """Against nibabel, for the 48 ways that a volume may lie in a file; the rows of the result run forwards."""
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(dtype)
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        affine = np.zeros((4, 4))
        affine[order, range(3)] = signs
        affine[3, 3] = 1
        turned = to_lps(Volume(array, affine))
        to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
        image = nibabel.Nifti1Image(array.transpose(2, 1, 0).astype(float), to_ras @ affine)
        expected = nibabel.as_closest_canonical(image).get_fdata().astype(dtype)[::-1, ::-1].transpose(2, 1, 0)
        assert turned.array.dtype == np.dtype(dtype)
        assert np.array_equal(turned.array, expected)
        assert turned.affine is not None
        assert np.array_equal(turned.affine[:3, :3], np.eye(3))
        assert min(turned.array.strides, key=abs) > 0


def test_oblique_volume_takes_the_nearest_axes() -> None:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ lps_affine() @ np.diag([-1, 1, -1, 1])
    array = ct_like()
    turned = to_lps(Volume(array, affine))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 0.8, 1.5))
    image.SetDirection((affine[:3, :3] / [0.8, 0.8, 1.5]).ravel())
    image.SetOrigin(affine[:3, 3])
    expected = sitk.DICOMOrient(image, "LPS")
    assert np.array_equal(turned.array, sitk.GetArrayFromImage(expected))
    assert turned.affine is not None
    assert np.allclose(turned.affine[:3, 3], expected.GetOrigin())
    assert axis_codes(affine) == "RPI"


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


def test_grids_are_compared_in_voxels() -> None:
    image, moved = lps_affine((2.0, 2.0, 5.0)), lps_affine((2.0, 2.0, 5.0))
    moved[0, 3] += 0.5
    assert corner_offset(image, moved, (10, 10, 10)) == pytest.approx(0.25)
    wider = lps_affine((2.0, 2.0, 5.05))
    assert corner_offset(image, wider, (10, 10, 11)) == pytest.approx(0.1)


@pytest.mark.parametrize(("shift", "code"), [(0.05, 0), (0.5, 3)])
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
    assert ("labels/a.nii.gz: grid" in ran.err) is (code == 3)
    assert ("grid_tolerance" in ran.err) is (code == 3)
