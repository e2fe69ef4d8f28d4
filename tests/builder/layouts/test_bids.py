"""Folders in BIDS, with masks among the derivatives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command import Command
from tests.support.layouts import initialise, records
from tests.support.nifti import write_nifti
from tests.support.volumes import ct_like, organ_map


def write_bids(root: Path, table: str = "derivatives/seg/desc-organs_dseg.tsv") -> None:
    """Two subjects, of whom one has two sessions; masks in T1w's own space and in a template's."""
    derived = root / "derivatives/seg"
    for stem in ("sub-01/ses-a/anat/sub-01_ses-a", "sub-01/ses-b/anat/sub-01_ses-b", "sub-02/ses-a/anat/sub-02_ses-a"):
        write_nifti(root / f"{stem}_T1w.nii.gz", ct_like())
        write_nifti(root / f"{stem}_T2w.nii.gz", ct_like(3))
        write_nifti(derived / f"{stem}_desc-organs_dseg.nii.gz", organ_map())
        write_nifti(derived / f"{stem}_space-MNI_desc-organs_dseg.nii.gz", organ_map((20, 20, 20)))
        write_nifti(derived / f"{stem}_label-liver_mask.nii.gz", (organ_map() == 1).astype(np.uint8))
    (root / "dataset_description.json").write_text(
        json.dumps(
            {"Name": "Organs of two", "BIDSVersion": "1.9.0", "HowToAcknowledge": "Cite us", "DatasetDOI": "doi:1"}
        )
    )
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_text("index\tname\tabbreviation\n0\tbackground\tb\n1\tliver\tl\n2\tspleen\ts\n")


@pytest.mark.parametrize(
    "table",
    [
        "derivatives/seg/desc-organs_dseg.tsv",
        "dseg.tsv",
        "derivatives/seg/sub-01/ses-a/anat/sub-01_ses-a_desc-organs_dseg.tsv",
    ],
)
def test_bids_derivatives(sa_med2d: Command, tmp_path: Path, table: str) -> None:
    write_bids(tmp_path / "raw", table)
    if "sub-01" in table:  # a table beside each map, as some pipelines write them
        for stem in ("sub-01/ses-b/anat/sub-01_ses-b", "sub-02/ses-a/anat/sub-02_ses-a"):
            other = tmp_path / f"raw/derivatives/seg/{stem}_desc-organs_dseg.tsv"
            other.write_text((tmp_path / "raw" / table).read_text())
    text = initialise(sa_med2d, tmp_path, tmp_path / "raw")
    assert 'image = "sub-{patient}/ses-{*}/anat/{case}_T1w.nii.gz"' in text
    assert "_label-{label}_mask.nii.gz" in text.split("name =")[0]  # a note names what else there is
    found = records(sa_med2d, tmp_path)
    assert {(one["patient"], one["case"], one["submodality"]) for one in found} == {
        ("01", "sub-01_ses-a", "t1"),
        ("01", "sub-01_ses-b", "t1"),
        ("02", "sub-02_ses-a", "t1"),
    }
    assert {mask["label"] for one in found for mask in one["masks"]} == {"liver", "spleen"}
    by_label = {label: sum(m["area"] for one in found if one["axis"] == "x" for m in one["masks"] if m["label"] == label) for label in ("liver", "spleen")}  # fmt: skip
    assert by_label == {"liver": 3 * int((organ_map() == 1).sum()), "spleen": 3 * int((organ_map() == 2).sum())}


def test_bids_masks_in_the_space_of_their_image(sa_med2d: Command, tmp_path: Path) -> None:
    folder = tmp_path / "raw/derivatives/prep/sub-7/func"
    write_nifti(tmp_path / "raw/sub-7/func/sub-7_task-rest_bold.nii.gz", ct_like(1))
    write_nifti(folder / "sub-7_task-rest_space-MNI_desc-preproc_bold.nii.gz", ct_like())
    write_nifti(folder / "sub-7_task-rest_space-MNI_desc-brain_mask.nii.gz", (organ_map() > 0).astype(np.uint8))
    (tmp_path / "raw/dataset_description.json").write_text('{"Name": "Rest"}')
    text = initialise(sa_med2d, tmp_path, tmp_path / "raw/dataset_description.json")
    assert 'image = "derivatives/prep/sub-{patient}/func/{case}_space-MNI_desc-preproc_bold.nii.gz"' in text
    assert {mask["label"] for one in records(sa_med2d, tmp_path) for mask in one["masks"]} == {"brain"}


def without_table(root: Path) -> None:
    (root / "derivatives/seg/desc-organs_dseg.tsv").unlink()


def other_table(root: Path) -> None:
    (root / "derivatives/seg/sub-02/ses-a/anat/sub-02_ses-a_desc-organs_dseg.tsv").write_text(
        "index\tname\n1\tspleen\n"
    )


def no_columns(root: Path) -> None:
    (root / "derivatives/seg/desc-organs_dseg.tsv").write_text("value,name\n1,liver\n")


def no_images(root: Path) -> None:
    for path in root.glob("sub-*/*/*/*.nii.gz"):
        path.unlink()


def no_json(root: Path) -> None:
    (root / "dataset_description.json").write_text("Organs of two")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_table, "has no look-up table *_dseg.tsv beside it or in a folder above"),
        (other_table, "value 1 is spleen, in another table of this dataset liver"),
        (no_columns, "line 2: expected the columns 'index', a whole number, and 'name'"),
        (no_images, "no image belongs to derivatives/seg/sub-01/ses-a/anat/"),
        (no_json, "cannot be read as JSON"),
    ],
)
def test_bids_that_does_not_say_enough(sa_med2d: Command, tmp_path: Path, damage: Any, said: str) -> None:
    write_bids(tmp_path / "raw")
    damage(tmp_path / "raw")
    ran = sa_med2d("sources", "init", "--from", tmp_path / "raw", "--name", "I", "--license", "MIT", "--modality", "mr")
    assert ran.code == 1
    assert said in ran.err
