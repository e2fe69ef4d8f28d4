"""The layout ``sam3`` by the rules of SAM 3's public code (``coco_json_loaders.py``, ``filter_query_transforms.py``)."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from sa_med2d_20m import load
from tests.support.command import Command, run_quietly
from tests.support.export_source import build, masks_by_place, write_eyes, write_png, write_recipe

Question = tuple[str, str]
"""Key of the image and phrase."""


def questions(
    path: Path, images: Path, *, negatives: bool = True, chunk: int | None = None
) -> dict[Question, list[Any]]:
    """What ``COCO_FROM_JSON`` asks of each image of a file, with the masks, after ``FilterCrowds``."""
    coco = json.loads(path.read_text())
    names = {one["id"]: one["name"] for one in coco["categories"]}
    of_image = defaultdict(list)
    for one in coco["annotations"]:
        of_image[one["image_id"]].append(one)
    asked = {}
    for image in coco["images"]:
        assert Image.open(images / image["file_name"]).convert("RGB").size == (image["width"], image["height"])
        for number in sorted(names)[:chunk]:
            own = [one for one in of_image[image["id"]] if one["category_id"] == number]
            if not own and not negatives:
                continue
            for one in own:
                x, y, width, height = one["bbox"]
                assert 0 <= x < x + width <= image["width"]
                assert 0 <= y < y + height <= image["height"]
            if not any(one["iscrowd"] for one in own):  # a question about a crowd is dropped as a whole
                asked[image["key"], names[number]] = [rle.decode(one["segmentation"]) > 0 for one in own]
    return asked


def export(out: Path, to: Path, sa_med2d: Command, *further: object) -> str:
    ran = sa_med2d("export", out, "--to", to, "--layout", "sam3", "--config", "all", "--workers", 1, *further)
    assert ran.code == 0, ran.err
    return ran.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sam3")


@pytest.fixture(scope="module")
def exported(folder: Path, volumes: Path) -> Path:
    """Nobody writes to it."""
    export(volumes, folder / "to", run_quietly)
    return folder / "to"


VESSEL = "blood vessel of the retina"
PHRASES = {
    "liver": "liver",
    "spleen": "spleen",
    "abdomen_organs": "abdomen organs",
    "optic_disc": "optic disc",
    "retinal_vessel": VESSEL,
}


@pytest.mark.parametrize(
    ("split", "source"), [("train", "Whole"), ("test", "Union"), ("test", "Gaps"), ("test", "Rings")]
)
def test_every_image_is_asked_for_the_classes_of_its_source(
    exported: Path, volumes: Path, split: str, source: str
) -> None:
    asked = questions(exported / f"annotations/{split}/{source}.json", exported / "images")
    classes = {
        "Union": ["liver", "spleen", "abdomen organs"], "Rings": ["optic disc", VESSEL],
    }.get(source, ["liver", "spleen"])  # fmt: skip
    rows = {row["key"]: row for row in load(volumes, "all", split=split, sources=[source])}
    assert asked.keys() == {(key, phrase) for key in rows for phrase in classes}
    assert any(not masks for masks in asked.values()) == (source != "Rings")
    for key, row in rows.items():
        stored: dict[str, list[Any]] = defaultdict(list)
        for (label, _), mask in masks_by_place(row).items():
            stored[PHRASES[label]].append(mask)
        for phrase in classes:
            np.testing.assert_array_equal(asked[key, phrase], stored[phrase])


def test_phrases_are_those_of_the_vocabulary(tmp_path: Path, sa_med2d: Command) -> None:
    """Where they are more than the name with blanks."""
    for name in ("a0", "b1", "c2"):
        pixels = np.zeros((30, 30), np.uint8)
        pixels[3:20, 5:14] = 1
        write_png(
            tmp_path / f"raw/Chest/images/{name}.png", np.random.default_rng(0).integers(0, 255, (30, 30), np.uint8)
        )
        write_png(tmp_path / f"raw/Chest/masks/{name}.png", pixels)
    write_recipe(tmp_path / "raw", "Chest", "x_ray", "MIT", "", """
