"""Folders of Decathlon and nnU-Net, described by their dataset.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.support.command import Command
from tests.support.nifti import RAS_TO_LPS, lps_affine, write_nifti
from tests.support.output import members
from tests.support.volumes import ct_like, organ_map

DECATHLON = {
    "name": "BRATS",
    "reference": "https://www.med.upenn.edu",
    "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {"0": "background", "1": "liver", "2": "spleen"},
}
NNUNET_1 = {"name": "Spleen", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "spleen"}}
NNUNET_2 = {
    "channel_names": {"0": "T1", "1": "CT-like"},
    "labels": {"background": 0, "abdomen": [1, 2], "spleen": 2, "ignore": 3},
    "file_ending": ".nrrd",
}


def written(tmp_path: Path, record: dict[str, Any]) -> Path:
    path = tmp_path / "raw/dataset.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def build(sa_med2d: Command, tmp_path: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    ran = sa_med2d(
        "sources",
        "init",
        "--from",
        written(tmp_path, record),
        "--name",
        "Init",
        "--license",
        "cc-by-4.0",
        "--modality",
        "mr",
    )
    assert ran.code == 0, ran.err
    (tmp_path / "Init.toml").write_text(ran.out)
    ran = sa_med2d("build", tmp_path / "Init.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    return [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]


def test_decathlon_channels(sa_med2d: Command, tmp_path: Path) -> None:
    volumes = np.stack([ct_like(seed).transpose(2, 1, 0) for seed in range(4)], axis=-1)
    (tmp_path / "raw/imagesTr").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(volumes, RAS_TO_LPS @ lps_affine()), tmp_path / "raw/imagesTr/BRATS_001.nii.gz")
    write_nifti(tmp_path / "raw/labelsTr/BRATS_001.nii.gz", organ_map())
    records = build(sa_med2d, tmp_path, DECATHLON)
    assert {record["submodality"] for record in records} == {"flair", "t1", "t1ce", "t2"}
    assert {mask["label"] for record in records for mask in record["masks"]} == {"liver", "spleen"}


def test_nnunet_version_1(sa_med2d: Command, tmp_path: Path) -> None:
    write_nifti(tmp_path / "raw/imagesTr/spleen_10_0000.nii.gz", ct_like())
    write_nifti(tmp_path / "raw/labelsTr/spleen_10.nii.gz", organ_map())
    records = build(sa_med2d, tmp_path, NNUNET_1)
    assert {(record["case"], record["submodality"]) for record in records} == {("spleen_10", "00")}


def test_nnunet_version_2_with_regions(sa_med2d: Command, tmp_path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813, PLC0415

    labels = organ_map()
    labels[2, 2:8, 2:8] = 3
    for folder, name, array in (
        ("imagesTr", "a_0000", ct_like()),
        ("imagesTr", "a_0001", ct_like(1)),
        ("labelsTr", "a", labels),
    ):
        (tmp_path / "raw" / folder).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "raw" / folder / f"{name}.nrrd"))
    records = build(sa_med2d, tmp_path, NNUNET_2)
    assert {record["submodality"] for record in records} == {"t1", "ct_like"}
    assert {mask["label"] for record in records for mask in record["masks"]} == {"label_1", "spleen", "abdomen"}


def test_t2_star_is_not_t2(sa_med2d: Command, tmp_path: Path) -> None:
    for number in range(2):
        write_nifti(tmp_path / f"raw/imagesTr/a_000{number}.nii.gz", ct_like(number))
    write_nifti(tmp_path / "raw/labelsTr/a.nii.gz", organ_map())
    records = build(sa_med2d, tmp_path, {**NNUNET_1, "modality": {"0": "T2-weighted", "1": "T2*"}})
    assert {record["submodality"] for record in records} == {"t2", "t2star"}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"labels": {"0": "background"}}, "expected 'labels' and 'channel_names'"),
        ([], "expected 'labels' and 'channel_names'"),
        ({**NNUNET_1, "labels": {"liver": "one"}}, "labels: liver: 'one' is no label value"),
        ({**NNUNET_1, "labels": {"0": "background"}}, "labels: is missing"),
    ],
)
def test_what_is_no_dataset_json(sa_med2d: Command, tmp_path: Path, record: Any, said: str) -> None:
    ran = sa_med2d(
        "sources", "init", "--from", written(tmp_path, record), "--name", "Init", "--license", "MIT", "--modality", "ct"
    )
    assert ran.code == 1
    assert said in ran.err
