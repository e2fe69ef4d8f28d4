"""The layout ``yolo`` by the rules of Ultralytics' public code (``ultralytics/data/utils.py``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from sa_med2d_20m import load
from shards.export.layouts.outline import outline
from tests.support.command import Command
from tests.support.export_source import build, masks_by_place, rings, write_png, write_recipe


def labels_of(image: Path) -> Path:
    """Where Ultralytics looks for the labels of an image: the last folder ``images`` is ``labels`` instead."""
    return Path("/labels/".join(str(image).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")


def objects(label: Path) -> list[tuple[int, npt.NDArray[np.float32]]]:
    """Class and polygon of each line, after the checks that Ultralytics makes before it takes a file."""
    lines = [line.split() for line in label.read_text().strip().splitlines()]
    assert all(len(line) > 6 and len(line) % 2 for line in lines)  # segments, not boxes
    polygons = [np.array(line[1:], np.float32).reshape(-1, 2) for line in lines]
    assert all(((polygon >= 0) & (polygon <= 1)).all() for polygon in polygons)
    return [(int(line[0]), polygon) for line, polygon in zip(lines, polygons, strict=True)]


def drawn(polygon: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """As ``polygon2mask`` does: cut off to whole pixels, and filled."""
    mask = np.zeros(shape, np.uint8)
    points = np.asarray([(polygon * (shape[1], shape[0])).reshape(-1)], dtype=np.int32).reshape(1, -1, 2)
    cv2.fillPoly(mask, points, color=1)  # type: ignore[call-overload]
    return mask.astype(bool)


def test_ultralytics_draws_the_same_masks(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    ran = sa_med2d("export", built, "--to", tmp_path / "to", "--layout", "yolo", "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    data = yaml.safe_load((tmp_path / "to/data.yaml").read_text())
    assert list(data["names"]) == list(range(len(data["names"])))
    count = 0
    for split, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        folder = tmp_path / "to" / data[key]
        rows = {row["key"]: row for row in load(built, "all", split=split)}
        assert {path.stem for path in folder.iterdir()} == rows.keys()
        for name, row in rows.items():
            found = objects(labels_of(folder / f"{name}.png"))
            expected = [(label, mask) for (label, _), mask in masks_by_place(row).items()]
            assert [data["names"][number] for number, _ in found] == [label for label, _ in expected]
            for (_, polygon), (_, mask) in zip(found, expected, strict=True):
                np.testing.assert_array_equal(drawn(polygon, mask.shape), mask)
                count += 1
    assert count == 192
    assert re.search(r"mean IoU 1\.000000; 0 of 192 masks differ", ran.err)


def polygon_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(canvas, [outline(mask)], 1)
    return canvas.astype(bool)


@pytest.mark.parametrize("seed", range(20))
def test_a_part_with_any_holes_is_drawn_again(seed: int) -> None:
    """The largest part of noise: holes in all forms, at the edges too."""
    rng = np.random.default_rng(seed)
    noise = (cv2.GaussianBlur(rng.random((50, 70)), (0, 0), 0.5 + seed / 10) > 0.48).astype(np.uint8)
    _, numbered, boxes, _ = cv2.connectedComponentsWithStats(noise, connectivity=8)
    mask = numbered == 1 + boxes[1:, cv2.CC_STAT_AREA].argmax()
    np.testing.assert_array_equal(polygon_of(mask), mask)


@pytest.mark.parametrize("pixels", [[(3, 4)], [(3, 4), (3, 5)], [(2, 2), (3, 3), (4, 4)]])
def test_points_and_lines_have_three_points(pixels: list[tuple[int, int]]) -> None:
    mask = np.zeros((9, 9), np.bool_)
    mask[tuple(np.transpose(pixels))] = True
    assert len(outline(mask)) >= 3
    np.testing.assert_array_equal(polygon_of(mask), mask)


def test_parts_are_joined_by_thin_lines() -> None:
    disc = rings(0)["disc"] > 0
    assert cv2.connectedComponents(disc.view(np.uint8), connectivity=8)[0] > 2  # background, disc, island
    drawn_again = polygon_of(disc)
    assert (drawn_again | ~disc).all()
    assert np.count_nonzero(drawn_again & ~disc) < 0.01 * np.count_nonzero(disc)


def test_what_ultralytics_leaves_out_is_said(tmp_path: Path, sa_med2d: Command) -> None:
    """An image of 9 rows; two objects of a class that cross, so that their boxes are one."""
    for name, height in (("low0", 9), ("two0", 40)):
        write_png(
            tmp_path / f"raw/Odd/images/{name}.png", np.random.default_rng(0).integers(0, 255, (height, 40), np.uint8)
        )
    low, two = np.zeros((9, 40), np.uint8), np.zeros((40, 40), np.uint8)
    low[2:6, 2:6] = 1
    two[np.arange(10, 20), np.arange(10, 20)] = 1
    two[np.arange(10, 20), np.arange(19, 9, -1)] = 2
    write_png(tmp_path / "raw/Odd/masks/low0.png", low)
    write_png(tmp_path / "raw/Odd/masks/two0.png", two)
    write_recipe(tmp_path / "raw", "Odd", "microscopy", "MIT", "", """
[files]
image = "images/{case}.png"
mask = "masks/{case}.png"
[labels]
"*" = "cell"
[masks]
instances = true
min_area = 0
""")  # fmt: skip
    out = build(tmp_path / "raw", tmp_path / "out", [tmp_path / "raw/Odd.toml"])
    (row,) = (row for row in load(out, "microscopy") if row["case"] == "two0")
    boxes = [tuple(mask["bbox"]) for mask in row["masks"]]
    ran = sa_med2d("export", out, "--to", tmp_path / "to", "--layout", "yolo", "--workers", 1)
    assert ran.code == 0, ran.err
    twice = len(boxes) - len(set(boxes))
    assert twice == 1
    assert "masks with the class and the box of another in their image, which Ultralytics drops: 1" in ran.err
    assert "images with a side under 10 pixels, which Ultralytics leaves out: 1" in ran.err
    assert "there are no images for val: data.yaml names images/train in their place" in ran.err
