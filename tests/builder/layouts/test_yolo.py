"""Folders with the data.yaml of YOLO."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.layouts import initialise, records
from tests.support.outlines import TRIANGLE, write_picture, yolo_line


@pytest.mark.parametrize(("images", "labels"), [("images/{}", "labels/{}"), ("{}/images", "{}/labels")])
def test_yolo_folder(sa_med2d: Command, tmp_path: Path, images: str, labels: str) -> None:
    for split, case in (("train", "a"), ("val", "b")):
        write_picture(tmp_path / "raw" / images.format(split) / f"{case}.png")
        path = tmp_path / "raw" / labels.format(split) / f"{case}.txt"
        path.parent.mkdir(parents=True)
        path.write_text(yolo_line(1, TRIANGLE))
    (tmp_path / "raw/data.yaml").write_text("train: images/train\nnames: [instrument, polyp]\n")
    text = initialise(sa_med2d, tmp_path, tmp_path / "raw/data.yaml", "endoscopy")
    assert f'mask = "{labels.format("{split}")}/{{case}}.txt"' in text
    found = records(sa_med2d, tmp_path)
    assert {(one["case"], one["split"], one["masks"][0]["label"]) for one in found} == {
        ("a", "train", "polyp"),
        ("b", "validation", "polyp"),
    }
