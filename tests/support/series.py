"""Sources of volumes with several channels or frames, and what is built of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image

from tests.support.command import Command
from tests.support.nifti import RAS_TO_LPS, lps_affine, write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


def write_4d(path: Path, volumes: list[npt.NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.stack([volume.transpose(2, 1, 0) for volume in volumes], axis=-1)
    nibabel.save(nibabel.Nifti1Image(array, RAS_TO_LPS @ lps_affine()), path)


def recipe(tmp_path: Path, files: str) -> Path:
    path = tmp_path / "Series.toml"
    text = RECIPE.format(name="Series", license="MIT", modality="mr")
    path.write_text(text.replace("\n[labels]", f"{files}\n[labels]"))
    return path


def built(sa_med2d: Command, tmp_path: Path, files: str) -> dict[str, bytes]:
    ran = sa_med2d("build", recipe(tmp_path, files), "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    return dict(members(tmp_path / "out"))


VOLUMES = [ct_like(seed) for seed in range(3)]


def as_single(sa_med2d: Command, tmp_path: Path, volume: npt.NDArray[Any]) -> list[bytes]:
    """The pictures of a volume that lies alone in a 3D file."""
    write_nifti(tmp_path / "raw/images/a.nii.gz", volume)
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    return [data for name, data in built(sa_med2d, tmp_path, "").items() if name.endswith("png")]


def decode(data: bytes) -> npt.NDArray[Any]:
    return np.asarray(PIL.Image.open(io.BytesIO(data)))
