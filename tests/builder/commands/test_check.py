"""``sources check`` opens files, and says of a source what a build then does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.support.command import Command
from tests.support.dicom_masks import square, write_rtstruct
from tests.support.dicom_source import HASHED, write_case, write_ct_series
from tests.support.nifti import lps_affine, write_nifti
from tests.support.places import RECIPES
from tests.support.sources import RECIPE, write_source
from tests.support.volumes import ct_like, organ_map

PICTURES = RECIPE.split("[files]")[0].format(name="Small", license="CC-BY-4.0", modality="dermoscopy")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports go to the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)


def good(raw: Path) -> Path:
    return write_source(raw)


def damaged_gz(raw: Path) -> Path:
    recipe = write_source(raw)
    for name in ("images/case00", "labels/case02"):
        path = raw / f"Small/{name}.nii.gz"
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    return recipe


def no_header(raw: Path) -> Path:
    recipe = write_source(raw)
    (raw / "Small/labels/case01.nii.gz").write_bytes(b"no image")
    return recipe


def unnamed_labels(raw: Path) -> Path:
    """All three cases, as when a recipe of another set is used: values 1 to 724."""
    recipe = write_source(raw)
    values = np.zeros((24, 40, 36), np.int16)
    values.reshape(-1)[:724] = range(1, 725)
    for number in range(3):
        write_nifti(raw / f"Small/labels/case{number:02d}.nii.gz", values)
    return recipe


def another_grid(raw: Path) -> Path:
    recipe = write_source(raw)
    write_nifti(raw / "Small/labels/case00.nii.gz", organ_map()[:12])
    write_nifti(raw / "Small/labels/case01.nii.gz", organ_map(), lps_affine((0.8, 0.8, 3.0)))
    return recipe


def jpeg_noise(raw: Path) -> Path:
    folder = raw / "Small"
    mask = np.zeros((64, 64), np.uint8)
    mask[10:45, 13:51] = 255
    for kind, pixels in (("images", np.arange(4096, dtype=np.uint8).reshape(64, 64)), ("masks", mask)):
        (folder / kind).mkdir(parents=True)
        PIL.Image.fromarray(pixels).save(folder / kind / "a.jpg", quality=60)
    recipe = raw / "Small.toml"
    recipe.write_text(
        PICTURES + '[files]\nimage = "images/{case}.jpg"\nmask = "masks/{case}.jpg"\n[labels]\n255 = "skin_lesion"\n'
    )
    return recipe


def wrong_roi(raw: Path) -> Path:
    write_ct_series(raw / "Dicom/p1/ct", ct_like()[:4])
    write_rtstruct(raw / "Dicom/p1/rs.dcm", {"Milz": [square(-8, 8, 32)]})
    recipe = raw / "Dicom.toml"
    recipe.write_text(
        HASHED + '[files]\nimage = "{case}/ct/"\nmask = "{case}/rs.dcm"\n[masks]\nsegments = true\n'
        '[labels]\nSpleen = "spleen"\n'
    )
    return recipe


def one_bad_name(raw: Path) -> Path:
    """Held back before anything is read: its split has no known name."""
    recipe = write_source(raw)
    (raw / "Small/kept").mkdir()
    for kind in ("images", "labels"):
        (raw / "Small/kept" / kind).mkdir()
        for case in ("case01", "case02"):
            (raw / f"Small/{kind}/{case}.nii.gz").rename(raw / f"Small/kept/{kind}/{case}.nii.gz")
        (raw / "Small/train" / kind).mkdir(parents=True)
        (raw / f"Small/{kind}/case00.nii.gz").rename(raw / f"Small/train/{kind}/case00.nii.gz")
    recipe.write_text(
        recipe.read_text().replace('"images/', '"{split}/images/').replace('"labels/', '"{split}/labels/')
    )
    return recipe


FAULTY: list[tuple[Callable[[Path], Path], int]] = [
    (good, 0),
    (damaged_gz, 3),
    (no_header, 3),
    (unnamed_labels, 1),
    (another_grid, 3),
    (jpeg_noise, 1),
    (wrong_roi, 1),
    (one_bad_name, 3),
]


def checked(sa_med2d: Command, recipe: Path, raw: Path) -> tuple[int, dict[str, Any]]:
    ran = sa_med2d("sources", "check", recipe, "--raw", raw, "--json")
    return ran.code, json.loads(ran.out)


@pytest.mark.parametrize(("write", "code"), FAULTY, ids=[write.__name__ for write, _ in FAULTY])
def test_a_check_says_what_a_build_then_does(
    sa_med2d: Command, tmp_path: Path, write: Callable[[Path], Path], code: int
) -> None:
    recipe = write(tmp_path / "raw")
    found, record = checked(sa_med2d, recipe, tmp_path / "raw")
    built = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1, "--json")
    (source,) = json.loads(built.out)["sources"]
    assert (found, built.code) == (code, code)
    if not record["hashed"]:
        assert sorted(record["failing"], key=str) == sorted(source["quarantined"], key=str)
    assert [entry["stage"] for entry in record["failing"]] == [entry["stage"] for entry in source["quarantined"]]
    assert record["opened_samples"] == source["samples"]
    assert ("nothing could be built" in record["verdict"]) == (code == 1)


def test_values_stand_with_counts_and_classes(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=2)
    recipe.write_text(recipe.read_text().replace('2 = "spleen"', '9 = "spleen"'))
    ran = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw")
    values = organ_map()
    ones, twos = 2 * int((values == 1).sum()), 2 * int((values == 2).sum())
    lines = ran.out.splitlines()
    assert f"  1: {ones:,} pixels in 2 files, liver" in lines
    assert f"  2: {twos:,} pixels in 2 files, NOT NAMED in [labels]" in lines
    assert lines.index(f"  2: {twos:,} pixels in 2 files, NOT NAMED in [labels]") < lines.index(
        f"  1: {ones:,} pixels in 2 files, liver"
    )
    assert "  named in [labels] and not seen: 9" in lines
    assert "kinds of files: .nii.gz (4)" in lines
    assert "sizes of images: 36 x 40 x 24 (2)" in lines
    assert lines[-1] == "verdict: nothing could be built: 2 of 2 cases cannot be converted"


def test_what_comes_out_is_expected(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw")
    _, record = checked(sa_med2d, recipe, tmp_path / "raw")
    built = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1, "--json")
    (source,) = json.loads(built.out)["sources"]
    assert record["shards"] == source["shards"]
    # a tar has a kilobyte at its end, and its size is a multiple of ten
    assert abs(record["expected_bytes"] - source["bytes"]) <= 10_240 * source["shards"]


def test_all_problems_are_in_the_file_that_is_named(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = unnamed_labels(tmp_path / "raw")
    ran = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw")
    assert "and 701 more" in ran.out
    assert "all problems and mask values: Small.check.txt" in ran.out
    report = (tmp_path / "Small.check.txt").read_text()
    assert all(f"  {value}: 3 pixels in 3 files, NOT NAMED" in report for value in range(1, 725) if value > 2)
    assert sum(line.startswith("labels/case") for line in report.splitlines()) == 3
    named = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw", "--report", tmp_path / "mine.txt")
    assert str(tmp_path / "mine.txt") in named.out
    assert (tmp_path / "mine.txt").read_text() == report


def test_a_good_source_leaves_no_file(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw")
    assert sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_rules_that_leave_nothing_are_no_success(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=2)
    for number in range(2):
        write_nifti(tmp_path / f"raw/Small/labels/case{number:02d}.nii.gz", organ_map() * 0)
    ran = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "verdict: nothing would come out: of 2 opened cases rules leave no slice: no_mask (200)" in ran.out


def test_quick_opens_no_mask(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = unnamed_labels(tmp_path / "raw")
    ran = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw", "--quick")
    assert ran.code == 0
    assert "problems: none" in ran.out
    assert "verdict" not in ran.out


def test_headers_of_all_cases_are_read_and_some_are_opened(sa_med2d: Command, tmp_path: Path) -> None:
    """Of 120 pictures of one size a hundred are opened at most; a damaged header is seen wherever it is."""
    folder = tmp_path / "raw/Small"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    pixels, mask = np.arange(1024, dtype=np.uint8).reshape(32, 32), np.zeros((32, 32), np.uint8)
    mask[5:20, 5:20] = 1
    for number in range(120):
        PIL.Image.fromarray(pixels).save(folder / f"images/{number:03d}.png")
        PIL.Image.fromarray(mask).save(folder / f"masks/{number:03d}.png")
    for number in range(60, 120, 3):
        PIL.Image.fromarray(mask[:16]).save(folder / f"masks/{number:03d}.png")
        (folder / f"masks/{number + 1:03d}.png").write_bytes(b"no picture")
    recipe = tmp_path / "raw/Small.toml"
    recipe.write_text(
        PICTURES + '[files]\nimage = "images/{case}.png"\nmask = "masks/{case}.png"\n[labels]\n1 = "skin_lesion"\n'
    )
    code, record = checked(sa_med2d, recipe, tmp_path / "raw")
    assert code == 3
    assert record["opened"] == 100
    bad = {f"{number:03d}" for start in range(60, 120, 3) for number in (start, start + 1)}
    assert {entry["case"] for entry in record["failing"]} == bad
    assert "80 of 120 cases can be built (of 20 of them only headers were read), 40 cannot" in record["verdict"]


def test_names_on_ones_own_terminal_are_ones_own(sa_med2d: Command, tmp_path: Path) -> None:
    write_case(tmp_path / "raw/Dicom/Roe_Jane")
    (tmp_path / "raw/Dicom/Roe_Jane/p1/seg.nrrd").write_bytes(b"no image")
    recipe = tmp_path / "Dicom.toml"
    recipe.write_text(
        HASHED + '[files]\nimage = "{patient}/{case}/ct/"\nmask = "{patient}/{case}/seg.nrrd"\n[labels]\n1 = "bone"\n'
    )
    ran = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw")
    assert "Roe_Jane/p1/seg.nrrd: read: " in ran.out
    assert "names: those of your own folder, which may name patients; a build writes hashes" in ran.out


def test_a_file_name_is_no_command_to_the_terminal(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=2)
    (tmp_path / "raw/Small/images/\x1b[31mred.nii.gz").write_bytes(b"x")
    ran = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw")
    assert "\x1b" not in ran.out
    assert "\\x1b[31mred.nii.gz: image without a mask" in ran.out


def test_a_document_names_files_that_are_no_utf8(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=2)
    (tmp_path / "raw/Small/images" / os.fsdecode(b"\xff.nii.gz")).write_bytes(b"x")
    _, record = checked(sa_med2d, recipe, tmp_path / "raw")
    assert any("udcff" in problem or "\udcff" in problem for problem in record["problems"])


def test_blended_colours_are_one_line(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    recipe = RECIPES / "PanNuke.toml"
    ran = sa_med2d("sources", "check", recipe, "--raw", corpus / "pannuke-histology")
    colours = {
        colour
        for path in (corpus / "pannuke-histology/masks").iterdir()
        for _, colour in PIL.Image.open(path).convert("RGB").getcolors(1 << 20) or ()
    }
    named = {(0, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 0), (0, 255, 255), (255, 255, 0)}
    assert f"  {len(colours - named)} further colours: " in ran.out
