"""Trees of DICOM files, found by what the files say of themselves, whatever their names and folders."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from builder.cases.split import hashed_split
from tests.support.command import Command, Ran
from tests.support.dicom_image import image_dataset
from tests.support.dicom_source import HASHED
from tests.support.dicom_tree import SHAPES, Study, Tree, rtstruct_of, seg_of, series_of
from tests.support.output import members, tree
from tests.support.volumes import ct_like, organ_map

PATIENTS = ("Roe_Jane_19701231", "Doe_John")
ORGANS = {"Liver": organ_map() == 1, "Spleen": organ_map() == 2}
RECIPE = HASHED + "[files.dicom]\nimage = {image}\nmask = {mask}\n[masks]\nsegments = {segments}\n[labels]\n{labels}\n"


def recipe(
    image: str = 'modality = "CT"',
    mask: str = 'modality = "SEG"',
    labels: str = 'Liver = "liver"\nSpleen = "spleen"',
    *,
    segments: bool = True,
) -> str:
    return RECIPE.format(image=f"{{ {image} }}", mask=f"{{ {mask} }}", segments=str(segments).lower(), labels=labels)


def build(sa_med2d: Command, tmp_path: Path, text: str, *options: object) -> Ran:
    (tmp_path / "Dicom.toml").write_text(text)
    raw, out = tmp_path / "raw", tmp_path / "out"
    return sa_med2d("build", tmp_path / "Dicom.toml", "--raw", raw, "--out", out, "--workers", 1, *options)


def samples(out: Path) -> list[tuple[dict[str, Any], npt.NDArray[Any], npt.NDArray[Any]]]:
    """Metadata, image and mask of all axial samples."""
    found, parts = [], dict[str, bytes]()
    for name, data in members(out):
        parts[name.split(".", 1)[1]] = data
        if name.endswith(".json") and json.loads(data)["axis"] in ("x", "2d"):
            image, mask = (np.array(PIL.Image.open(io.BytesIO(parts[part]))) for part in ("png", "mask.png"))
            found.append((json.loads(data), image, mask))
    return found


def check_slices(out: Path, volumes: Sequence[npt.NDArray[Any]], organs: dict[str, npt.NDArray[np.bool_]]) -> None:
    """Each axial sample is a slice of one of the volumes, with its organs where they were drawn."""
    found = samples(out)
    inside = np.logical_or.reduce(list(organs.values()))
    assert len(found) == len(volumes) * int(inside.any(axis=(1, 2)).sum())
    for about, image, mask in found:
        number = about["index"]
        scaled = [
            np.rint((plane - plane.min()) / (plane.max() - plane.min()) * 255)
            for plane in (volume[number].astype(float) for volume in volumes)
        ]
        assert any(np.array_equal(image, one) for one in scaled)
        drawn = {one["label"]: mask == one["id"] for one in about["masks"]}
        expected = {name.lower(): organ[number] for name, organ in organs.items() if organ[number].any()}
        assert drawn.keys() == expected.keys()
        assert all(np.array_equal(drawn[name], expected[name]) for name in drawn)


def write_patients(raw: Path, shape: str) -> list[npt.NDArray[np.int16]]:
    """Two patients with a CT and its SEG, a scout that has none, and a file that is no DICOM."""
    files, volumes = Tree(raw, shape), []
    for seed, patient in enumerate(PATIENTS):
        study, volume = Study(patient), ct_like(seed)
        images = series_of(study, volume)
        seg = seg_of(images, ORGANS)
        # what belongs together is not written together
        for dataset in (*images[::2], seg, *series_of(study, volume[:2], description="Scout"), *images[1::2]):
            files.add(dataset)
        volumes.append(volume)
    (raw / "README.txt").write_text("A list of patients")
    return volumes


@pytest.mark.parametrize("shape", SHAPES)
def test_a_drafted_recipe_builds_every_shape(sa_med2d: Command, tmp_path: Path, shape: str) -> None:
    volumes = write_patients(tmp_path / "raw", shape)
    drafted = sa_med2d(
        "sources", "init", "--from", tmp_path / "raw", "--name", "Dicom", "--license", "CC-BY-3.0", "--modality", "ct"
    )
    assert drafted.code == 0, drafted.err
    assert "4 image series of CT, 2 SEG, of 2 patients" in drafted.out
    assert "2 x 'Scout'" in drafted.out
    assert "'Liver' 2, 'Spleen' 2" in drafted.out
    (tmp_path / "Dicom.toml").write_text(drafted.out)
    checked = sa_med2d("sources", "check", tmp_path / "Dicom.toml", "--raw", tmp_path / "raw", "--json")
    assert (checked.code, json.loads(checked.out)["cases"], json.loads(checked.out)["patients"]) == (0, 2, 2)
    assert build(sa_med2d, tmp_path, drafted.out).code == 0
    check_slices(tmp_path / "out", volumes, ORGANS)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_that_names_a_patient_gets_out(sa_med2d: Command, tmp_path: Path, shape: str) -> None:
    write_patients(tmp_path / "raw", shape)
    (tmp_path / "raw/Roe_Jane_broken.dcm").write_bytes(b"Roe^Jane")
    study, files = Study(""), Tree(tmp_path / "raw/nobody", "{number}")
    for dataset in series_of(study, ct_like()):
        files.add(dataset)
    ran = build(sa_med2d, tmp_path, recipe())
    assert ran.code == 3
    assert "it lacks the header that begins with DICM" in ran.err
    assert "it names no patient (PatientID)" in ran.err
    written = tree(tmp_path / "out")
    table = json.loads(written.pop("build/identifiers/Dicom.json"))
    assert b"Roe_Jane" in written.pop("build/dicom/Dicom.json")
    assert (tmp_path / "out/build/dicom/Dicom.json").stat().st_mode & 0o777 == 0o600
    del written["build/identifier.key"]
    everything = b"".join([*written.values(), *(name.encode() for name in written)]) + (ran.err + ran.out).encode()
    for secret in ("Roe", "Jane", "Doe", "19701231", "Secretname", "Scout", study.uid, "1.2.826"):
        assert secret.encode() not in everything
    for about, _, _ in samples(tmp_path / "out"):
        assert table[about["patient"]] in PATIENTS
        assert about["split"] == hashed_split("Dicom", table[about["patient"]])


@pytest.mark.parametrize("listed", [True, False])
def test_a_mask_goes_to_the_series_that_it_refers_to(sa_med2d: Command, tmp_path: Path, listed: bool) -> None:
    """Though another one lies in the same frame of reference; whether it lists its images, or each frame has its own."""
    study, files = Study("Roe"), Tree(tmp_path / "raw", "{number}")
    early, late = series_of(study, ct_like(1), description="early"), series_of(study, ct_like(2), description="late")
    masks = seg_of(late, ORGANS), seg_of(early, {"Liver": ORGANS["Liver"]}, "draft")
    if not listed:
        for mask in masks:
            del mask.ReferencedSeriesSequence
    for dataset in (*early, *late, *masks):
        files.add(dataset)
    assert build(sa_med2d, tmp_path, recipe(mask='modality = "SEG", description = "mask*"')).code == 0
    check_slices(tmp_path / "out", [ct_like(2)], ORGANS)
    plan = json.loads((tmp_path / "out/build/plan/Dicom.json").read_text())
    assert len(plan["images_without_mask"]) == 1
    ran = build(sa_med2d, tmp_path, recipe(image='modality = "CT", description = ["EARL?", "none"]'))
    assert ran.code == 0
    check_slices(tmp_path / "out", [ct_like(1)], {"Liver": ORGANS["Liver"]})
    plan = json.loads((tmp_path / "out/build/plan/Dicom.json").read_text())
    assert len(plan["masks_without_image"]) == 1


@pytest.mark.parametrize("named", [True, False])
def test_contours_of_the_series_or_of_another_copy_of_it(sa_med2d: Command, tmp_path: Path, named: bool) -> None:
    files, volumes = Tree(tmp_path / "raw", SHAPES[1]), []
    for seed, patient in enumerate(PATIENTS):
        study = Study(patient)
        images = series_of(study, ct_like(seed))
        uid = str(images[0].SeriesInstanceUID) if named else None
        for dataset in (*images, rtstruct_of(study, "Liver", ORGANS["Liver"], uid)):
            files.add(dataset)
        volumes.append(ct_like(seed))
    text = recipe(mask='modality = "RTSTRUCT", body_part = "ch*"')
    assert build(sa_med2d, tmp_path, text).code == 0
    check_slices(tmp_path / "out", volumes, {"Liver": ORGANS["Liver"]})
    drafted = sa_med2d(
        "sources", "init", "--from", tmp_path / "raw", "--name", "D", "--license", "MIT", "--modality", "ct"
    )
    assert ("2 mask files of these refer to images that are not here" in drafted.out) != named


def test_a_series_of_two_echoes_has_two_channels(sa_med2d: Command, tmp_path: Path) -> None:
    study, files, series = Study("Roe"), Tree(tmp_path / "raw", SHAPES[2]), generate_uid()
    echoes = [series_of(study, ct_like(seed)) for seed in (0, 1)]
    seg = seg_of(echoes[0], ORGANS)
    for number, images in enumerate(echoes):
        for dataset in images:
            dataset.SeriesInstanceUID, dataset.EchoTime = series, 10 * (number + 1)
            files.add(dataset)
    files.add(seg)
    text = recipe().replace("[files.dicom]", '[files]\nchannels = ["first", "second"]\n[files.dicom]')
    ran = build(sa_med2d, tmp_path, text)
    assert ran.code == 0, ran.err
    check_slices(tmp_path / "out", [ct_like(0), ct_like(1)], ORGANS)
    assert {about["submodality"] for about, _, _ in samples(tmp_path / "out")} == {"first", "second"}


def test_masks_may_be_an_image_series_of_the_same_study(sa_med2d: Command, tmp_path: Path) -> None:
    files = Tree(tmp_path / "raw", SHAPES[2])
    for seed, patient in enumerate(PATIENTS):
        study = Study(patient)
        mask = series_of(study, organ_map().astype(np.uint16), "CT", "Segmentation of Secretname")
        for dataset in (*series_of(study, ct_like(seed)), *mask):
            files.add(dataset)
    values = '1 = "liver"\n2 = "spleen"'
    mask_tags = 'modality = "CT", description = "segmentation*"'
    ran = build(sa_med2d, tmp_path, recipe(mask=mask_tags, labels=values, segments=False))
    assert ran.code == 0, ran.err
    check_slices(tmp_path / "out", [ct_like(0), ct_like(1)], ORGANS)


def test_images_without_a_place_are_cases_of_their_own(sa_med2d: Command, tmp_path: Path) -> None:
    """Two X-ray pictures of one series, one of which a SEG names."""
    study, series, files = Study("Roe"), generate_uid(), Tree(tmp_path / "raw", SHAPES[0])
    planes = ct_like()[3:5] + 1000
    about = study.about("CR", "Thorax", series)
    pictures = [
        image_dataset(plane.astype(np.uint16), **about, SOPClassUID="1.2.840.10008.5.1.4.1.1.1", InstanceNumber=number)
        for number, plane in enumerate(planes)
    ]
    seg = seg_of(series_of(study, ct_like()[:1]), {"Liver": ORGANS["Liver"][6:7]})
    refer_to(seg, pictures[1])
    for dataset in (*pictures, seg):
        files.add(dataset)
    text = recipe(image='modality = "CR"').replace('modality = "ct"', 'modality = "x_ray"')
    ran = build(sa_med2d, tmp_path, text)
    assert ran.code == 0, ran.err
    ((about, image, mask),) = samples(tmp_path / "out")
    assert about["plane"] == "2d"
    scaled = (planes[1] - planes[1].min()) / (planes[1].max() - planes[1].min()) * 255
    assert np.array_equal(image, np.rint(scaled))
    assert np.array_equal(mask == 1, ORGANS["Liver"][6])


def refer_to(seg: Dataset, picture: Dataset) -> None:
    """Let a SEG be of a picture, which has no place in the patient."""
    series = seg.ReferencedSeriesSequence[0]
    series.SeriesInstanceUID = picture.SeriesInstanceUID
    series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = picture.SOPInstanceUID
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    for sequence in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        del seg.SharedFunctionalGroupsSequence[0][sequence]


def test_a_build_is_resumed_and_sees_what_has_changed(sa_med2d: Command, tmp_path: Path) -> None:
    """On several processes, to which the files of a series travel with their case."""
    volumes = write_patients(tmp_path / "raw", SHAPES[2])
    assert build(sa_med2d, tmp_path, recipe(), "--workers", 2).code == 0
    check_slices(tmp_path / "out", volumes, ORGANS)
    before = tree(tmp_path / "out", "data", "index")
    again = build(sa_med2d, tmp_path, recipe())
    assert "finished already and kept" in again.err
    assert tree(tmp_path / "out", "data", "index") == before
    for path in (tmp_path / "raw").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        if dataset.Modality == "CT" and dataset.PatientID == PATIENTS[0] and dataset.InstanceNumber == 5:
            volumes[0][4] = volumes[0][4] // 2 if dataset.SeriesDescription != "Scout" else volumes[0][4]
            dataset.PixelData = volumes[0][4].tobytes()
            dataset.save_as(path)
    assert build(sa_med2d, tmp_path, recipe()).code == 0
    check_slices(tmp_path / "out", volumes, ORGANS)
    assert tree(tmp_path / "out", "data", "index") != before


@pytest.mark.parametrize(
    ("image", "mask", "said"),
    [
        ('modality = "MR"', 'modality = "SEG"', "files.dicom.image: nothing of modality MR"),
        ('modality = "CT", description = "x*"', 'modality = "SEG"', "nothing of modality CT, description 'x*'"),
        ('modality = "CT"', 'modality = "RTSTRUCT"', "files.dicom.mask: nothing of modality RTSTRUCT"),
        (
            'modality = "CT", description = "Scout"',
            'modality = "SEG"',
            "no image has a mask: no reference and no frame of reference leads from 2 masks",
        ),
    ],
)
def test_tags_that_fit_nothing(sa_med2d: Command, tmp_path: Path, image: str, mask: str, said: str) -> None:
    write_patients(tmp_path / "raw", SHAPES[0])
    ran = build(sa_med2d, tmp_path, recipe(image, mask))
    assert ran.code == 1
    assert said in ran.err
    assert not any(secret in ran.err for secret in ("Roe", "Doe", "Secretname", "1.2.826"))
    if "nothing of" in said:
        assert "4 image series of CT, 2 SEG" in ran.err


def test_a_tree_without_masks_says_what_it_holds(sa_med2d: Command, tmp_path: Path) -> None:
    files = Tree(tmp_path / "raw", "{number}")
    for dataset in series_of(Study("Roe"), ct_like()):
        files.add(dataset)
    ran = sa_med2d("sources", "init", "--from", tmp_path / "raw", "--name", "D", "--license", "MIT", "--modality", "ct")
    assert (ran.code, ran.out) == (1, "")
    assert "holds no SEG or RTSTRUCT that belongs to an image, but 1 image series of CT" in ran.err


def test_a_draft_is_for_the_modality_that_is_asked_for(sa_med2d: Command, tmp_path: Path) -> None:
    write_patients(tmp_path / "raw", SHAPES[1])
    ran = sa_med2d(
        "sources", "init", "--from", tmp_path / "raw", "--name", "D", "--license", "MIT", "--modality", "pet"
    )
    assert (ran.code, ran.out) == (1, "")
    assert "no masks for --modality pet (PT), but for CT with SEG: 2 annotated, 2 mask files" in ran.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('modality = "SEG"', 'modality = "CT"', "a series of CT images needs a description"),
        ("segments = true", "segments = false", "a mask of modality SEG needs masks.segments = true"),
        ('modality = "CT"', 'modality = "RTSTRUCT"', "image: modality RTSTRUCT is that of masks"),
        ('modality = "CT"', 'modality = "CT", serie = 1', "files.dicom.image.serie: unknown key"),
        ('modality = "CT" }', 'description = "a" }', "files.dicom.image.modality: is required and missing"),
        ("[files.dicom]", '[files]\nimage = "{case}/"\n[files.dicom]', "image: does not go with [files.dicom]"),
        ("[files.dicom]", '[files]\npatient = "{patient}_1"\n[files.dicom]', "patient (it is PatientID): does not go"),
    ],
)
def test_what_a_recipe_may_not_say(sa_med2d: Command, tmp_path: Path, old: str, new: str, said: str) -> None:
    text = recipe()
    assert old in text
    ran = build(sa_med2d, tmp_path, text.replace(old, new, 1))
    assert ran.code == 1
    assert said in ran.err


def test_pipes_and_links_that_lead_out_are_not_opened(sa_med2d: Command, tmp_path: Path) -> None:
    volumes = write_patients(tmp_path / "raw", SHAPES[0])
    os.mkfifo(tmp_path / "raw/pipe.dcm")
    elsewhere = Tree(tmp_path / "elsewhere", "{number}").add(series_of(Study("Other"), ct_like())[0])
    (tmp_path / "raw/link.dcm").symlink_to(elsewhere)
    ran = build(sa_med2d, tmp_path, recipe())
    assert ran.code == 3
    assert "it is a link that leads out of the source's folder" in ran.err
    check_slices(tmp_path / "out", volumes, ORGANS)


def test_a_series_of_two_patients_is_held_back(sa_med2d: Command, tmp_path: Path) -> None:
    write_patients(tmp_path / "raw", SHAPES[0])
    study = Study("Mixed")
    images = series_of(study, ct_like())
    seg = seg_of(images, ORGANS)
    images[5].PatientID = "Other"
    files = Tree(tmp_path / "raw/mixed", "{number}")
    for dataset in (*images, seg):
        files.add(dataset)
    ran = build(sa_med2d, tmp_path, recipe())
    assert ran.code == 3
    assert "the files of its series name different patients; expected one" in ran.err
