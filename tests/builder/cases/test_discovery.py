"""From files to cases: captures, patients, splits, and what does not fit together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.cases.split import hashed_split
from builder.sources.pattern import Pattern
from tests.support.command import Command
from tests.support.output import members
from tests.support.sources import RECIPE, write_source

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


def built_records(out: Path) -> list[dict[str, object]]:
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


def test_hashed_split_is_about_80_10_10() -> None:
    drawn = [hashed_split("Files", f"patient{number}") for number in range(4000)]
    shares = [drawn.count(split) / 4000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


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
    assert "1 files are there, such as imgs/a.png" in ran.err
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
    assert "1 images without a mask were left out: img/a.png" in ran.err
    assert "1 masks without an image were left out: gt/c.png" in ran.err
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
    (mask,) = built_records(tmp_path / "out")[0]["masks"]  # type: ignore[misc]
    assert (mask["label"], mask["organ"], mask["group"]) == ("gallblader", None, "other")  # type: ignore[has-type]
    strict = sa_med2d("build", file, "--raw", raw, "--out", tmp_path / "strict", "--strict")
    assert strict.code == 1
    assert not (tmp_path / "strict").exists()


FIELDS = st.lists(st.sampled_from(["{case}", "{label}", "{*}", "_", "a", "-", "/", "."]), min_size=1, max_size=7)


@given(FIELDS.map("".join), st.text("ab_-./", min_size=1, max_size=14))
def test_pattern_agrees_with_a_plain_regular_expression(text: str, path: str) -> None:
    try:
        pattern = Pattern(text)
    except ValueError:
        return
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name == "\\*":
            return "[^/]*"
        again = f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
        seen.add(name)
        return again

    regex = re.sub(r"\\\{(case|label|\\\*)\\\}", group, re.escape(text))
    expected = re.fullmatch(regex, path)
    found = pattern.match(path)
    assert found == (expected.groupdict() if expected else None)
    every = list(pattern.matches(path))
    assert (found is None) == (not every)
    assert found is None or found in every


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
    assert "1 cases gave no sample, every slice was dropped by a rule: b" in ran.err
