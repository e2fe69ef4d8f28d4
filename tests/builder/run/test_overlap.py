"""Sources of one folder that hold the same people: the warning, and ``overlap = "keep-first"``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from builder.cases.split import hashed_split
from builder.sources.load import load_recipe
from builder.sources.overlaps import Overlap
from tests.support.command import Command
from tests.support.dicom_source import CASE, HASHED, write_case
from tests.support.example_tree import write_examples
from tests.support.object_store import Store
from tests.support.output import members, tree
from tests.support.sources import write_source

Known = Callable[..., None]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    """Sets the known overlaps: each a kind and the names of its sources."""

    def set_to(*entries: tuple[str, Iterable[str]]) -> None:
        overlaps = tuple(
            Overlap.model_validate(
                {"sources": list(names), "kind": kind, "what": "A test says so.", "evidence": ["https://example.org"]}
            )
            for kind, names in entries
        )
        monkeypatch.setattr("builder.sources.overlaps.known_overlaps", lambda: overlaps)

    return set_to


def source(raw: Path, name: str, cases: int, more: str = "", end: str = "") -> Path:
    """A source of so many of the cases ``case00``, ``case01`` ..."""
    recipe = write_source(raw, name, cases=cases)
    recipe.write_text(recipe.read_text().replace("\n\n[files]", f"\n{more}\n\n[files]", 1) + end)
    return recipe


def pair(raw: Path, second: str = 'overlap = "keep-first"') -> tuple[Path, Path]:
    return source(raw, "Old", 2, 'patients = "people"'), source(raw, "New", 4, f'patients = "people"\n{second}')


def build(sa_med2d: Command, raw: Path, out: Path, *recipes: Path) -> tuple[dict[str, Any], str]:
    ran = sa_med2d("build", *recipes, "--raw", raw, "--out", out, "--workers", 1, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out), ran.err


def cases(out: Path, name: str) -> set[str]:
    records = [json.loads(data) for member, data in members(out) if member.endswith(".json")]
    return {record["case"] for record in records if record["source"] == name}


def test_a_build_warns_and_keeps_both(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("contains", ["Old", "New"]))
    record, err = build(sa_med2d, tmp_path / "raw", tmp_path / "out", *pair(tmp_path / "raw", ""))
    assert (
        "Old and New overlap: an edition holds the other: A test says so. 2 patients stand in both, each in one split"
        in err
    )
    assert record["overlaps"] == [
        {
            "sources": ["Old", "New"],
            "meaning": "an edition holds the other",
            "what": "A test says so.",
            "same_space": True,
            "shared": 2,
            "torn": 0,
            "torn_patients": [],
        }
    ]
    assert len(cases(tmp_path / "out", "New")) == 4


def test_a_build_warns_of_a_source_that_is_there(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("same", ["Old", "New", "Elsewhere"]))
    old, new = source(tmp_path / "raw", "Old", 2), source(tmp_path / "raw", "New", 2)
    assert build(sa_med2d, tmp_path / "raw", tmp_path / "out", old)[0]["overlaps"] == []
    record, err = build(sa_med2d, tmp_path / "raw", tmp_path / "out", new)
    assert "Old and New overlap: are the same pictures: A test says so. Nothing says who is the same patient" in err
    assert (record["overlaps"][0]["same_space"], record["overlaps"][0]["shared"]) == (False, None)


def test_official_splits_that_tear_a_patient_are_counted(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("contains", ["Old", "New"]))
    space, raw = 'patients = "people"', tmp_path / "raw"
    old = source(raw, "Old", 2, space, '[splits]\ntrain = ["case00"]\ntest = ["case01"]\n')
    new = source(raw, "New", 2, space, '[splits]\ntrain = ["case0?"]\n')
    _, err = build(sa_med2d, raw, tmp_path / "out", old, new)
    told = "2 patients stand in both, 1 of them in different splits (case01): do not train on one and test on the other"
    assert told in err


def test_a_strict_build_refuses_official_splits_that_tear_a_patient(
    sa_med2d: Command, tmp_path: Path, known: Known
) -> None:
    known(("contains", ["Old", "New"]))
    space, raw = 'patients = "people"', tmp_path / "raw"
    old = source(raw, "Old", 3, space, '[splits]\ntrain = ["case00"]\ntest = ["case0[12]", "case01", "case02"]\n')
    new = source(raw, "New", 3, space, '[splits]\ntrain = ["case0?"]\n')
    where = ("--raw", raw, "--out", tmp_path / "out")
    refused = sa_med2d("build", old, new, *where, "--strict")
    assert refused.code == 1
    assert (
        'New: 2 patients (case01, case02) stand in another split than in Old; set overlap = "keep-first" in the recipe '
        "of New, or build one of them alone"
    ) in refused.err
    assert not (tmp_path / "out/data").exists()
    assert sa_med2d("build", old, *where, "--strict").code == 0
    assert "stand in another split than in Old" in sa_med2d("build", new, *where, "--strict").err


def test_nothing_is_said_of_sources_that_do_not_overlap(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("same", ["Old", "Other"]))
    record, err = build(sa_med2d, tmp_path / "raw", tmp_path / "out", *pair(tmp_path / "raw"))
    assert record["overlaps"] == []
    assert "overlap:" not in err
    assert len(cases(tmp_path / "out", "New")) == 4


def test_keep_first_leaves_out_the_copies_of_the_second(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("contains", ["Old", "New"]))
    record, err = build(sa_med2d, tmp_path / "raw", tmp_path / "out", *pair(tmp_path / "raw"))
    assert cases(tmp_path / "out", "Old") == {"case00", "case01"}
    assert cases(tmp_path / "out", "New") == {"case02", "case03"}
    assert [one["copies"] for one in record["sources"]] == [[], ["case00", "case01"]]
    assert not record["sources"][1]["quarantined"]
    assert "2 cases left out, as an earlier source holds the patient (overlap = keep-first): case00, case01" in err


def test_the_first_is_the_same_whatever_the_order_and_in_one_go_or_two(
    sa_med2d: Command, tmp_path: Path, known: Known
) -> None:
    known(("contains", ["Old", "New"]))
    raw = tmp_path / "raw"
    old, new = pair(raw)
    for name, builds in (
        ("a", [(old, new)]),
        ("b", [(new, old)]),
        ("c", [(old,), (new,)]),
        ("d", [(new,), (old,), (new,)]),
    ):
        for recipes in builds:  # where each is built alone, both folders lie below raw all the same
            build(sa_med2d, raw, tmp_path / name, *recipes)
    built = [tree(tmp_path / name) for name in "abcd"]
    kept = [{path: data for path, data in one.items() if path.startswith(("data/", "index/"))} for one in built]
    assert kept[0] == kept[1] == kept[2] == kept[3]


def test_keep_first_in_an_object_store(sa_med2d: Command, tmp_path: Path, known: Known, store: Store) -> None:
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    known(("contains", ["Old", "New"]))
    for recipe in pair(tmp_path / "raw"):
        ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", store.url, "--workers", 1, "--json")
        assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    assert record["sources"][0]["copies"] == ["case00", "case01"]
    assert record["overlaps"][0]["shared"] == 0


def test_of_a_chain_the_earliest_counts(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    """Also where only each two neighbours are known to overlap, and the middle has left the patient out."""
    known(("contains", ["Old", "New"]), ("contains", ["New", "Newest"]))
    raw = tmp_path / "raw"
    old, new = pair(raw)
    newest = source(raw, "Newest", 5, 'patients = "people"\noverlap = "keep-first"')
    build(sa_med2d, raw, tmp_path / "one", newest, old, new)
    for recipe in (old, new, newest):
        build(sa_med2d, raw, tmp_path / "three", recipe)
    for out in (tmp_path / "one", tmp_path / "three"):
        assert cases(out, "Newest") == {"case04"}
        assert cases(out, "New") == {"case02", "case03"}


def test_patients_of_another_name_space_are_no_copies(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("same", ["Old", "New"]))
    raw = tmp_path / "raw"
    build(sa_med2d, raw, tmp_path / "out", source(raw, "Old", 2), source(raw, "New", 2, 'overlap = "keep-first"'))
    assert len(cases(tmp_path / "out", "New")) == 2


def test_a_source_of_which_nothing_is_left_is_refused(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("contains", ["New", "Old"]))
    old, new = pair(tmp_path / "raw")
    old.write_text(old.read_text().replace('patients = "people"', 'patients = "people"\noverlap = "keep-first"'))
    ran = sa_med2d("build", old, new, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "Old: New hold all of its patients, and overlap = keep-first leaves nothing to build" in ran.err
    assert not (tmp_path / "out/data").exists()


@pytest.mark.parametrize("apart", [False, True])
def test_hashed_sources_are_compared_by_their_own_names(
    sa_med2d: Command, tmp_path: Path, known: Known, apart: bool
) -> None:
    known(("same", ["Dicom", "Copy"]))
    raw, recipes = tmp_path / "raw", []
    write_case(raw / "Dicom")
    shutil.copytree(raw / "Dicom", raw / "Copy")
    write_case(raw / "Copy/more", lambda _, data: setattr(data, "PatientID", "secret-18"))
    (raw / "Copy/more/p1").rename(raw / "Copy/p2")
    shutil.rmtree(raw / "Copy/more")
    for name in ("Dicom", "Copy"):
        text = HASHED.replace('"Dicom"', f'"{name}"') + f'patients = "people"\noverlap = "keep-first"\n{CASE}'
        recipes.append(tmp_path / f"{name}.toml")
        recipes[-1].write_text(text.replace("[labels]", 'patient = "PatientID"\n[labels]'))
    for together in [[recipes[0]], [recipes[1]]] if apart else [recipes]:
        record, err = build(sa_med2d, raw, tmp_path / "out", *together)
    assert "secret" not in err
    assert len(record["sources"][-1]["copies"]) == 1
    names = json.loads((tmp_path / "out/build/identifiers/Copy.json").read_text())
    assert [names[case] for case in cases(tmp_path / "out", "Copy")] == ["p2"]
    assert b"secret" not in b"".join(
        data for path, data in tree(tmp_path / "out").items() if not path.startswith("build/identifiers")
    )


def test_of_hashes_without_their_table_nothing_is_claimed(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("same", ["Dicom", "Copy"]))
    for name in ("Dicom", "Copy"):
        write_case(tmp_path / "raw" / name)
        text = HASHED.replace('"Dicom"', f'"{name}"') + f'patients = "people"\noverlap = "keep-first"\n{CASE}'
        (tmp_path / f"{name}.toml").write_text(text)
    build(sa_med2d, tmp_path / "raw", tmp_path / "out", tmp_path / "Dicom.toml")
    (tmp_path / "out/build/identifiers/Dicom.json").unlink()
    record, err = build(sa_med2d, tmp_path / "raw", tmp_path / "out", tmp_path / "Copy.toml")
    assert (record["overlaps"][0]["same_space"], record["sources"][0]["copies"]) == (False, [])
    assert "Nothing says who is the same patient" in err


NAMES = 'patients = "people"\noverlap = "keep-first"\n'


@pytest.mark.parametrize(
    "table",
    [
        '[patient_names]\nnames = { case00 = "case01", case02 = "Z" }\n',
        '[patient_names]\nfile = "map.csv"\nown = "2020"\nshared = "2019"\nnames = { case02 = "Z" }\n',
    ],
)
def test_other_names_find_the_split_and_the_copies(sa_med2d: Command, tmp_path: Path, known: Known, table: str) -> None:
    known(("contains", ["Old", "New"]))
    raw = tmp_path / "raw"
    old = source(raw, "Old", 2, 'patients = "people"')
    new = source(raw, "New", 4, NAMES.replace('overlap = "keep-first"\n', ""), table)
    (raw / "New/map.csv").write_text("2019;note;2020\ncase01;x;case00\nNA;;case03\n;;case01\n")
    record, _ = build(sa_med2d, raw, tmp_path / "both", old, new)
    assert (record["overlaps"][0]["shared"], record["overlaps"][0]["torn"]) == (1, 0)
    records = [json.loads(data) for member, data in members(tmp_path / "both") if member.endswith(".json")]
    found = {(one["patient"], one["split"], one["official_split"]) for one in records if one["source"] == "New"}
    own = {"case00": "case01", "case01": "case01", "case02": "Z", "case03": "case03"}
    assert found == {(name, hashed_split("people", other), False) for name, other in own.items()}


@pytest.mark.parametrize(
    ("space", "table", "said"),
    [
        (NAMES, 'file = "gone.csv"\nown = "2020"\nshared = "2019"\n', "New: patient_names.file: gone.csv is not below"),
        (
            NAMES,
            'file = "map.csv"\nown = "2020"\nshared = "2017"\n',
            "map.csv has no column '2017'; its columns are 2019, note, 2020",
        ),
        (
            NAMES,
            'file = "map.csv"\nown = "2020"\nshared = "2019"\n',
            "map.csv: line 3 gives a patient another name than was said before",
        ),
        (NAMES, 'file = "map.csv"\nown = "2020"\n', "patient_names: file, own and shared: all of them or none"),
        (
            NAMES,
            'file = "map.csv"\nown = "2020"\nshared = "2019"\npatient = "Old_{patient}"\n',
            "map.csv: line 2 has a name that is no 'Old_{patient}' in '2019'",
        ),
        (
            NAMES,
            'patient = "Old_{patient}"\n',
            "patient: expected a pattern over names of file that captures {patient}",
        ),
        ("", 'names = { a = "b" }\n', "patient_names: needs patients, the name space that the names are of"),
    ],
)
def test_what_is_wrong_with_names_is_said(sa_med2d: Command, tmp_path: Path, space: str, table: str, said: str) -> None:
    recipe = source(tmp_path / "raw", "New", 1, space, f"[patient_names]\n{table}")
    (tmp_path / "raw/New/map.csv").write_text("2019,note,2020\ncase01,x,case00\ncase02,,case00\n")
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_patient_of_two_editions_of_brats_gets_one_split(sa_med2d: Command, tmp_path: Path, known: Known) -> None:
    known(("contains", ["BraTS2019", "BraTS2020"]))
    raw = tmp_path / "raw"
    for name in ("BraTS2019", "BraTS2020"):
        write_examples(load_recipe(name), raw / name)
    header = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID\n"
    row = "HGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001\n"
    (raw / "BraTS2020/name_mapping.csv").write_text(header + row)
    ran = sa_med2d("build", "BraTS2020", "BraTS2019", "--raw", raw, "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    assert (
        "BraTS2019 and BraTS2020 overlap: an edition holds the other: A test says so. 1 patient stands in both, each in"
        in ran.err
    )
    records = [json.loads(data) for member, data in members(tmp_path / "out") if member.endswith(".json")]
    assert {record["patient"] for record in records} == {"CBICA_AAB_1", "BraTS20_Training_001"}
    assert {record["split"] for record in records} == {hashed_split("brats", "CBICA_AAB_1")}
