"""One mask file of several that cannot be used: it costs its case, or only itself where the recipe says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command import Command, Ran
from tests.support.nifti import lps_affine, write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map

HEAD = RECIPE.format(name="Parts", license="CC-BY-4.0", modality="ct").split("[files]")[0]
PER_FILE = HEAD + '[files]\nimage = "{case}/ct.nii.gz"\nmask = "{case}/parts/{label}.nii.gz"\n'
MAPS = (
    HEAD + '[files]\nimage = "{case}/ct.nii.gz"\nmask = ["{case}/parts/liver.nii.gz", "{case}/parts/spleen.nii.gz"]\n'
)
MAPS += '[labels]\n1 = "liver"\n2 = "spleen"\n'
DROP = '[gates]\nbad_mask = "drop"\n'


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def elsewhere(path: Path) -> None:
    write_nifti(path, (organ_map() == 2) * np.uint8(2), lps_affine((2, 2, 2)))


def fractions(path: Path) -> None:
    write_nifti(path, np.where(organ_map() == 2, 2.5, 0).astype(np.float32))


def unnamed(path: Path) -> None:
    write_nifti(path, np.where(organ_map() == 2, 7, 0).astype(np.uint8))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for case in ("a", "b"):
        write_nifti(tmp_path / f"raw/{case}/ct.nii.gz", ct_like())
        for value, name in ((1, "liver"), (2, "spleen")):
            write_nifti(tmp_path / f"raw/{case}/parts/{name}.nii.gz", (organ_map() == value) * np.uint8(value))
    return tmp_path / "raw"


def build(sa_med2d: Command, raw: Path, text: str, *more: Any) -> Ran:
    (raw.parent / "Parts.toml").write_text(text)
    return sa_med2d("build", raw.parent / "Parts.toml", "--raw", raw, "--out", raw.parent / "out", *more)


def records(out: Path, case: str) -> list[dict[str, Any]]:
    found = [json.loads(data) for name, data in members(out) if name.endswith(".json")]
    return [record for record in found if record["case"] == case]


@pytest.mark.parametrize("fault", [damaged, elsewhere])
def test_the_file_of_a_class_is_left_out_alone(sa_med2d: Command, raw: Path, fault: Any) -> None:
    fault(raw / "a/parts/spleen.nii.gz")
    ran = build(sa_med2d, raw, PER_FILE)
    assert ran.code == 3
    assert "1 case in quarantine" in ran.err
    assert not records(raw.parent / "out", "a")
    ran = build(sa_med2d, raw, PER_FILE + DROP)
    assert ran.code == 0, ran.err
    assert "Parts: 1 mask file left out by the gate bad_mask" in ran.err
    assert "a: a/parts/spleen.nii.gz: " in ran.err
    of_a, of_b = (records(raw.parent / "out", case) for case in "ab")
    assert of_a
    assert {tuple(record["not_annotated"]) for record in of_a} == {("spleen",)}
    assert {mask["label"] for record in of_a for mask in record["masks"]} == {"liver"}
    assert {tuple(record["not_annotated"]) for record in of_b} == {()}
    assert {mask["label"] for record in of_b for mask in record["masks"]} == {"liver", "spleen"}
    receipts = [json.loads(path.read_text()) for path in (raw.parent / "out/build/receipts").rglob("*.json")]
    assert sum(receipt["dropped"].get("bad_mask", 0) for receipt in receipts) == 1
    (bad,) = [bad for receipt in receipts for piece in receipt["pieces"] for bad in piece["bad_masks"]]
    assert (bad["case"], bad["file"]) == ("a", "a/parts/spleen.nii.gz")
    assert "1 mask file could not be used" in (raw.parent / "out/SOURCES.md").read_text()
    assert sa_med2d("verify", raw.parent / "out", "--deep").code == 0


@pytest.mark.parametrize("fault", [damaged, elsewhere, fractions, unnamed])
def test_a_label_map_that_is_left_out_may_have_shown_every_class(sa_med2d: Command, raw: Path, fault: Any) -> None:
    fault(raw / "a/parts/spleen.nii.gz")
    assert build(sa_med2d, raw, MAPS).code == 3
    ran = build(sa_med2d, raw, MAPS + DROP)
    assert ran.code == 0, ran.err
    of_a = records(raw.parent / "out", "a")
    assert {tuple(record["not_annotated"]) for record in of_a} == {("liver", "spleen")}
    assert {mask["label"] for record in of_a for mask in record["masks"]} == {"liver"}


def test_a_case_none_of_whose_masks_can_be_used_is_held_back(sa_med2d: Command, raw: Path) -> None:
    for name in ("liver", "spleen"):
        damaged(raw / f"a/parts/{name}.nii.gz")
    ran = build(sa_med2d, raw, PER_FILE + DROP)
    assert ran.code == 3
    assert "a: a/parts/liver.nii.gz: read: " in ran.err
    assert not records(raw.parent / "out", "a")


def test_the_document_lists_what_was_left_out(sa_med2d: Command, raw: Path) -> None:
    damaged(raw / "a/parts/spleen.nii.gz")
    ran = build(sa_med2d, raw, PER_FILE + DROP, "--json")
    (source,) = json.loads(ran.out)["sources"]
    assert source["dropped"]["bad_mask"] == 1
    assert [(bad["case"], bad["file"], bad["stage"]) for bad in source["bad_masks"]] == [
        ("a", "a/parts/spleen.nii.gz", "read")
    ]


def test_a_build_that_is_run_again_keeps_what_it_says(sa_med2d: Command, raw: Path) -> None:
    damaged(raw / "a/parts/spleen.nii.gz")
    build(sa_med2d, raw, PER_FILE + DROP)
    ran = build(sa_med2d, raw, PER_FILE + DROP)
    assert ran.code == 0
    assert "finished already" in ran.err
    assert "1 mask file left out by the gate bad_mask" in ran.err
