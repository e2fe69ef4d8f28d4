"""Grids of images and masks, compared in voxels."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.conversion.grid import corner_offset
from tests.support.command import Command
from tests.support.nifti import lps_affine, write_nifti
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


def test_grids_are_compared_in_voxels() -> None:
    image, moved = lps_affine((2.0, 2.0, 5.0)), lps_affine((2.0, 2.0, 5.0))
    moved[0, 3] += 0.5
    assert corner_offset(image, moved, (10, 10, 10)) == pytest.approx(0.25)
    wider = lps_affine((2.0, 2.0, 5.05))
    assert corner_offset(image, wider, (10, 10, 11)) == pytest.approx(0.1)


@pytest.mark.parametrize(("shift", "code"), [(0.05, 0), (0.5, 1)])
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
    assert ("grid_tolerance" in ran.err) is (code == 1)
