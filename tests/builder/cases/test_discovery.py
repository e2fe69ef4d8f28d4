"""From files to cases: captures, patients, splits, and what does not fit together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from builder.cases.split import hashed_split
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE, write_source
from tests.support.volumes import ct_like, organ_map

HEAD = RECIPE.format(name="Files", license="MIT", modality="ultrasound").split("[files]")[0]


def picture(path: Path, seed: int = 0, *, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (40, 48), np.uint8)
    if mask:
        values = np.zeros((40, 48), np.uint8)
        values[5:20, 8:30] = 255
    assert cv2.imwrite(str(path), values)


def recipe(tmp_path: Path, image: str, mask: str, more: str = "", labels: str = '255 = "thyroid_nodule"') -> Path:
    path = tmp_path / "Files.toml"
    path.write_text(f'{HEAD}[files]\nimage = "{image}"\nmask = "{mask}"\n{more}\n[labels]\n{labels}\n')
    return path


def built_records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data in members(out) if name.endswith(".json")]


def test_captures_reach_key_and_metadata(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for sequence in ("T1w", "flair"):
        picture(raw / f"p.1/visit-2_{sequence}.png")
    picture(raw / "p.1/visit-2_seg.bmp", mask=True)
    case = 'case = "{patient}_{case}"'
    file = recipe(tmp_path, "{patient}/{case}_{submodality}.png", "{patient}/{case}_seg.bmp", case)
    ran = sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    keys = sorted(name.removesuffix(".json") for name, _ in members(tmp_path / "out") if name.endswith(".json"))
    assert keys == [
        "ultrasound_flair--Files--p%2E1_visit-2--2d_none",
        "ultrasound_t1w--Files--p%2E1_visit-2--2d_none",
    ]
    assert {(record["patient"], record["case"]) for record in built_records(tmp_path / "out")} == {
        ("p.1", "p.1_visit-2")
    }


def test_patient_from_case_name_keeps_frames_together(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for patient in range(12):
        for frame in (1, 2):
            picture(raw / f"img/patient{patient:03d}_frame{frame}.png", patient)
            picture(raw / f"gt/patient{patient:03d}_frame{frame}.png", mask=True)
    file = recipe(tmp_path, "img/{case}.png", "gt/{case}.png", 'patient = "{patient}_frame{*}"')
    assert sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out").code == 0
    splits: dict[object, set[object]] = {}
    for record in built_records(tmp_path / "out"):
        splits.setdefault(record["patient"], set()).add(record["split"])
    assert len(splits) == 12
    assert all(found == {hashed_split("Files", str(patient))} for patient, found in splits.items())


@pytest.mark.parametrize("label", ["tumör", "a+b", "kidney.left", "liver (1)", "liver[2]", "_liver", "-", " liver"])
def test_a_file_name_that_names_no_class_costs_its_case(sa_med2d: Command, tmp_path: Path, label: str) -> None:
    raw = tmp_path / "raw"
    for case, name in (("a", "liver"), ("b", label)):
        picture(raw / f"img/{case}.png")
        picture(raw / f"gt/{case}/{name}.png", mask=True)
    file = recipe(tmp_path, "img/{case}.png", "gt/{case}/{label}.png", labels="")
    ran = sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 3, ran.err
    assert f"b: gt/b/{label}.png: match: captured the label {label!r}, which is no class name" in ran.err
    assert f'name its class in [labels]: "{label}" = "...", or leave it out' in ran.err
    assert [record["case"] for record in built_records(tmp_path / "out")] == ["a"]
    file = recipe(tmp_path, "img/{case}.png", "gt/{case}/{label}.png", labels=f'"{label}" = "spleen"')
    assert sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out").code == 0
    assert [record["masks"][0]["label"] for record in built_records(tmp_path / "out")] == ["liver", "spleen"]


def test_official_split_by_folder(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for split, case in (("Training", "a"), ("val", "b"), ("Fold9", "c")):
        picture(raw / split / "img" / f"{case}.png")
        picture(raw / split / "gt" / f"{case}.png", mask=True)
    file = recipe(tmp_path, "{split}/img/{case}.png", "{split}/gt/{case}.png")
    file.write_text(file.read_text() + '[splits]\ntest = ["Fold9"]\n')
    assert sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out").code == 0
    assert {(record["case"], record["split"]) for record in built_records(tmp_path / "out")} == {
        ("a", "train"),
        ("b", "validation"),
        ("c", "test"),
    }


def test_patient_on_two_sides_of_an_official_split_is_held_back(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for split, patient, case in (("train", "p1", "a"), ("test", "p1", "b"), ("test", "p2", "c")):
        picture(raw / split / patient / f"{case}_i.png")
        picture(raw / split / patient / f"{case}_m.png", mask=True)
    file = recipe(tmp_path, "{split}/{patient}/{case}_i.png", "{split}/{patient}/{case}_m.png")
    ran = sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 3
    assert "puts its patient into test and train" in ran.err
    assert [record["case"] for record in built_records(tmp_path / "out")] == ["c"]


def test_pattern_that_matches_nothing(sa_med2d: Command, tmp_path: Path) -> None:
    picture(tmp_path / "raw/imgs/a.png")
    ran = sa_med2d(
        "build",
        recipe(tmp_path, "img/{case}.png", "gt/{case}.png"),
        "--raw",
        tmp_path / "raw",
        "--out",
        tmp_path / "out",
    )
    assert ran.code == 1
    assert "files.image: 'img/{case}.png' matches nothing" in ran.err
    assert "found: 1 file, such as imgs/a.png" in ran.err
    assert not (tmp_path / "out").exists()


def test_missing_source_folder(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d(
        "build", recipe(tmp_path, "i/{case}.png", "m/{case}.png"), "--raw", tmp_path / "no", "--out", tmp_path / "out"
    )
    assert ran.code == 1
    assert "is no folder" in ran.err


def test_two_images_that_claim_one_case(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("x/a.png", "y/a.png", "x/b.png"):
        picture(raw / "img" / name)
    picture(raw / "gt/a.png", mask=True)
    picture(raw / "gt/b.png", mask=True)
    file = recipe(tmp_path, "img/{*}/{case}.png", "gt/{case}.png")
    ran = sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 3
    assert "img/y/a.png: match: claims the same case and sub-modality as img/x/a.png" in ran.err
    assert [record["case"] for record in built_records(tmp_path / "out")] == ["b"]


def test_lonely_images_and_masks_are_listed_and_not_fatal(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in "ab":
        picture(raw / f"img/{name}.png")
    for name in "bc":
        picture(raw / f"gt/{name}.png", mask=True)
    file = recipe(tmp_path, "img/{case}.png", "gt/{case}.png")
    ran = sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 0
    assert "1 image without a mask, left out: img/a.png" in ran.err
    assert "1 mask without an image, left out: gt/c.png" in ran.err
    checked = sa_med2d("sources", "check", file, "--raw", raw)
    assert "cases: 1 " in checked.out
    assert "img/a.png: image without a mask" in checked.out
    assert "gt/c.png: mask without an image" in checked.out


def test_single_source_may_lie_in_raw_itself_or_below_its_name(sa_med2d: Command, tmp_path: Path) -> None:
    file = write_source(tmp_path / "raw", "Inside", cases=1)
    assert sa_med2d("build", file, "--raw", tmp_path / "raw", "--out", tmp_path / "one").code == 0
    assert sa_med2d("build", file, "--raw", tmp_path / "raw/Inside", "--out", tmp_path / "two").code == 0
    assert list(members(tmp_path / "one")) == list(members(tmp_path / "two"))


def test_unknown_class_is_kept_with_a_hint_or_refused(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    picture(raw / "i/a.png")
    picture(raw / "m/a.png", mask=True)
    file = recipe(tmp_path, "i/{case}.png", "m/{case}.png", labels='255 = "gallblader"')
    ran = sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 0
    assert "class 'gallblader' is not in the vocabulary; near are gallbladder" in ran.err
    (mask,) = built_records(tmp_path / "out")[0]["masks"]
    assert (mask["label"], mask["organ"], mask["group"]) == ("gallblader", None, "other")
    strict = sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "strict", "--strict")
    assert strict.code == 1
    assert not (tmp_path / "strict").exists()


def test_mask_beside_its_image_is_no_image(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("a", "b"):
        picture(raw / f"{name}.png")
        picture(raw / f"{name}_mask.png", mask=True)
    file = recipe(tmp_path, "{case}.png", "{case}_mask.png")
    assert sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "out").code == 0
    assert {record["case"] for record in built_records(tmp_path / "out")} == {"a", "b"}


def test_cases_without_a_sample_are_named(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in "ab":
        picture(raw / f"i/{name}.png")
        picture(raw / f"m/{name}.png", mask=name == "a")
    cv2.imwrite(str(raw / "m/b.png"), np.zeros((40, 48), np.uint8))
    ran = sa_med2d("build", recipe(tmp_path, "i/{case}.png", "m/{case}.png"), "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 0
    assert "1 case gave no sample, every slice was dropped by a rule: b" in ran.err


@pytest.mark.parametrize("name", ["1.2.840.113", "a--b", "-a-", "spa ce", "umläut", "100%"])
def test_awkward_case_names_build_and_come_back(sa_med2d: Command, tmp_path: Path, name: str) -> None:
    raw = tmp_path / "raw"
    write_nifti(raw / f"images/{name}.nii.gz", ct_like())
    write_nifti(raw / f"labels/{name}.nii.gz", organ_map())
    recipe = tmp_path / "Names.toml"
    recipe.write_text(RECIPE.format(name="Names", license="MIT", modality="ct"))
    assert sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out").code == 0
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0
    keys = {member.split(".")[0] for member, _ in members(tmp_path / "out")}
    assert all(len(key.split("--")) == 4 for key in keys)


def test_name_that_is_no_utf8(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_nifti(raw / "images/a.nii.gz", ct_like())
    write_nifti(raw / "labels/a.nii.gz", organ_map())
    for folder in ("images", "labels"):
        odd = os.fsencode(raw / folder) + b"/caf\xe9.nii.gz"
        os.link(os.fsencode(raw / folder / "a.nii.gz"), odd)
    recipe = tmp_path / "Odd.toml"
    recipe.write_text(RECIPE.format(name="Odd", license="MIT", modality="ct"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert "Traceback" not in ran.err
    assert ran.code == 3
    assert "its name is no UTF-8" in ran.err
    assert {name.split("--")[2] for name, _ in members(tmp_path / "out")} == {"a"}


@pytest.mark.parametrize("converted", [50, pytest.param(5000, marks=pytest.mark.slow)])
def test_ten_thousand_files_in_one_folder(sa_med2d: Command, tmp_path: Path, converted: int) -> None:
    folder = tmp_path / "raw/Many"
    folder.mkdir(parents=True)
    picture = cv2.imencode(".png", np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))[1].tobytes()
    mask = cv2.imencode(".png", np.tri(64, dtype=np.uint8))[1].tobytes()
    for number in range(5000):
        (folder / f"{number}.png").write_bytes(picture)
        (folder / f"{number}_mask.png").write_bytes(mask)
    recipe = tmp_path / "Many.toml"
    text = RECIPE.format(name="Many", license="MIT", modality="ct").replace("images/{case}.nii.gz", "{case}.png")
    recipe.write_text(text.replace("labels/{case}.nii.gz", "{case}_mask.png"))
    limit = ("--workers", 1, "--limit-cases", converted)
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", *limit)
    assert ran.code == 0, ran.err
    assert sum(name.endswith(".json") for name, _ in members(tmp_path / "out")) == converted
