"""Whose a case is, by its name in the release, and in which split; names as the sources' own pages give them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.release import box, png, texture, with_json, write_tree

SamplesOf = Callable[[Path], dict[str, dict[str, bytes]]]

CASES: dict[str, tuple[str, str, str, str | None]] = {
    # tag and place, source, case -> patient, official split
    "mr_00 x_0006": ("ACDC", "patient001_frame01", "patient001", None),
    "mr_t2 x_0003": ("picai_baseline", "10417_1000424", "10417", None),
    "ct_00 z_0010": ("VerSe20", "sub-verse408_split-verse223", "verse408", None),
    "mr_flair y_0010": ("BraTS2018", "Brats18_2013_2_1", "2013_2_1", None),
    "pet_00 x_0100": ("autoPET", "PETCT_0011f3deaf_10445", "PETCT_0011f3deaf", None),
    "mr_00 2d_none": ("braimMRI", "TCGA_CS_4941_19960909_1", "TCGA_CS_4941", None),
    "ultrasound_00 2d_none": ("ultrasound_nerve_segmentation", "33_77", "33", None),
    "ct_00 x_0001": ("CT_ORG", "volume-7", "7", "test"),
    "x_ray 2d_none": ("chest_x_ray_images_with_pneumothorax_masks", "0_test_1_", "0_test_1_", "test"),
    "ct_00 x_0002": ("LUNA16", "1.3.6.1.4.1", "1.3.6.1.4.1", None),
    "ct_00 x_0003": ("Totalsegmentator_dataset", "s0047", "s0047", None),
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    files: dict[str, bytes] = {}
    for seed, (place, (source, case, _, _)) in enumerate(CASES.items()):
        tag, _, slice_ = place.partition(" ")
        files[f"images/{tag}--{source}--{case}--{slice_}.png"] = png(texture(seed), rgb=True)
        files[f"masks/{tag}--{source}--{case}--{slice_}--0000_000.png"] = png(box(seed, seed, 9, 9))
    files["images/mr_00--ACDC--somebody--x_0001.png"] = png(texture(99), rgb=True)
    mapping = {source: {"spleen": "0000"} for source, *_ in CASES.values()}
    return write_tree(tmp_path, with_json(files, mapping))


def test_patient_and_split_follow_from_the_name(
    sa_med2d: Command, release: Path, tmp_path: Path, samples_of: SamplesOf
) -> None:
    ran = sa_med2d("import", release, "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    found = {}
    for sample in samples_of(tmp_path / "out").values():
        about = json.loads(sample["json"])
        found[about["source"], about["case"]] = (about["patient"], about["split"] if about["official_split"] else None)
    assert found.pop(("ACDC", "somebody")) == ("somebody", None)
    assert found == {(source, case): (patient, split) for source, case, patient, split in CASES.values()}
    assert "ACDC: names of cases that do not say whose they are, so that each counts as a patient: somebody" in ran.err


def test_patients_lie_in_the_name_spaces_of_the_catalogue(sa_med2d: Command, release: Path, tmp_path: Path) -> None:
    sa_med2d("import", release, "--out", tmp_path / "out", "--workers", 1)
    spaces = {
        path.stem: json.loads(path.read_text())["patients"]["space"] for path in (tmp_path / "out/build/plan").iterdir()
    }
    assert (spaces["VerSe20"], spaces["BraTS2018"], spaces["picai_baseline"]) == ("VerSe", "brats", "PI-CAI")
    assert spaces["ACDC"] == "ACDC"
