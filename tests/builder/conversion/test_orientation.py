"""The same volume in every format and orientation gives the same pictures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import SimpleITK as sitk  # noqa: N813

from builder.conversion.orientation import to_lps
from builder.readers.image import Volume, axis_codes
from tests.support.command import Command, run_quietly
from tests.support.nifti import lps_affine, write_nifti
from tests.support.orientations import ORIENTATIONS, build_one
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return build_one(run_quietly, tmp_path_factory.mktemp("reference"), "reference", ".nii.gz", "LPS", "LPS")


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


@pytest.mark.parametrize("ending", [".npy", ".npz", ".5.mat", ".7.3.mat"])
def test_arrays_without_geometry_give_the_same_pictures(sa_med2d: Command, tmp_path: Path, ending: str) -> None:
    """The volume of a NIfTI file that lies along LPS, laid on its masks by index."""
    built = {}
    for name in (".nii.gz", ending):
        raw = tmp_path / name.strip(".")
        for folder, array in (("images", ct_like()), ("labels", organ_map())):
            (raw / folder).mkdir(parents=True)
            path = raw / folder / f"case00{name}"
            if name == ".nii.gz":
                write_nifti(path, array)
            elif name == ".npy":
                np.save(path, array)
            elif name == ".npz":
                np.savez_compressed(path, array)
            elif name == ".5.mat":
                scipy.io.savemat(path, {"one": np.moveaxis(array, 0, 2)}, do_compression=True)
            else:  # rows x columns x slices, written as MATLAB does, with reversed axes
                with h5py.File(path, "w") as file:
                    file["one"] = np.moveaxis(array, 0, 2).T
        recipe = raw / "recipe.toml"
        text = RECIPE.format(name="Same", license="MIT", modality="ct").replace(".nii.gz", name)
        recipe.write_text(f'{text}[masks]\npair = "index"\n')
        ran = sa_med2d("build", recipe, "--raw", raw, "--out", raw / "out", "--workers", 1)
        assert ran.code == 0, ran.err
        built[name] = {path: data for path, data in members(raw / "out") if path.endswith(".png")}
    assert built[ending] == built[".nii.gz"]


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
