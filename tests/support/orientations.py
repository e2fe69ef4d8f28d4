"""The same case in any format and orientation, and what is built of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from tests.support.command import Command
from tests.support.nifti import read_nifti, write_nifti
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