[files]
image = "images/{case}.png"
mask = "masks/{case}.png"
[labels]
1 = "Kidney_L"
""")  # fmt: skip
    out = build(tmp_path / "raw", tmp_path / "out", [tmp_path / "raw/Chest.toml"])
    export(out, tmp_path / "to", sa_med2d)
    coco = json.loads((tmp_path / "to/annotations/test/Chest.json").read_text())
    assert [(one["name"], one["label"]) for one in coco["categories"]] == [("left kidney", "kidney_left")]
    assert {one["text_input"] for one in json.loads((tmp_path / "to/pairs/test.json").read_text())["images"]} == {
        "left kidney"
    }


def test_what_an_image_may_show_is_not_asked(tmp_path: Path, sa_med2d: Command) -> None:
    """A speck of a vessel that is too small to keep, a vessel whose mask is damaged, and none."""
    disc, speck, empty = (np.zeros((200, 200), np.uint8) for _ in range(3))
    disc[50:100, 60:120] = 255
    speck[3:5, 3:5] = 255
    masks: dict[str, dict[str, Any]] = {
        "speck": {"disc": disc, "vessel": speck},
        "damaged": {"disc": disc, "vessel": None},
        "none": {"disc": disc, "vessel": empty},
        "vessels": {"disc": empty, "vessel": disc},  # or the class would not be in the export
    }
    recipe = write_eyes(tmp_path / "raw", "fundus_photography", "test", masks)
    out = build(tmp_path / "raw", tmp_path / "out", [recipe])
    assert "2 times an image may show a class without a mask of it" in export(out, tmp_path / "to", sa_med2d)
    asked = questions(tmp_path / "to/annotations/test/Eyes.json", tmp_path / "to/images")
    held = {(key.split("--")[2], phrase): len(masks) for (key, phrase), masks in asked.items()}
    assert held == {
        ("speck", "optic disc"): 1, ("damaged", "optic disc"): 1, ("none", "optic disc"): 1, ("vessels", "optic disc"): 0,
        ("none", VESSEL): 0, ("vessels", VESSEL): 1,
    }  # fmt: skip
    pairs = json.loads((tmp_path / "to/pairs/test.json").read_text())["images"]
    assert {(one["key"].split("--")[2], one["text_input"]) for one in pairs} == held.keys()


def test_where_nothing_says_what_is_annotated_there_are_no_negatives(
    volumes: Path, tmp_path: Path, sa_med2d: Command
) -> None:
    shutil.copytree(volumes, tmp_path / "out", ignore=shutil.ignore_patterns("Union.json"))
    said = export(tmp_path / "out", tmp_path / "to", sa_med2d, "--source", "Union", "--source", "Gaps")
    assert "positives/test/Union.json: nothing says which classes Union annotates" in said
    assert {path.name for path in (tmp_path / "to/annotations").rglob("*.json")} == {"Gaps.json"}
    asked = questions(tmp_path / "to/positives/test/Union.json", tmp_path / "to/images", negatives=False)
    assert all(asked.values())
    shown = sum(
        len({entry["label"] for entry in row["masks"]}) for row in load(volumes, "ct", split="test", sources=["Union"])
    )
    assert len(asked) == shown
    pairs = json.loads((tmp_path / "to/pairs/test.json").read_text())["images"]
    assert sum("Union" in one["key"] for one in pairs) == shown


def test_a_filter_over_masks_makes_no_class_absent(volumes: Path, tmp_path: Path, sa_med2d: Command) -> None:
    """Slices that show the spleen, and a liver whose masks there are smaller than asked for."""
    said = export(volumes, tmp_path / "to", sa_med2d, "--source", "Union", "--min-area", 100)
    assert "times an image may show a class without a mask of it" in said
    asked = questions(tmp_path / "to/annotations/test/Union.json", tmp_path / "to/images")
    rows = {row["key"]: row for row in load(volumes, "all", split="test", sources=["Union"])}
    for key in {key for key, _ in asked}:
        for label, phrase in (("liver", "liver"), ("spleen", "spleen"), ("abdomen_organs", "abdomen organs")):
            areas = [entry["area"] for entry in rows[key]["masks"] if entry["label"] == label]
            if areas and max(areas) < 100:
                assert (key, phrase) not in asked
            else:
                assert len(asked[key, phrase]) == sum(area >= 100 for area in areas)


def test_pairs_are_read_as_sa_co_reads_them(exported: Path, volumes: Path) -> None:
    """Each pair has a number, a phrase, and masks whose boxes and areas are shares of the image."""
    pairs = json.loads((exported / "pairs/test.json").read_text())
    assert pairs["categories"] == [{"id": 1, "name": "object"}]
    of_pair = defaultdict(list)
    for one in pairs["annotations"]:
        of_pair[one["image_id"]].append(one)
    assert len({one["id"] for one in pairs["images"]}) == len(pairs["images"])
    found = {(one["key"], one["text_input"]): of_pair[one["id"]] for one in pairs["images"]}
    expected: dict[Question, list[Any]] = {}
    for source in ("Whole", "Union", "Gaps", "Rings"):
        expected |= questions(exported / f"annotations/test/{source}.json", exported / "images")
    assert found.keys() == expected.keys()
    for place, masks in expected.items():
        assert len(found[place]) == len(masks)
        for one, mask in zip(found[place], masks, strict=True):
            np.testing.assert_array_equal(rle.decode(one["segmentation"]) > 0, mask)
            height, width = mask.shape
            rows, columns = np.nonzero(mask)
            box = [columns.min() / width, rows.min() / height, np.ptp(columns) / width, np.ptp(rows) / height]
            assert one["bbox"] == pytest.approx([*box[:2], box[2] + 1 / width, box[3] + 1 / height])
            assert one["area"] == pytest.approx(mask.mean())
    assert not (exported / "pairs/train.json").exists()
