"""Sources of volumes, for exports that put slices together again: straight and askew, whole and with gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from tests.support.export_source import build, write_recipe, write_rings
from tests.support.nifti import lps_affine, write_nifti
from tests.support.volumes import ct_like, organ_map

CASES = {"straight": "train", "askew": "train", "third": "test"}
"""Case -> split, of each source."""
_FILES = """
[files]
image = "images/{{case}}.nii.gz"
mask = "labels/{{case}}.nii.gz"
[labels]
1 = "liver"
2 = "spleen"
{more}
[masks]
min_area = 0
"""
_SPLITS = '[splits]\ntrain = ["straight", "askew"]\ntest = ["third"]\n'


def askew() -> npt.NDArray[np.float64]:
    """An affine to LPS whose axes lie askew, near LAS: its x axis runs to the right."""
    turn = sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.15)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3)) @ np.diag([-0.8, 0.9, 1.5])
    affine[:3, 3] = (40.5, -30.25, 7.0)
    return affine


def labels_of(case: str) -> npt.NDArray[np.uint8]:
    """Two boxes, a second liver beside the first, and two axial slices in which nothing is drawn; (Z, Y, X)."""
    labels = organ_map()
    labels[5:10, 30:38, 3:9] = 1
    labels[8:10] = 0
    if case == "third":
        labels[4:7, 2:9, 20:30] = 2
    return labels


def image_of(case: str) -> npt.NDArray[np.int16]:
    """Another volume for each case; (Z, Y, X)."""
    return ct_like(len(case))


def write_volumes(raw: Path) -> list[Path]:
    """Write them below a folder; returns their recipes.

    ``Whole`` has all slices along all axes, in CT values, ``Union`` the same with a class over both, whose masks
    overlap, ``Gaps`` only axial slices that show something, and ``Rings`` pictures in colour.
    """
    kinds = {
        "Whole": ("keep_empty = true", '[intensity]\nmode = "lossless"'),
        "Union": ('keep_empty = true\naxes = ["x"]', "[regions]\nabdomen_organs = [1, 2]"),
        "Gaps": ('axes = ["x"]', ""),
    }
    for name, (more, tables) in kinds.items():
        for case in CASES:
            affine = askew() if case == "askew" else lps_affine()
            write_nifti(raw / f"{name}/images/{case}.nii.gz", image_of(case), affine)
            write_nifti(raw / f"{name}/labels/{case}.nii.gz", labels_of(case), affine)
        write_recipe(raw, name, "ct", "CC-BY-4.0", more, _FILES.format(more=tables), _SPLITS)
    write_rings(raw, ("a0", "b1", "c2"), min_area=0)
    return [raw / f"{name}.toml" for name in (*kinds, "Rings")]


def build_volumes(folder: Path) -> Path:
    """Write and build them below a folder; returns the folder that was built."""
    return build(folder / "raw", folder / "out", write_volumes(folder / "raw"))
