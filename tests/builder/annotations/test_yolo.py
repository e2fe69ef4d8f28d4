"""Polygons in YOLO files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from tests.support.command import Command
from tests.support.outlines import BOX, NEIGHBOUR, SIZE, TRIANGLE, build, built_masks, write_picture, yolo_line

YOLO_TABLES = """
[files]
image = "images/{split}/{case}.png"
mask = "labels/{split}/{case}.txt"
[labels]
0 = "polyp"
11 = "surgical_instrument"
[masks]
segments = true
"""


def test_yolo_polygons(sa_med2d: Command, tmp_path: Path) -> None:
    for split, case, lines in (
        ("train", "a", [yolo_line(11, TRIANGLE), "", yolo_line(0, BOX)]),
        ("val", "b", [yolo_line(0, NEIGHBOUR)]),
        ("val", "c", []),
    ):
        write_picture(tmp_path / f"raw/images/{split}/{case}.png")
        path = tmp_path / f"raw/labels/{split}/{case}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    ran = build(sa_med2d, tmp_path, YOLO_TABLES)
    assert ran.code == 0, ran.err
    assert "1 case gave no sample" in ran.err
    found = built_masks(tmp_path / "out")
    assert [(label, int(mask.sum())) for label, mask in found["b"]] == [("polyp", 20 * 25)]
    by_pillow = PIL.Image.new("1", SIZE[::-1])
    corners = list(zip(TRIANGLE[::2], TRIANGLE[1::2], strict=True))
    PIL.ImageDraw.Draw(by_pillow).polygon(corners, fill=1)
    drawn = dict(found["a"])["surgical_instrument"]
    expected = np.asarray(by_pillow)
    assert 2 * (drawn & expected).sum() / (drawn.sum() + expected.sum()) > 0.95  # Pillow fills the outline too


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 1 has four numbers, a box"),
        ("0 0.1 0.1 0.2 0.2 0.3", "at least 3 points, got 5 numbers"),
        ("0 10 10 20 10 20 20", "coordinates beyond 0 and 1"),
        ("0 a b c d e f", "a coordinate is no number"),
        ("0 nan 0 0 0 0 0", "a coordinate is no number"),
        ("0 1e999 0 0 0 0 0", "a coordinate is no number, or absurd"),
        ("0 0 -inf 0 0 0 0", "a coordinate is no number, or absurd"),
        (f"{'9' * 6000} 0.1 0.1 0.2 0.1 0.3 0.3", "line 1: expected a class number"),
        ("polyp 0.1 0.1 0.2 0.2 0.3 0.3", "line 1: expected a class number"),
        ("4 0.1 0.1 0.2 0.1 0.3 0.3", "the file holds 4, which [labels] does not name"),
    ],
)
def test_bad_yolo_lines_are_quarantined(sa_med2d: Command, tmp_path: Path, line: str, said: str) -> None:
    write_picture(tmp_path / "raw/images/train/a.png")
    (tmp_path / "raw/labels/train").mkdir(parents=True)
    (tmp_path / "raw/labels/train/a.txt").write_text(line)
    ran = build(sa_med2d, tmp_path, YOLO_TABLES)
    assert ran.code == 1
    assert said in ran.err
