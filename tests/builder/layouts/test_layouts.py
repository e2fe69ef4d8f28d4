"""Folders in a known layout need a name, a licence and a modality, and no recipe by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.support.command import Command
from tests.support.nifti import RAS_TO_LPS, lps_affine, write_nifti
from tests.support.outlines import BOX, TRIANGLE, coco, write_picture, yolo_line
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
    assert {record["submodality"] for record in records} == {"flair", "t1w", "t1gd", "t2w"}
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


def initialise(sa_med2d: Command, tmp_path: Path, origin: Path, modality: str = "mr") -> str:
    """The recipe that ``sources init`` writes, kept as Init.toml."""
    named = ("--name", "Init", "--license", "cc0-1.0", "--modality", modality)
    ran = sa_med2d("sources", "init", "--from", origin, *named)
    assert ran.code == 0, ran.err
    (tmp_path / "Init.toml").write_text(ran.out)
    return ran.out


def records(sa_med2d: Command, tmp_path: Path) -> list[dict[str, Any]]:
    ran = sa_med2d("build", tmp_path / "Init.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    return [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]


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
        ("01", "sub-01_ses-a", "t1w"),
        ("01", "sub-01_ses-b", "t1w"),
        ("02", "sub-02_ses-a", "t1w"),
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


def test_coco_folder(sa_med2d: Command, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        write_picture(tmp_path / "raw/frames" / name)
    record = coco(
        ("one.png", "colon polyp", [TRIANGLE]), ("two.png", "tool (metal)", [BOX]), names=("one.png", "two.png")
    )
    (tmp_path / "raw/annotations").mkdir()
    (tmp_path / "raw/annotations/instances.json").write_text(json.dumps(record))
    for origin in (tmp_path / "raw", tmp_path / "raw/annotations/instances.json"):
        text = initialise(sa_med2d, tmp_path, origin, "endoscopy")
        assert 'image = "frames/{case}.png"' in text
        found = records(sa_med2d, tmp_path)
        assert {one["case"]: one["masks"][0]["label"] for one in found} == {"one": "polyp", "two": "tool_metal"}


@pytest.mark.parametrize(("images", "labels"), [("images/{}", "labels/{}"), ("{}/images", "{}/labels")])
def test_yolo_folder(sa_med2d: Command, tmp_path: Path, images: str, labels: str) -> None:
    for split, case in (("train", "a"), ("val", "b")):
        write_picture(tmp_path / "raw" / images.format(split) / f"{case}.png")
        path = tmp_path / "raw" / labels.format(split) / f"{case}.txt"
        path.parent.mkdir(parents=True)
        path.write_text(yolo_line(1, TRIANGLE))
    (tmp_path / "raw/data.yaml").write_text("train: images/train\nnames: [instrument, polyp]\n")
    text = initialise(sa_med2d, tmp_path, tmp_path / "raw/data.yaml", "endoscopy")
    assert f'mask = "{labels.format("{split}")}/{{case}}.txt"' in text
    found = records(sa_med2d, tmp_path)
    assert {(one["case"], one["split"], one["masks"][0]["label"]) for one in found} == {
        ("a", "train", "polyp"),
        ("b", "validation", "polyp"),
    }


def test_folder_of_no_known_layout(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("sources", "init", "--from", tmp_path, "--name", "I", "--license", "MIT", "--modality", "mr")
    assert ran.code == 1
    assert "no known layout: expected dataset.json" in ran.err
