"""Small objects: what the area rule leaves out, and where that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from builder.errors import RecipeError
from builder.sources.load import parse_recipe
from sa_med2d_20m import decode_masks
from tests.support.command import Command, Ran
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE

SIDE = 200
TEXT = RECIPE.format(name="Cells", license="CC-BY-4.0", modality="microscopy")
TEXT = TEXT.replace(".nii.gz", ".png")
DEFAULT = 62
"""100 / 65536 of 200 x 200 pixels is 61.04."""


def cells(*areas: int) -> npt.NDArray[np.uint8]:
    """Rows of pixels, one object each."""
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    for number, area in enumerate(areas):
        drawn[2 * number, :area] = 1
    return drawn


def build(sa_med2d: Command, folder: Path, drawn: npt.NDArray[np.uint8], more: str = "", *, code: int = 0) -> Ran:
    for name, pixels in (("images", np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 251), ("labels", drawn)):
        (folder / "raw" / name).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / "raw" / name / "a.png"), pixels.astype(np.uint8))
    (folder / "Cells.toml").write_text(TEXT + more)
    ran = sa_med2d("build", folder / "Cells.toml", "--raw", folder / "raw", "--out", folder / "out")
    assert ran.code == code, ran.err
    return ran


def record_of(out: Path) -> dict[str, Any]:
    (data,) = (data for name, data in members(out) if name.endswith(".json"))
    found: dict[str, Any] = json.loads(data)
    return found


def receipt_of(out: Path) -> dict[str, Any]:
    (path,) = (out / "build/receipts").rglob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize(
    ("rule", "smallest"),
    [("", DEFAULT), ("0", 1), ("1", 1), ("30", 30), ("0.001", 40), ("0.002", 80), ("0.00152587890625", DEFAULT)],
)
def test_the_rule_is_what_the_recipe_says(sa_med2d: Command, tmp_path: Path, rule: str, smallest: int) -> None:
    areas = [1, 29, 30, 39, 40, 61, 62, 79, 80, 190]
    build(sa_med2d, tmp_path, cells(*areas), f"[masks]\nmin_area = {rule}\n" if rule else "")
    record, receipt = record_of(tmp_path / "out"), receipt_of(tmp_path / "out")
    kept, small = [area for area in areas if area >= smallest], [area for area in areas if area < smallest]
    assert [mask["area"] for mask in record["masks"]] == kept
    assert record["dropped"] == {"masks": len(small), "pixels": sum(small), "labels": ["liver"] if small else []}
    assert receipt["dropped"] == ({"small_mask": len(small)} if small else {})
    assert receipt["lost_pixels"] == ({"small_mask": sum(small)} if small else {})
    assert receipt["mask_pixels"] == sum(kept)


@pytest.mark.parametrize("value", ["-1", "1.0", "0.0", "1.5", "true", '"1 %"', "nan", "inf"])
def test_another_value_is_refused_in_one_sentence(value: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_recipe(f"{TEXT}[masks]\nmin_area = {value}\n", "Cells.toml")
    (sentence,) = str(raised.value).splitlines()
    assert sentence.startswith("Cells.toml: masks.min_area: ")
    assert sentence.endswith("above 0 and below 1, a whole number of pixels, or 0 to keep all")


def test_what_is_left_out_stands_in_table_and_card(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, cells(60, 20, 20, 100))
    assert "3 (50.0 %)" in ran.err + ran.out
    assert "Cells: 50.0 % of its mask pixels are left out: 50.0 % by the area rule (masks.min_area)" in " ".join(
        (ran.err + ran.out).split()
    )
    assert "1 image, 1 mask; left out: 3 small masks, 50.0 % of the mask pixels." in (
        tmp_path / "out/SOURCES.md"
    ).read_text(encoding="utf-8")


def test_a_loss_of_a_fifth_is_not_named(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, cells(40, 160))
    assert "1 (20.0 %)" in ran.err + ran.out
    assert "are left out" not in ran.err + ran.out


def test_an_image_whose_objects_are_all_small(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, cells(10, 20), code=1)
    assert not list(members(tmp_path / "out"))
    assert "emptied 1" in ran.err + ran.out
    assert "2 (100.0 %)" in ran.err + ran.out
    (tmp_path / "Cells.toml").write_text("keep_empty = true\n" + TEXT)
    ran = sa_med2d("build", tmp_path / "Cells.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "kept")
    assert ran.code == 0, ran.err
    record = record_of(tmp_path / "kept")
    assert (record["masks"], record["dropped"]) == ([], {"masks": 2, "pixels": 30, "labels": ["liver"]})


def test_images_that_share_masks_count_what_is_left_out_each(sa_med2d: Command, tmp_path: Path) -> None:
    """So that masks that are there and masks that are not are counted alike."""
    for sequence in ("t1", "t2"):
        (tmp_path / "raw/images").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(sequence)).integers(0, 255, (SIDE, SIDE), np.uint8)
        assert cv2.imwrite(str(tmp_path / f"raw/images/a_{sequence}.png"), pixels)
    (tmp_path / "raw/labels").mkdir()
    assert cv2.imwrite(str(tmp_path / "raw/labels/a.png"), cells(100, 20, 30))
    text = TEXT.replace("images/{case}", "images/{case}_{submodality}")
    (tmp_path / "Cells.toml").write_text(text)
    ran = sa_med2d("build", tmp_path / "Cells.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    assert [record["dropped"] for record in found] == [{"masks": 2, "pixels": 50, "labels": ["liver"]}] * 2
    receipt = receipt_of(tmp_path / "out")
    assert (receipt["masks"], receipt["dropped"]) == (2, {"small_mask": 4})
    assert (receipt["mask_pixels"], receipt["lost_pixels"]) == (200, {"small_mask": 100})


def test_700_objects_all_come_back(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.zeros((SIDE, SIDE), np.uint16)
    for number in range(700):
        row, column = divmod(number, 35)
        drawn[9 * row : 9 * row + 4, 5 * column : 5 * column + 4] = number + 1
    for name, pixels in (("images", np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 251), ("labels", drawn)):
        (tmp_path / "raw" / name).mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / "raw" / name / "a.png"), pixels.astype(np.uint16))
    text = TEXT.split("[labels]")[0] + '[labels]\n"*" = "nucleus"\n[masks]\ninstances = true\nmin_area = 0\n'
    (tmp_path / "Cells.toml").write_text(text)
    ran = sa_med2d("build", tmp_path / "Cells.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0
    found = dict(members(tmp_path / "out"))
    label_map = next(data for name, data in found.items() if name.endswith("mask.png"))
    record = record_of(tmp_path / "out")
    stored = cv2.imdecode(np.frombuffer(label_map, np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert (stored.dtype.name, stored.shape) == ("uint8", (3 * SIDE, SIDE))
    decoded = decode_masks({"mask.png": label_map, "json": record})
    assert np.array_equal((decoded * np.arange(1, 701).reshape(-1, 1, 1)).sum(axis=0), drawn)


def test_pixels_that_other_rules_lose_are_counted(sa_med2d: Command, tmp_path: Path) -> None:
    """8 x 40 x 40 voxels: slices along two axes are 8 x 40, and break the edge rule; one slice is constant."""
    volume, drawn = np.arange(8 * 40 * 40, dtype=np.int16).reshape(8, 40, 40), np.zeros((8, 40, 40), np.uint8)
    drawn[2:6, 10:20, 10:20] = 1
    volume[3] = 7
    write_nifti(tmp_path / "raw/images/a.nii.gz", volume)
    write_nifti(tmp_path / "raw/labels/a.nii.gz", drawn)
    (tmp_path / "Small.toml").write_text(RECIPE.format(name="Small", license="CC-BY-4.0", modality="ct"))
    ran = sa_med2d("build", tmp_path / "Small.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    receipt = receipt_of(tmp_path / "out")
    assert receipt["mask_pixels"] == 300
    assert receipt["lost_pixels"] == {"constant_slice": 100, "edge": 800}
    said = " ".join((ran.err + ran.out).split())
    assert "Small: 25.0 % of its mask pixels are left out: 25.0 % by the gate constant_slice" in said
    assert "by the edge rule" not in said


def test_pixels_that_a_gate_drops_are_counted(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, np.ones((SIDE, SIDE), np.uint8), '[gates]\nfull_mask = "drop"\n', code=1)
    said = " ".join((ran.err + ran.out).split())
    assert "Cells: 100.0 % of its mask pixels are left out: 100.0 % by the gate full_mask" in said
