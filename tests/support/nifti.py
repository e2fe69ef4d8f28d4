"""NIfTI files, written and read with axes in the project's order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lps_affine(spacing: tuple[float, float, float] = (0.8, 0.8, 1.5)) -> npt.NDArray[np.float64]:
    """An affine from voxel index (x, y, z) to LPS millimetres, axes straight, origin off zero."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-12.5, 30.25, 7.0)
    return affine


def write_nifti(path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64] | None = None) -> None:
    """Write a (Z, Y, X) array with an LPS affine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ras = RAS_TO_LPS @ (lps_affine() if affine is None else affine)
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), ras), path)


def read_nifti(path: Path) -> Any:
    """A NIfTI image of nibabel, not mapped to its file."""
    return nibabel.load(path, mmap=False)
