"""4D files: channels that share masks, frames that are cases; flat and Analyze images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from tests.conftest import RAS_TO_LPS, RECIPE, Command, ct_like, lps_affine, members, organ_map, write_nifti


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


def test_channels_are_submodalities_that_share_masks(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/a.nii.gz", VOLUMES)
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    found = built(sa_med2d, tmp_path, 'channels = ["t2w", "flair", "t1gd"]')
    for number, name in enumerate(["t2w", "flair", "t1gd"]):
        own = [data for key, data in found.items() if key.startswith(f"mr_{name}--") and key.endswith("png")]
        assert own == as_single(sa_med2d, tmp_path / name, VOLUMES[number])


def test_frames_are_cases_of_one_patient(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/p.nii.gz", VOLUMES)
    moving = [np.roll(organ_map(), shift, axis=2) for shift in range(3)]
    write_4d(tmp_path / "raw/labels/p.nii.gz", moving)
    found = built(sa_med2d, tmp_path, "frames = true")
    records = [json.loads(data) for name, data in found.items() if name.endswith("json")]
    assert {record["case"] for record in records} == {f"p_frame{number:04d}" for number in range(3)}
    assert {record["patient"] for record in records} == {"p"}
    boxes = {record["case"][-1]: record["masks"][0]["bbox"][0] for record in records if record["axis"] == "x"}
    assert boxes["1"] == boxes["0"] + 1
    assert boxes["2"] == boxes["0"] + 2


def test_frames_may_share_a_3d_mask(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/p.nii.gz", VOLUMES)
    write_nifti(tmp_path / "raw/labels/p.nii.gz", organ_map())
    found = built(sa_med2d, tmp_path, "frames = true")
    masks = [[d for n, d in found.items() if f"_frame000{f}--" in n and n.endswith("mask.png")] for f in range(3)]
    assert masks[0]
    assert masks[0] == masks[1] == masks[2]


@pytest.mark.parametrize(
    ("files", "masks", "said"),
    [
        ("", 1, "read: it holds 3 images (4D, pages or frames), expected one; name them with files.channels"),
        ('channels = ["t1", "t2"]', 1, "read: it holds 3 images, files.channels names 2"),
        ("frames = true", 2, "grid: the mask holds 2 frames, the image 3"),
        ('channels = ["t1", "t2", "pd"]', 3, "read: the mask holds 3 images, expected one"),
    ],
)
def test_series_that_do_not_fit(sa_med2d: Command, tmp_path: Path, files: str, masks: int, said: str) -> None:
    write_4d(tmp_path / "raw/images/a.nii.gz", VOLUMES)
    write_4d(tmp_path / "raw/labels/a.nii.gz", [organ_map()] * masks)
    ran = sa_med2d("build", recipe(tmp_path, files), "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert said in ran.err


def test_channels_of_a_3d_file(sa_med2d: Command, tmp_path: Path) -> None:
    write_nifti(tmp_path / "raw/images/a.nii.gz", ct_like())
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    files = 'channels = ["t1", "t2"]'
    ran = sa_med2d("build", recipe(tmp_path, files), "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert "it holds one image, but files.channels names 2" in ran.err


def test_flat_nifti_is_one_slice(sa_med2d: Command, tmp_path: Path) -> None:
    for folder, array in (("images", ct_like()[12]), ("labels", organ_map()[11])):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        image = nibabel.Nifti1Image(array.T, np.diag([-1.0, -1.0, 1.0, 1.0]))
        assert image.ndim == 2
        nibabel.save(image, tmp_path / "raw" / folder / "a.nii.gz")
    (name, data), *_ = built(sa_med2d, tmp_path, "").items()
    assert name == "mr_00--Series--a--x_0000.png"
    path = tmp_path / "slice.png"
    path.write_bytes(data)
    values = ct_like()[12].astype(float)
    expected = np.round((values - values.min()) / (values.max() - values.min()) * 255)
    assert np.array_equal(np.asarray(PIL.Image.open(path)), expected)


def test_analyze_pair(sa_med2d: Command, tmp_path: Path) -> None:
    for folder, array in (("images", ct_like()), ("labels", organ_map())):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        nibabel.save(nibabel.AnalyzeImage(array.transpose(2, 1, 0), None), tmp_path / "raw" / folder / "a.img")
    text = recipe(tmp_path, "")
    text.write_text(text.read_text().replace(".nii.gz", ".img"))
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    assert {record["stored_axes"] for record in records} == {"LAS"}  # nibabel's reading of the standard
