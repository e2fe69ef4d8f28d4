"""What users of the release repaired by hand, each with a file that needs it, with the repair and without."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.release.repairs import REPAIRS
from tests.support.command import Command, Ran
from tests.support.release import box, given_back, png, texture, with_json, write_tree

Files = dict[str, bytes]
Samples = dict[str, dict[str, bytes]]
SamplesOf = Callable[[Path], Samples]

MAPPING = {
    "Brain_PTM": {"brain": "0000"},
    "ichallenge_adam_task2": {"optic_disc": "0000"},
    "ACDC": {"right_ventricle": "0000", "whole": "0003"},
    "QUBIQ2020": {"brain_growth": "0000", "kidney": "0001"},
    "BraTS2021": {"brain_edema": "0000", "brain_necrotic_core": "0001"},
    "MSD_Liver": {"liver": "0001", "liver_tumor": "0002", "union_liver_liver_tumor": "0003", "union_x_y": "0004"},
}


def picture(name: str, seed: int = 1, **masks: Any) -> Files:
    """An image and its masks, by class and instance (``m0003_000``)."""
    return {
        f"images/{name}.png": png(texture(seed), rgb=True),
        **{f"masks/{name}--{end.removeprefix('m')}.png": png(mask) for end, mask in masks.items()},
    }


def run(sa_med2d: Command, tmp_path: Path, files: Files, *options: Any) -> Ran:
    release = write_tree(tmp_path / "raw", with_json(files, MAPPING))
    return sa_med2d("import", release, "--out", tmp_path / "out", "--workers", 1, "--json", *options)


def counted(ran: Ran, what: str) -> dict[str, int]:
    """What all sources count under ``dropped`` or ``flagged``."""
    found: dict[str, int] = {}
    for source in json.loads(ran.out)["sources"]:
        for name, count in source[what].items():
            found[name] = found.get(name, 0) + count
    return found


GOOD = "ct_00--MSD_Liver--liver_0--x_0001"


def test_mask_of_another_size(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    files = picture(GOOD, m0001_000=box(1, 1, 9, 9), m0002_000=box(1, 1, 9, 9, of=(50, 40)))
    ran = run(sa_med2d, tmp_path, files)
    assert (ran.code, counted(ran, "dropped")) == (0, {"mask-size": 1})
    said = json.loads(ran.out)
    assert (said["files"], said["bytes"]) == (3, sum(map(len, files.values())))
    assert sorted(given_back(samples_of(tmp_path / "out").values())) == [
        f"images/{GOOD}.png",
        f"masks/{GOOD}--0001_000.png",
    ]


def test_mask_of_another_size_unrepaired_is_reported(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    files = picture(GOOD, m0001_000=box(1, 1, 9, 9), m0002_000=box(1, 1, 9, 9, of=(50, 40)))
    ran = run(sa_med2d, tmp_path, files, "--no-repair-mask-size")
    [bad] = json.loads(ran.out)["sources"][0]["bad_masks"]
    assert (ran.code, bad["file"]) == (3, f"masks/{GOOD}--0002_000.png")
    assert bad["reason"] == "it has 40 x 50 pixels, its image 50 x 40; the repair mask-size leaves such out"
    [sample] = samples_of(tmp_path / "out").values()
    assert json.loads(sample["json"])["not_annotated"] == ["liver_tumor"]


@pytest.mark.parametrize("image", [box(5, 5, 20, 20), np.full((40, 50), 7, np.uint8)], ids=["two", "one"])
@pytest.mark.parametrize("repaired", [True, False])
def test_image_of_one_or_two_grey_values(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, image: Any, repaired: bool
) -> None:
    name = "mr_t1--Brain_PTM--case_1--x_0001"
    files = picture(name, m0000_000=box(1, 1, 9, 9)) | picture(name.replace("0001", "0002"), m0000_000=box(1, 1, 9, 9))
    files[f"images/{name}.png"] = png(image, rgb=True)
    ran = run(sa_med2d, tmp_path, files, *([] if repaired else ["--no-repair-grey-values"]))
    assert (ran.code, counted(ran, "dropped")) == (0, {"grey-values": 1} if repaired else {})
    assert len(samples_of(tmp_path / "out")) == (1 if repaired else 2)


def test_import_of_which_nothing_is_left_fails(sa_med2d: Command, tmp_path: Path) -> None:
    name = "mr_t1--Brain_PTM--case_1--x_0001"
    files = picture(name, m0000_000=box(1, 1, 9, 9)) | {f"images/{name}.png": png(box(5, 5, 20, 20), rgb=True)}
    ran = run(sa_med2d, tmp_path, files)
    assert (ran.code, "error: no sample was made" in ran.err) == (1, True)


@pytest.mark.parametrize("repaired", [True, False])
def test_inverted_masks(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, repaired: bool) -> None:
    name, disc = "fundus_photography--ichallenge_adam_task2--A0001--2d_none", box(9, 9, 8, 8)
    ran = run(sa_med2d, tmp_path, picture(name, m0000_000=~disc), *([] if repaired else ["--no-repair-inverted"]))
    assert (ran.code, counted(ran, "flagged")) == (0, {"inverted": 1} if repaired else {})
    given = given_back(samples_of(tmp_path / "out").values())
    assert np.array_equal(given[f"masks/{name}--0000_000.png"], disc if repaired else ~disc)
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0


@pytest.mark.parametrize("repaired", [True, False])
def test_class_of_acdc_that_is_the_whole(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, repaired: bool
) -> None:
    name = "mr_00--ACDC--patient001_frame01--x_0006"
    files = picture(name, m0000_000=box(1, 1, 9, 9), m0003_000=box(1, 1, 20, 20))
    ran = run(sa_med2d, tmp_path, files, *([] if repaired else ["--no-repair-acdc-0003"]))
    assert (ran.code, counted(ran, "dropped")) == (0, {"acdc-0003": 1} if repaired else {})
    assert (f"masks/{name}--0003_000.png" in given_back(samples_of(tmp_path / "out").values())) is not repaired


@pytest.mark.parametrize("repaired", [True, False])
def test_wrong_modality(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, repaired: bool) -> None:
    brain, kidney = "ct_00--QUBIQ2020--brain-growth_case01--2d_none", "ct_00--QUBIQ2020--kidney_case01--2d_none"
    files = picture(brain, 1, m0000_000=box(1, 1, 9, 9)) | picture(kidney, 2, m0001_000=box(1, 1, 9, 9))
    ran = run(sa_med2d, tmp_path, files, *([] if repaired else ["--no-repair-modality"]))
    assert (ran.code, counted(ran, "flagged")) == (0, {"modality": 1} if repaired else {})
    samples = {key: json.loads(sample["json"]) for key, sample in samples_of(tmp_path / "out").items()}
    assert set(samples) == {brain.replace("ct_", "mr_") if repaired else brain, kidney}
    assert {about["image_file"] for about in samples.values()} == {f"images/{brain}.png", f"images/{kidney}.png"}
    assert (tmp_path / "out/data/mr").is_dir() is repaired
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0


@pytest.mark.parametrize("repaired", [True, False])
def test_synonyms(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, repaired: bool) -> None:
    names = [f"mr_{tag}--BraTS2021--BraTS2021_00001--z_0141" for tag in ("t1w", "t1gd", "t2")]
    files: Files = {}
    for seed, name in enumerate(names):
        files |= picture(name, seed, m0000_000=box(1, 1, 9, 9))
    ran = run(sa_med2d, tmp_path, files, *([] if repaired else ["--no-repair-synonyms"]))
    assert (ran.code, counted(ran, "flagged")) == (0, {"synonyms": 2} if repaired else {})
    found = {json.loads(sample["json"])["submodality"] for sample in samples_of(tmp_path / "out").values()}
    assert found == ({"t1", "t1ce", "t2"} if repaired else {"t1w", "t1gd", "t2"})


def test_synonyms_that_a_source_tells_apart_stay(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    files: Files = {}
    for seed, tag in enumerate(("t1", "mprage")):
        files |= picture(f"mr_{tag}--BraTS2021--BraTS2021_00001--z_0141", seed, m0000_000=box(1, 1, 9, 9))
    ran = run(sa_med2d, tmp_path, files)
    assert (ran.code, counted(ran, "flagged")) == (0, {})
    found = {json.loads(sample["json"])["submodality"] for sample in samples_of(tmp_path / "out").values()}
    assert found == {"t1", "mprage"}


@pytest.mark.parametrize("value", [1, 128])
def test_mask_of_other_values(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, value: int) -> None:
    files = picture(GOOD, m0001_000=box(1, 1, 9, 9, value=value), m0002_000=box(20, 20, 9, 9))
    ran = run(sa_med2d, tmp_path, files)
    assert (ran.code, counted(ran, "flagged")) == (0, {"mask-values": 1})
    given = given_back(samples_of(tmp_path / "out").values())
    assert np.array_equal(given[f"masks/{GOOD}--0001_000.png"], box(1, 1, 9, 9))


def test_mask_of_other_values_unrepaired_is_reported(sa_med2d: Command, tmp_path: Path) -> None:
    files = picture(GOOD, m0001_000=box(1, 1, 9, 9, value=1), m0002_000=box(20, 20, 9, 9))
    ran = run(sa_med2d, tmp_path, files, "--no-repair-mask-values")
    [bad] = json.loads(ran.out)["sources"][0]["bad_masks"]
    assert (ran.code, bad["file"]) == (3, f"masks/{GOOD}--0001_000.png")
    assert "it is no mask of 0 and 255: its largest value is 1" in bad["reason"]


@pytest.mark.parametrize("repaired", [True, False])
def test_parts_of_a_union(sa_med2d: Command, tmp_path: Path, repaired: bool) -> None:
    files = picture(GOOD, m0001_000=box(1, 1, 9, 9), m0003_000=box(20, 20, 9, 9))
    ran = run(sa_med2d, tmp_path, files, *([] if repaired else ["--no-repair-unions"]))
    assert (ran.code, counted(ran, "flagged")) == (0, {"unions": 1} if repaired else {})
    classes = json.loads((tmp_path / "out/build/sources/MSD_Liver.json").read_text())["classes"]
    told = {known["original"]: (known["label"], known["parts"], known["group"]) for known in classes}
    parts = ["liver", "liver_tumor"] if repaired else []
    assert told["union_liver_liver_tumor"] == ("union_liver_liver_tumor", parts, "other")
    assert told["union_x_y"] == ("union_x_y", [], "other")
    if repaired:
        assert json.loads(ran.out)["notes"]["MSD_Liver"] == ["unions of which the parts cannot be told: union_x_y"]


@pytest.mark.parametrize("repaired", [True, False])
def test_picture_under_two_names(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, repaired: bool) -> None:
    files: Files = {}
    for case, mask in (("liver_0", box(1, 1, 9, 9)), ("liver_1", box(1, 1, 9, 9)), ("liver_2", box(2, 2, 9, 9))):
        files |= picture(f"ct_00--MSD_Liver--{case}--x_0001", 5, m0001_000=mask)
    ran = run(sa_med2d, tmp_path, files, *([] if repaired else ["--no-repair-twins"]))
    assert (ran.code, json.loads(ran.out)["twins"]) == (0, {"MSD_Liver": 1 if repaired else 0})
    # liver_2 has another mask, which would be lost
    kept = {json.loads(sample["json"])["case"] for sample in samples_of(tmp_path / "out").values()}
    assert kept == {"liver_0", "liver_2"} | (set() if repaired else {"liver_1"})


def test_alike_slices_of_a_volume_are_no_twins(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    files: Files = {}
    for index in (1, 2):
        files |= picture(f"ct_00--MSD_Liver--liver_0--x_000{index}", 5, m0001_000=box(1, 1, 9, 9))
    ran = run(sa_med2d, tmp_path, files)
    assert (ran.code, json.loads(ran.out)["twins"], len(samples_of(tmp_path / "out"))) == (0, {"MSD_Liver": 0}, 2)


def test_the_page_on_imports_has_a_row_for_each_repair() -> None:
    page = (Path(__file__).parents[3] / "docs/import.md").read_text()
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE) == list(REPAIRS)


def test_each_repair_has_a_switch_and_a_line_in_the_help(sa_med2d: Command) -> None:
    said = sa_med2d("import", "--help").out
    assert [name for name in REPAIRS if f"--no-repair-{name} " not in said.replace("\n", " ")] == []
