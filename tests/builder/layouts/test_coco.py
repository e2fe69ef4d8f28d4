"""Folders with a COCO file."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command import Command
from tests.support.layouts import initialise, records
from tests.support.outlines import BOX, TRIANGLE, coco, write_picture


def test_coco_folder(sa_med2d: Command, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        write_picture(tmp_path / "raw/frames" / name)
    record = coco(
        ("one.png", "colon polyp", [TRIANGLE]), ("two.png", "tool (metal)", [BOX]), names=("one.png", "two.png")
    )
    (tmp_path / "raw/annotations").mkdir()
    (tmp_path / "raw/annotations/instances.json").write_text(json.dumps(record))
    for origin in (tmp_path / "raw", tmp_path / "raw/annotations/instances.json"):
        text = initialise(sa_med2d, tmp_path, origin, "endoscopy")
        assert 'image = "frames/{case}.png"' in text
        found = records(sa_med2d, tmp_path)
        assert {one["case"]: one["masks"][0]["label"] for one in found} == {"one": "polyp", "two": "tool_metal"}
