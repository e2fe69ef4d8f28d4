"""``[cases]``: cases in and out by name, pattern and range of numbers, counted where the owner of the source looks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.dicom_source import CASE, HASHED, write_case, write_ct_series
from tests.support.dicom_tree import Study, Tree, seg_of, series_of
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map


def with_cases(recipe: Path, text: str) -> Path:
    recipe.write_text(recipe.read_text() + f"[cases]\n{text}\n")
    return recipe


def built(out: Path) -> set[str]:
    return {json.loads(data)["case"] for name, data in members(out) if name.endswith(".json")}


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ('only = ["case01"]', {1}),
        ('only = ["0001-0003"]', {1, 2, 3}),
        ('only = ["1-3"]', {1, 2, 3}),
        ('only = ["case0?"]\nleave_out = ["case00", "3-99"]', {1, 2}),
        ('leave_out = ["*[14]"]', {0, 2, 3}),
        ('leave_out = ["0-1"]', {2, 3, 4}),
    ],
)
def test_names_patterns_and_ranges_choose_cases(sa_med2d: Command, tmp_path: Path, text: str, taken: set[int]) -> None:
    recipe = with_cases(write_source(tmp_path / "raw", cases=5), text)
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert built(tmp_path / "out") == {f"case{number:02d}" for number in taken}
    source = json.loads(ran.out)["sources"][0]
    assert source["left_out"] == [f"case{number:02d}" for number in range(5) if number not in taken]
    assert not source["quarantined"]
    assert not source["masks_without_image"]
    assert f"{5 - len(taken)} cases left out, as [cases] of the recipe says: case0" in ran.err


def test_check_counts_what_is_left_out(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = with_cases(write_source(tmp_path / "raw", cases=4), 'leave_out = ["case03", "case07"]')
    ran = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.out
    assert "cases: 3 (" in ran.out
    assert "left out by [cases]: 1 case: case03\n" in ran.out
    assert "cases.leave_out: 'case07' fits no case" in ran.out
    assert "all 3 cases can be built" in ran.out


def test_what_is_left_out_may_be_damaged(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = with_cases(write_source(tmp_path / "raw"), 'leave_out = ["case01"]')
    (tmp_path / "raw/Small/labels/case01.nii.gz").write_bytes(b"no image")
    assert sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out").code == 0
    assert built(tmp_path / "out") == {"case00", "case02"}


def test_names_are_those_of_files_case(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=0)
    for patient, visit in (("p1", 1), ("p1", 2), ("p2", 1)):
        write_nifti(tmp_path / f"raw/Small/{patient}/image_{visit}.nii.gz", ct_like(visit))
        write_nifti(tmp_path / f"raw/Small/{patient}/mask.nii.gz", organ_map())
    text = (
        recipe.read_text().replace("images/{case}", "{patient}/image_{case}").replace("labels/{case}", "{patient}/mask")
    )
    recipe.write_text(text.replace("[labels]", 'case = "{patient}-{case}"\n[labels]'))
    with_cases(recipe, 'leave_out = ["p1-2"]')
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert built(tmp_path / "out") == {"p1-1", "p2-1"}, "a mask that two visits share stays that of the other"


def test_a_recipe_that_leaves_all_out_is_told_the_names(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = with_cases(write_source(tmp_path / "raw"), 'only = ["0501-0600"]')
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "Small: [cases] leaves every case out; their names are case00, case01, case02\n" in ran.err
    assert not (tmp_path / "out/data").exists()


def test_a_range_the_wrong_way_round_is_refused(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = with_cases(write_source(tmp_path / "raw"), 'only = ["0500-0001"]')
    ran = sa_med2d("sources", "check", recipe)
    assert ran.code == 1
    assert "cases.only.0: '0500-0001': expected a range from the smaller number to the larger, 0001-0500" in ran.err


def test_names_of_dicom_cases_that_are_left_out_are_not_written(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw/Dicom"
    write_case(raw)
    write_ct_series(raw / "Roe_Rick/ct", ct_like(1))
    shutil.copy(raw / "p1/seg.nrrd", raw / "Roe_Rick/seg.nrrd")
    recipe = tmp_path / "Dicom.toml"
    recipe.write_text(HASHED + CASE + '[cases]\nleave_out = ["Roe_Rick"]\n')
    ran = sa_med2d("build", recipe, "--raw", raw.parent, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    left = json.loads(ran.out)["sources"][0]["left_out"]
    assert len(left) == len(built(tmp_path / "out")) == 1
    assert json.loads((tmp_path / "out/build/plan/Dicom.json").read_text())["left_out"] == left
    assert "Roe" not in json.dumps(left)
    assert "Roe" not in ran.err


def test_series_found_by_their_tags_are_left_out_by_uid(sa_med2d: Command, tmp_path: Path) -> None:
    files, uids = Tree(tmp_path / "raw/Dicom", "{number}"), []
    for seed, patient in enumerate(("A", "B")):
        images = series_of(Study(patient), ct_like(seed))
        uids.append(images[0].SeriesInstanceUID)
        for dataset in (*images, seg_of(images, {"Liver": organ_map() == 1})):
            files.add(dataset)
    recipe = tmp_path / "Dicom.toml"
    text = HASHED + (
        '[files.dicom]\nimage = { modality = "CT" }\nmask = { modality = "SEG" }\n'
        '[masks]\nsegments = true\n[labels]\nLiver = "liver"\n'
    )
    recipe.write_text(f'{text}[cases]\nleave_out = ["{uids[0]}"]\n')
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    names = json.loads((tmp_path / "out/build/identifiers/Dicom.json").read_text())
    assert [names[case] for case in built(tmp_path / "out")] == [uids[1]]
    source = json.loads(ran.out)["sources"][0]
    assert (len(source["left_out"]), source["masks_without_image"]) == (1, [])
    recipe.write_text(f'{text}[cases]\nleave_out = ["*"]\n')
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert (ran.code, "[cases] leaves every case out" in ran.err, uids[0] in ran.err) == (1, True, False)
