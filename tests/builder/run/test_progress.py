"""What a person sees of a build: at 80 columns, without a terminal, and as a document."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from builder.run.progress import BuildProgress
from shards import console
from tests.support.command import Command
from tests.support.sources import write_source
from tests.support.terminal import on_a_terminal

LONG = "A_source_with_a_name_of_forty_characters"


def build(sa_med2d: Command, folder: Path, *more: object) -> tuple[int, str, str]:
    ran = sa_med2d("build", folder / "Small.toml", "--raw", folder, "--out", folder / "out", "--workers", 1, *more)
    return ran.code, ran.out, ran.err


def damage(folder: Path, *cases: str) -> None:
    for case in cases:
        (folder / "Small/images" / f"{case}.nii.gz").write_bytes(b"no image")


def test_results_and_what_went_wrong_go_apart(sa_med2d: Command, tmp_path: Path) -> None:
    write_source(tmp_path, cases=2)
    damage(tmp_path, "case00")
    code, out, err = build(sa_med2d, tmp_path)
    assert code == 3
    assert "│ Small" in out
    assert out.splitlines()[-1].startswith("configs: all")
    assert err.startswith("Small: 1 case in quarantine, build/quarantine/Small.json\n  case00: images/case00.nii.gz: ")
    assert "│" not in err


def test_where_every_case_failed_their_reason_comes_first(sa_med2d: Command, tmp_path: Path) -> None:
    write_source(tmp_path, cases=2, license_id="unknown")
    damage(tmp_path, "case00", "case01")
    code, out, err = build(sa_med2d, tmp_path)
    assert code == 1
    assert err.splitlines()[0] == "Small: 2 cases in quarantine, build/quarantine/Small.json"
    assert out.splitlines()[-1] == "configs: none: every case is in quarantine"


def test_the_document_of_a_build(sa_med2d: Command, tmp_path: Path) -> None:
    write_source(tmp_path, cases=2)
    damage(tmp_path, "case00")
    code, out, _ = build(sa_med2d, tmp_path, "--json")
    assert code == 3
    record = json.loads(out)
    (source,) = record["sources"]
    assert (source["name"], source["license"], source["not_publishable"]) == ("Small", "CC-BY-4.0", None)
    assert (source["cases"], source["samples"]) == (1, 78)  # the boxes cross 17 + 31 + 30 planes
    assert [(one["case"], one["file"]) for one in source["quarantined"]] == [("case00", "images/case00.nii.gz")]
    assert "ct-permissive" in record["configs"]


def test_the_documents_of_a_check_and_of_the_catalogue(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path, cases=2)
    (tmp_path / "Small/labels/case01.nii.gz").unlink()
    record = json.loads(sa_med2d("sources", "check", recipe, "--raw", tmp_path, "--json").out)
    assert (record["cases"], record["images"], record["masks"]) == (1, 1, 1)
    assert record["problems"] == ["images/case01.nii.gz: image without a mask"]
    listed = json.loads(sa_med2d("sources", "list", "--json").out)
    told = {"name", "title", "license", "modality", "access", "tiers", "not_publishable", "builds", "layout", "labels"}
    assert told | {"fetch", "classes", "overlaps"} == set(listed[0])


def test_80_columns_keep_how_many_of_how_many_and_whole_names(tmp_path: Path) -> None:
    recipe = write_source(tmp_path, LONG, cases=3)
    code, shown = on_a_terminal(tmp_path, "build", recipe, "--raw", tmp_path, "--out", "out", "--workers", "1")
    assert code == 0, shown
    assert "3/3 cases 0:00:" in shown
    assert f"source {LONG}" in shown
    _, listed = on_a_terminal(tmp_path, "sources", "list")
    assert "Totalsegmentator_dataset" in listed
    assert "LicenseRef-MNI-ICBM152" in listed


@pytest.mark.parametrize("width", [20, 60, 80, 120])
def test_no_width_cuts_a_name(width: int) -> None:
    table = Table("source", "licence", "shards", "images", "masks", "MB", "quarantined", "dropped slices")
    row = (LONG, "LicenseRef-MNI-ICBM152", "12", "123,456", "1,234,567", "12,345.6", "1,234", "edge 12, no_mask 34,567")
    table.add_row(*row)
    file = io.StringIO()
    console.print_table(Console(file=file, width=width), table)
    assert "…" not in file.getvalue()
    words = set(file.getvalue().replace("┃", " ").replace("│", " ").replace(",", " ").replace(":", " ").split())
    assert {LONG, "LicenseRef-MNI-ICBM152"} <= words


def test_files_that_are_looked_into_are_counted_before_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PERIOD", 0.05)
    file = io.StringIO()
    with BuildProgress(Console(file=file)) as progress:
        progress.indexed(3, 7000)
        time.sleep(0.3)
        progress.compared(2, 9)
        time.sleep(0.3)
    first, *_, last = file.getvalue().splitlines()
    assert first.startswith("building: 3 of 7,000 DICOM files")
    assert last.startswith("building: 2 of 9 cases")


def test_without_a_terminal_a_line_every_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PERIOD", 0.05)
    file = io.StringIO()
    with console.working(Console(file=file), lambda: "building: 3 of 7 [cases]"):
        time.sleep(0.5)
    lines = file.getvalue().splitlines()
    assert 2 <= len(lines) <= 10
    assert set(lines) == {"building: 3 of 7 [cases]"}
