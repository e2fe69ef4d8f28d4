"""Official splits that stand in a file of the source: tables, JSON, lists of names, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from builder.cases.split import hashed_split
from tests.support.command import Command, Ran
from tests.support.dicom_source import CASE, HASHED, write_case
from tests.support.output import members
from tests.support.sources import write_source

COLUMNS = 'patient = "image_id"\nsplit = "split"\n'
VALUES = 'values = { train = ["1", "fit"], validation = ["2"], test = ["hold-out"] }\n'
TABLE = "image_id;age;split\ncase00;60;test\ncase01;7;val\n"


def build(sa_med2d: Command, tmp_path: Path, splits: str, files: Mapping[str, str | bytes]) -> Ran:
    """Build four cases whose recipe has these ``[splits]``, beside these files."""
    recipe = write_source(tmp_path / "raw", cases=4)
    recipe.write_text(f"{recipe.read_text()}[splits]\n{splits}")
    for name, text in files.items():
        path = tmp_path / "raw/Small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")


def built(out: Path) -> dict[str, tuple[str, bool]]:
    """Case -> its split, and whether that is the source's own."""
    records = [json.loads(data) for name, data in members(out) if name.endswith(".json")]
    return {record["case"]: (record["split"], record["official_split"]) for record in records}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("before", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_places_patients_whatever_its_delimiter(
    sa_med2d: Command, tmp_path: Path, delimiter: str, before: str, end: str
) -> None:
    table = before + TABLE.replace(";", delimiter).replace("\n", end)
    ran = build(sa_med2d, tmp_path, f'file = "meta/all.csv"\n{COLUMNS}', {"meta/all.csv": table})
    assert ran.code == 0, ran.err
    assert built(tmp_path / "out") == {
        "case00": ("test", True),
        "case01": ("validation", True),
        "case02": (hashed_split("Small", "case02"), False),
        "case03": (hashed_split("Small", "case03"), False),
    }


@pytest.mark.parametrize(
    ("name", "columns", "text"),
    [
        ("a.csv", COLUMNS, 'image_id,note,split\ncase00,"a, b",1\ncase01,,2\ncase02,"x\ny",hold-out\ncase03,-,\n'),
        ("a.csv", COLUMNS, "split;image_id\n1; case00\n2;case01\nhold-out;case02\n\n ; \n"),
        (
            "a.json",
            COLUMNS,
            json.dumps(
                [
                    {"image_id": "case00", "split": 1},
                    {"image_id": "case01", "split": "2", "age": 5},
                    {"image_id": "case02", "split": "hold-out"},
                    {"image_id": "case03", "split": None},
                ]
            ),
        ),
        ("a.json", "", json.dumps({"fit": ["case00"], "2": ["case01"], "hold-out": ["case02"], "seed": 5})),
    ],
)
def test_values_of_a_file_are_what_the_recipe_says(
    sa_med2d: Command, tmp_path: Path, name: str, columns: str, text: str
) -> None:
    ran = build(sa_med2d, tmp_path, f'file = "{name}"\n{columns}{VALUES}', {name: text})
    assert ran.code == 0, ran.err
    found = built(tmp_path / "out")
    assert [found[f"case0{number}"] for number in range(3)] == [("train", True), ("validation", True), ("test", True)]
    assert found["case03"] == (hashed_split("Small", "case03"), False)


def test_lists_of_names(sa_med2d: Command, tmp_path: Path) -> None:
    lists = {"train.txt": "\ufeffcase01\r\ncase02\r\n\r\n", "lists/val.txt": "case00"}
    ran = build(sa_med2d, tmp_path, 'lists = { train = "train.txt", validation = "lists/val.txt" }\n', lists)
    assert ran.code == 0, ran.err
    assert built(tmp_path / "out") == {
        "case00": ("validation", True),
        "case01": ("train", True),
        "case02": ("train", True),
        "case03": (hashed_split("Small", "case03"), False),
    }


def test_another_split_in_the_file_moves_the_case_at_the_next_build(sa_med2d: Command, tmp_path: Path) -> None:
    splits = f'file = "meta.csv"\n{COLUMNS}'
    assert build(sa_med2d, tmp_path, splits, {"meta.csv": TABLE}).code == 0
    assert build(sa_med2d, tmp_path, splits, {"meta.csv": TABLE.replace(";test", ";train")}).code == 0
    assert built(tmp_path / "out")["case00"] == ("train", True)


def test_names_of_cases_find_the_patient_that_files_patient_finds(sa_med2d: Command, tmp_path: Path) -> None:
    """Of a patient of whom the file names one case alone, the other goes along."""
    recipe = write_source(tmp_path / "raw", cases=4)
    text = recipe.read_text().replace("[labels]", 'patient = "{patient}se0{*}"\n[labels]')
    recipe.write_text(f'{text}[splits]\nfile = "meta.csv"\n{COLUMNS}')
    (tmp_path / "raw/Small/meta.csv").write_text(TABLE.replace("case01;7;val\n", ""))
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert set(built(tmp_path / "out").values()) == {("test", True)}


def test_a_patient_whom_the_file_puts_on_two_sides_is_held_back(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, f'file = "a.csv"\n{COLUMNS}', {"a.csv": TABLE + "case01;7;train\n"})
    assert ran.code == 3
    assert (
        "case01: images/case01.nii.gz: match: the official split puts its patient into train and validation" in ran.err
    )
    assert set(built(tmp_path / "out")) == {"case00", "case02", "case03"}


FILE = f'file = "meta.csv"\n{COLUMNS}'


@pytest.mark.parametrize(
    ("splits", "files", "said"),
    [
        (
            FILE,
            {},
            "Small: splits.file: meta.csv is not below {root}; it is a part of the source that the recipe needs: get it, or build",
        ),
        ('lists = { test = "t.txt" }\n', {}, "Small: splits.lists.test: t.txt is not below {root}"),
        (
            FILE,
            {"meta.csv": "id;age;fold\n1;2;3\n"},
            "meta.csv has no column 'image_id' and 'split'; its columns are id, age, fold",
        ),
        (FILE, {"meta.csv": "image_id,fold\n1,3\n"}, "meta.csv has no column 'split'; its columns are image_id, fold"),
        (FILE, {"meta.csv": ""}, "meta.csv has no column 'image_id' and 'split'"),
        (
            FILE,
            {"meta.csv": TABLE + "case02;9;fold3\n"},
            "meta.csv: line 4: 'fold3' is no split that is known; name it in splits.values",
        ),
        (FILE, {"meta.csv": TABLE + ";9;train\n"}, "meta.csv: line 4 names nobody"),
        (
            FILE,
            {"meta.csv": TABLE.replace("case", "s")},
            "none of 2 names in it is a patient of the source: it has names such as 's00', the source has 'case00'",
        ),
        (FILE, {"meta.csv": b"image_id;split\nM\xfcller;train\n"}, "meta.csv is no UTF-8 text (byte 16)"),
        (
            FILE,
            {"meta.csv": TABLE + "a;" + "x" * 200_000 + ";train\n"},
            "meta.csv: line 4 is no row of a table: field larger than field limit",
        ),
        (FILE, {"meta.csv/a": "b"}, "meta.csv cannot be read: Is a directory"),
        (FILE.replace("csv", "json"), {"meta.json": "[{]"}, "meta.json is no JSON"),
        (FILE.replace("csv", "json"), {"meta.json": "{}"}, "meta.json: expected a list of objects"),
        (FILE.replace("csv", "json"), {"meta.json": '[{"image_id": "a"}]'}, "meta.json: entry 0 has no 'split'"),
        (FILE.replace("csv", "json"), {"meta.json": '["a"]'}, "meta.json: entry 0 has no 'image_id' and no 'split'"),
        ('file = "s.json"\n', {"s.json": "[]"}, "s.json: needs splits.patient and splits.split"),
        ('file = "s.json"\n', {"s.json": '{"train": [{"image": "a"}]}'}, "s.json: train[0] is no name"),
        (
            'file = "s.json"\n',
            {"s.json": '{"fold1": ["case00"]}'},
            "s.json: fold1[0]: 'fold1' is no split that is known",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    sa_med2d: Command, tmp_path: Path, splits: str, files: dict[str, str | bytes], said: str
) -> None:
    ran = build(sa_med2d, tmp_path, splits, files)
    assert ran.code == 1
    assert said.format(root=tmp_path / "raw/Small") in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out/data").exists()


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ('file = "a.csv"\n', "splits: file: needs patient and split"),
        ('file = "a.json"\npatient = "a"\n', "splits: file: needs patient and split"),
        ('patient = "a"\n', "splits: patient, split and values: belong to file, which is not given"),
        (VALUES, "splits: patient, split and values: belong to file, which is not given"),
        (FILE + 'lists = { train = "a.txt" }\n', "splits: file and lists exclude each other"),
        (FILE + 'values = { train = ["a"], test = ["a"] }\n', "splits: values: one value stands in two splits"),
        ('lists = { train = "../a.txt" }\n', "splits.lists.train: '../a.txt' is no path below the source's root"),
        (FILE.replace("meta", "/meta"), "splits.file: '/meta.csv' is no path below the source's root"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(sa_med2d: Command, tmp_path: Path, splits: str, said: str) -> None:
    recipe = write_source(tmp_path, cases=0)
    recipe.write_text(f"{recipe.read_text()}[splits]\n{splits}")
    ran = sa_med2d("sources", "check", recipe)
    assert ran.code == 1
    assert said in ran.err


def test_a_captured_split_and_a_file_exclude_each_other(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path, cases=0)
    recipe.write_text(f"{recipe.read_text().replace('images/', 'images{split}/')}[splits]\n{FILE}")
    ran = sa_med2d("sources", "check", recipe)
    assert ran.code == 1
    assert "splits: file and lists do not go with {split} in the image pattern" in ran.err


def test_patients_of_dicom_files_are_placed_by_their_own_names_and_not_shown(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw/Dicom"
    write_case(raw)
    text = HASHED + CASE.replace("[labels]", 'patient = "PatientID"\n[labels]') + f"[splits]\n{FILE}"
    (tmp_path / "Dicom.toml").write_text(text)
    command = ("build", tmp_path / "Dicom.toml", "--raw", raw.parent, "--out", tmp_path / "out")
    (raw / "meta.csv").write_text("image_id;split\nsecret-17;test\n")
    assert sa_med2d(*command).code == 0
    assert set(built(tmp_path / "out").values()) == {("test", True)}
    (raw / "meta.csv").write_text("image_id;split\nsecret-18;test\n")
    ran = sa_med2d(*command)
    assert ran.code == 1
    assert "splits.file: none of 1 name in it is a patient of the source" in ran.err
    assert "secret" not in ran.err
