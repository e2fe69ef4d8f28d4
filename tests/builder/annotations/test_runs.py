"""Run lengths in CSV files, as Kaggle's competitions have them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from builder.annotations.segments import AnnotationRequest, RunTable, read_named_masks
from builder.errors import CaseError
from builder.readers.image import Picture, Volume
from builder.readers.rules import ReadRules
from tests.support.command import Command
from tests.support.outlines import SIZE, build, built_masks, write_picture

TABLES = """
[files]
image = "images/{case}.png"
mask = "train.csv"
[labels]
"*" = "pneumothorax"
[masks]
segments = true
runs = { image = "ImageId", pixels = "EncodedPixels" }
"""
PLAIN = RunTable("image", "pixels", None, "columns", 1, relative=False)


def drawn(tmp_path: Path, runs: str, table: RunTable, shape: tuple[int, int] = (3, 4)) -> list[list[int]]:
    (tmp_path / "a.csv").write_text(f"image,pixels\na,{runs}\n")
    found = read_named_masks(tmp_path, "a.csv", AnnotationRequest("x/a.png", runs=table)).on(
        Picture(np.zeros(shape, np.uint8))
    )
    assert found is not None
    drawn: list[list[int]] = found[0].mask[0].astype(int).tolist()
    return drawn


def test_every_way_of_counting_by_hand(tmp_path: Path) -> None:
    """Three rows of four: pixel 2 is the second of the first column, or of the first row."""
    rows = RunTable("image", "pixels", None, "rows", 1, relative=False)
    zero = RunTable("image", "pixels", None, "columns", 0, relative=False)
    gaps = RunTable("image", "pixels", None, "columns", 0, relative=True)
    assert drawn(tmp_path, "2 3 9 1", PLAIN) == [[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0]]
    assert drawn(tmp_path, "2 3 9 1", rows) == [[0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert drawn(tmp_path, "1 3 8 1", zero) == drawn(tmp_path, "2 3 9 1", PLAIN)
    assert drawn(tmp_path, "1 3 4 1", gaps) == drawn(tmp_path, "2 3 9 1", PLAIN)


def test_rows_of_a_table_are_objects(sa_med2d: Command, tmp_path: Path) -> None:
    """A box with a hole, and the first 800 pixels down the columns: twelve whole columns and half of one."""
    box, edge = np.zeros(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
    box[10:40, 20:60] = True
    box[15:20, 30:40] = False
    edge[:, :12] = True
    edge[:32, 12] = True
    turns = np.flatnonzero(np.diff(box.ravel(order="F"), prepend=False, append=False))
    text = " ".join(f"{start + 1} {end - start}" for start, end in zip(turns[::2], turns[1::2], strict=True))
    for case in ("a", "b", "c"):
        write_picture(tmp_path / f"raw/images/{case}.png")
    with (tmp_path / "raw/train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ImageId", " EncodedPixels"), ("a", text), ("a", "1 800"), ("b.png", " -1")])
    ran = build(sa_med2d, tmp_path, TABLES)
    assert ran.code in (0, 3), ran.err
    found = built_masks(tmp_path / "out")
    assert list(found) == ["a"]
    assert np.array_equal(np.logical_or.reduce([one for _, one in found["a"]]), box | edge)


def test_a_table_may_call_a_picture_by_part_of_its_case(sa_med2d: Command, tmp_path: Path) -> None:
    for day in ("p1_day0", "p1_day2"):
        write_picture(tmp_path / f"raw/images/{day}/slice_1_96_64.png")
    (tmp_path / "raw/train.csv").write_text(
        "id,rle\np1_day0_slice_1,1 600\np1_day2_slice_1,97 960\nslice_1_96_64,1 9\n"
    )
    text = TABLES.replace("images/{case}.png", "images/{patient}/{case}.png")
    text = text.replace("[labels]", 'case = "{patient}_{case}"\npatient = "{patient}_day{*}"\n[labels]')
    text = text.replace(
        'image = "ImageId", pixels = "EncodedPixels"', 'image = "id", name = "{case}_{*}_{*}", pixels = "rle"'
    )
    ran = build(sa_med2d, tmp_path, text.replace('"rle"', '"rle", order = "rows"'))
    assert ran.code == 0, ran.err
    found = {case: drawn for case, ((_, drawn),) in built_masks(tmp_path / "out").items()}
    rows = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    assert set(found) == {"p1_day0_slice_1_96_64", "p1_day2_slice_1_96_64"}
    assert np.array_equal(found["p1_day0_slice_1_96_64"], rows < 600)
    assert np.array_equal(found["p1_day2_slice_1_96_64"], (rows >= 96) & (rows < 96 + 960))


def draw_all(folder: Path) -> None:
    named = read_named_masks(folder, "a.csv", AnnotationRequest("a.png", runs=PLAIN))
    for one in named.on(Picture(np.zeros(SIZE, np.uint8))) or []:
        one.draw()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image,other\na,1 2\n", "it has no column 'pixels', which masks.runs names; it has image, other"),
        ("image,pixels\na\n", "damaged: line 2 has too few columns"),
        ("image,pixels\na,1 2 3\n", "line 2: expected pairs of whole numbers"),
        ("image,pixels\na,1 -2\n", "line 2: expected pairs of whole numbers"),
        ("image,pixels\na,one 2\n", "line 2: expected pairs of whole numbers"),
        ("image,pixels\na,0 2\n", "line 2: a run of pixels leaves the image, which has 96 x 64"),
        ("image,pixels\na,6144 2\n", "line 2: a run of pixels leaves the image"),
        ('image,pixels\na,"1 2', "damaged, or no CSV"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(CaseError, match=reason):
        draw_all(tmp_path)


def test_long_rows_limits_and_volumes(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("image,pixels\na," + "1 2 " * 50_000 + "\n")
    request = AnnotationRequest("a.png", runs=PLAIN)
    found = read_named_masks(tmp_path, "a.csv", request).on(Picture(np.zeros(SIZE, np.uint8)))
    assert found is not None
    assert found[0].mask.sum() == 2
    assert csv.field_size_limit() == before
    assert (
        read_named_masks(tmp_path, "a.csv", AnnotationRequest("b.png", runs=PLAIN)).on(Picture(np.zeros(SIZE))) is None
    )
    with pytest.raises(CaseError, match="the image is a volume"):
        read_named_masks(tmp_path, "a.csv", request).on(Volume(np.zeros((2, *SIZE)), None))
    with pytest.raises(CaseError, match=r"limits\.bytes"):
        read_named_masks(tmp_path, "a.csv", AnnotationRequest("a.png", rules=ReadRules(bytes=1000), runs=PLAIN))


def test_columns_must_be_named(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, TABLES.split("runs =", maxsplit=1)[0])
    assert "image and pixels are needed for a .csv" in ran.err
