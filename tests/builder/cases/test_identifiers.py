"""What names patients in DICOM sources: hashed with a key, in everything that a build writes and says."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from builder.cases.split import hashed_split
from tests.support.command import Command, Ran
from tests.support.dicom_source import CASE, HASHED, HEAD, write_case, write_ct_series
from tests.support.output import members, tree
from tests.support.sources import write_source
from tests.support.terminal import on_a_terminal
from tests.support.volumes import ct_like

PATIENTS = {"Roe_Jane_19701231": "1.2.826.0.1.111", "Doe_John": "1.2.826.0.1.222"}
FILES = '[files]\nimage = "{patient}/{case}/ct/"\nmask = "{patient}/{case}/seg.nrrd"\n[labels]\n1 = "bone"\n'


def write_patients(raw: Path) -> None:
    for patient, study in PATIENTS.items():
        write_case(raw / patient)
        (raw / patient / "p1").rename(raw / patient / study)


def build(sa_med2d: Command, tmp_path: Path, text: str, out: str = "out", **options: object) -> Ran:
    recipe = tmp_path / "Dicom.toml"
    recipe.write_text(text)
    further = [argument for name, value in options.items() for argument in (f"--{name}", value)]
    return sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / out, "--workers", 1, *further)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data in members(out) if name.endswith(".json")]


def test_no_name_of_a_folder_gets_out(sa_med2d: Command, tmp_path: Path) -> None:
    write_patients(tmp_path / "raw")
    write_ct_series(tmp_path / "raw/Broken_Bob/1.2.3.4/ct", ct_like()[:4])  # its mask has another number of slices
    (tmp_path / "raw/Broken_Bob/1.2.3.4/seg.nrrd").write_bytes(
        (tmp_path / "raw/Doe_John/1.2.826.0.1.222/seg.nrrd").read_bytes()
    )
    write_ct_series(tmp_path / "raw/Bare_Ann/1.2.3.5/ct", ct_like()[:4])  # and she has none
    ran = build(sa_med2d, tmp_path, HASHED + FILES)
    assert ran.code == 3
    written = tree(tmp_path / "out")
    table = json.loads(written.pop("build/identifiers/Dicom.json"))
    del written["build/identifier.key"]
    everything = b"".join([*written.values(), *(name.encode() for name in written)]) + ran.err.encode()
    for secret in ("Roe", "Jane", "19701231", "Doe_John", "1.2.", "Broken", "Bare"):
        assert secret.encode() not in everything
    found = records(tmp_path / "out")
    assert {(table[one["patient"]], table[one["case"]]) for one in found} == set(PATIENTS.items())
    quarantined = json.loads(written["build/quarantine/Dicom.json"])
    assert [table[entry["case"]] for entry in quarantined] == ["1.2.3.4"]
    assert table[quarantined[0]["file"].rstrip("/").rsplit("/", 1)[-1]] == "Broken_Bob/1.2.3.4/seg.nrrd"
    for name in ("identifier.key", "identifiers/Dicom.json"):
        assert stat.S_IMODE((tmp_path / "out/build" / name).stat().st_mode) == 0o600


def test_a_terminal_shows_own_names_and_says_so(sa_med2d: Command, tmp_path: Path) -> None:
    write_patients(tmp_path / "raw")
    (tmp_path / "raw/Doe_John/1.2.826.0.1.222/seg.nrrd").write_bytes(b"no NRRD")
    write_ct_series(tmp_path / "raw/Bare_Ann/1.2.3.5/ct", ct_like()[:4])
    (tmp_path / "Dicom.toml").write_text(HASHED + FILES)
    command = ("build", "Dicom.toml", "--raw", "raw", "--out", "out", "--workers", "1")
    code, shown = on_a_terminal(tmp_path, *command)
    assert code == 3
    text = " ".join(shown.split())
    assert "1.2.826.0.1.222: Doe_John/1.2.826.0.1.222/seg.nrrd: read: " in text
    assert "Bare_Ann/1.2.3.5/ct/" in text
    assert "what is written has hashes in their place" in text
    logged = build(sa_med2d, tmp_path, HASHED + FILES)
    assert "Doe_John" not in logged.err
    assert "Bare_Ann" not in logged.err


def test_the_split_does_not_depend_on_the_key(sa_med2d: Command, tmp_path: Path) -> None:
    write_patients(tmp_path / "raw")
    assert build(sa_med2d, tmp_path, HASHED + FILES).code == 0
    table = json.loads((tmp_path / "out/build/identifiers/Dicom.json").read_text())
    for one in records(tmp_path / "out"):
        assert one["split"] == hashed_split("Dicom", table[one["patient"]])


def test_one_key_gives_one_output(sa_med2d: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_patients(tmp_path / "raw")
    monkeypatch.setenv("SA_MED2D_IDENTIFIER_KEY", "a key that two folders share")
    assert build(sa_med2d, tmp_path, HASHED + FILES, "one").code == 0
    assert build(sa_med2d, tmp_path, HASHED + FILES, "two").code == 0
    monkeypatch.delenv("SA_MED2D_IDENTIFIER_KEY")
    assert build(sa_med2d, tmp_path, HASHED + FILES, "three").code == 0
    one, two, three = (tree(tmp_path / name, "data", "index") for name in ("one", "two", "three"))
    assert one == two
    assert one != three
    again = build(sa_med2d, tmp_path, HASHED + FILES, "three")
    assert again.code == 0
    assert "finished already" in again.err  # its own key was kept
    monkeypatch.setenv("SA_MED2D_IDENTIFIER_KEY", "short")
    ran = build(sa_med2d, tmp_path, HASHED + FILES, "four")
    assert ran.code == 1
    assert "expected at least 16 characters" in ran.err


def test_public_identifiers_stand_as_they_are(sa_med2d: Command, tmp_path: Path) -> None:
    write_patients(tmp_path / "raw")
    assert build(sa_med2d, tmp_path, HEAD + FILES).code == 0
    assert {(one["patient"], one["case"]) for one in records(tmp_path / "out")} == set(PATIENTS.items())
    assert not (tmp_path / "out/build/identifier.key").exists()
    ran = build(sa_med2d, tmp_path, HASHED.replace("[", "[", 1) + 'identifiers = "public"\n' + FILES)
    assert ran.code == 1
    assert "needs identifiers_evidence" in ran.err


def test_sources_without_dicom_are_left_alone(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw")
    assert sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out").code == 0
    assert {one["case"] for one in records(tmp_path / "out")} == {"case00", "case01", "case02"}
    assert not (tmp_path / "out/build/identifier.key").exists()


def name_patient(patient: str | None) -> Any:
    def change(_: int, data: Dataset) -> None:
        if patient is None:
            del data.PatientID
        else:
            data.PatientID = patient

    return change


def test_patient_of_the_files_keeps_cases_together(sa_med2d: Command, tmp_path: Path) -> None:
    for number in range(6):
        write_case(tmp_path / "raw", name_patient("secret-17" if number < 4 else None if number == 4 else "other"))
        (tmp_path / "raw/p1").rename(tmp_path / f"raw/case{number}")
    text = CASE.replace("[files]", '[files]\npatient = "PatientID"')
    ran = build(sa_med2d, tmp_path, HASHED + text)
    assert ran.code == 3
    assert "it names no patient, but files.patient is PatientID" in ran.err
    found = records(tmp_path / "out")
    assert len({one["case"] for one in found}) == 5
    assert len({one["patient"] for one in found}) == 2
    assert b"secret-17" not in b"".join(tree(tmp_path / "out", "data", "index").values())
    assert build(sa_med2d, tmp_path, HEAD + text).code == 3
    splits = {(one["patient"], one["split"]) for one in records(tmp_path / "out")}
    assert splits == {(patient, hashed_split("Dicom", patient)) for patient in ("secret-17", "other")}


def test_strict_names_no_one(sa_med2d: Command, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "raw/Broken_Bob/1.2.3.4/ct", ct_like()[:4])
    (tmp_path / "raw/Broken_Bob/1.2.3.4/seg.nrrd").write_bytes(b"no NRRD")
    recipe = tmp_path / "Dicom.toml"
    recipe.write_text(HASHED + FILES)
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--strict")
    assert ran.code == 1
    assert "stopped here because of --strict" in ran.err
    assert "Bob" not in ran.err


def test_a_file_that_is_dicom_by_its_ending_alone_is_no_name_to_show(sa_med2d: Command, tmp_path: Path) -> None:
    """Without the mark of PS3.10 it cannot be read, but its name may be a patient's all the same."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/Broken_Bob.dcm").write_bytes(b"no mark")
    (tmp_path / "raw/Broken_Bob.nrrd").write_bytes(b"no NRRD")
    ran = build(
        sa_med2d, tmp_path, HASHED + '[files]\nimage = "{case}.dcm"\nmask = "{case}.nrrd"\n[labels]\n1 = "liver"\n'
    )
    assert ran.code == 1
    assert "it lacks the header that begins with DICM" in ran.err
    assert "Bob" not in ran.err
    written = tree(tmp_path / "out")
    assert "Broken_Bob" in json.loads(written.pop("build/identifiers/Dicom.json")).values()
    assert b"Bob" not in b"".join(written.values())


def test_a_format_without_patients_names_none(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw")
    recipe.write_text(recipe.read_text().replace("[files]", '[files]\npatient = "PatientID"'))
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "it names no patient, but files.patient is PatientID" in ran.err
