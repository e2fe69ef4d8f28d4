"""Outlines and run lengths in COCO files."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pycocotools.mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from builder.annotations import coco as coco_reader
from builder.annotations.segments import AnnotationRequest, read_named_masks
from builder.errors import CaseError
from builder.readers.rules import ReadRules
from tests.support.command import Command
from tests.support.outlines import BOX, NEIGHBOUR, SIZE, TRIANGLE, build, built_masks, coco, write_picture
from tests.support.output import members


def disc() -> npt.NDArray[np.uint8]:
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    return np.asfortranarray((y - 40) ** 2 + (x - 20) ** 2 < 15**2, np.uint8)


def run_lengths(mask: npt.NDArray[np.uint8]) -> list[int]:
    """Uncompressed RLE by its definition: column by column, beginning with zeros."""
    flat = mask.ravel("F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *lengths] if flat[0] else list(lengths)


COCO_TABLES = """
[files]
image = "images/{case}.png"
mask = "annotations/{*}.json"
[labels]
polyp = "polyp"
"surgical *" = "surgical_instrument"
[masks]
segments = true
"""


def test_polygons_and_run_lengths(sa_med2d: Command, tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        write_picture(tmp_path / "raw/images" / name, number)
    compressed = pycocotools.mask.encode(disc())
    packed = {"size": list(SIZE), "counts": compressed["counts"].decode()}
    written = {
        "train": coco(("a.png", "polyp", [TRIANGLE]), ("a.png", "surgical tool", packed)),
        "val": coco(("c.png", "polyp", {"size": list(SIZE), "counts": run_lengths(disc())}), names=("folder/c.png", "c.png")[1:]),
    }  # fmt: skip
    (tmp_path / "raw/annotations").mkdir()
    for name, record in written.items():
        (tmp_path / f"raw/annotations/{name}.json").write_text(json.dumps(record))
    ran = build(sa_med2d, tmp_path, COCO_TABLES)
    assert ran.code == 0, ran.err
    assert "1 case gave no sample" in ran.err  # b.png is listed and has no annotation
    found = built_masks(tmp_path / "out")
    assert {case: [label for label, _ in masks] for case, masks in found.items()} == {
        "a": ["polyp", "surgical_instrument"],
        "c": ["polyp"],
    }
    judge = COCO(tmp_path / "raw/annotations/train.json")
    for annotation, (_, mask) in zip(judge.loadAnns([0, 1]), found["a"], strict=True):
        assert np.array_equal(mask, judge.annToMask(annotation).astype(bool))
    assert np.array_equal(found["c"][0][1], disc().astype(bool))


def test_touching_objects_stay_apart_where_that_is_asked(sa_med2d: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "raw/images/a.png")
    (tmp_path / "raw/annotations").mkdir()
    record = coco(("a.png", "polyp", [BOX]), ("a.png", "polyp", [NEIGHBOUR]), names=("a.png",))
    (tmp_path / "raw/annotations/all.json").write_text(json.dumps(record))
    assert build(sa_med2d, tmp_path, COCO_TABLES).code == 0
    assert [int(mask.sum()) for _, mask in built_masks(tmp_path / "out")["a"]] == [50 * 25]
    assert build(sa_med2d, tmp_path, COCO_TABLES + "instances = true\n").code == 0
    assert [int(mask.sum()) for _, mask in built_masks(tmp_path / "out")["a"]] == [30 * 25, 20 * 25]


def test_overlapping_objects_are_both_whole(sa_med2d: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "raw/images/a.png")
    (tmp_path / "raw/annotations").mkdir()
    over = [20.0, 10.0, 70.0, 10.0, 70.0, 20.0, 20.0, 20.0]
    record = coco(("a.png", "polyp", [BOX]), ("a.png", "polyp", [over]), names=("a.png",))
    (tmp_path / "raw/annotations/all.json").write_text(json.dumps(record))
    assert build(sa_med2d, tmp_path, COCO_TABLES + "instances = true\n").code == 0
    assert [int(mask.sum()) for _, mask in built_masks(tmp_path / "out")["a"]] == [30 * 25, 50 * 10]


GOOD = ("a.png", "polyp", [TRIANGLE])
BAD: dict[str, tuple[object, str]] = {
    "no JSON": ("{", "no JSON, or damaged"),
    "other JSON": ({"images": []}, "no COCO annotations: expected the lists"),
    "a box": (coco(GOOD, ("a.png", "polyp", [])), "annotation 1 has neither polygon nor RLE"),
    "two points": (coco(("a.png", "polyp", [[1, 2, 3, 4]])), "at least 3 points, got 4 numbers"),
    "words": (coco(("a.png", "polyp", [["x"] * 6])), "a coordinate is no number"),
    "infinite": (coco(("a.png", "polyp", [[1e400, 2, 3, 4, 5, 6]])), "a coordinate is no number"),
    "short runs": (coco(("a.png", "polyp", {"size": list(SIZE), "counts": [5, 5]})), "its RLE does not fill the image"),
    "other size": (coco(("a.png", "polyp", {"size": [1, 2], "counts": [2]})), "its RLE is for [1, 2] pixels"),
    "bad text": (coco(("a.png", "polyp", {"size": list(SIZE), "counts": "zz~"})), "neither run lengths nor"),
    "open text": (coco(("a.png", "polyp", {"size": list(SIZE), "counts": "oo"})), "neither run lengths nor"),
    "short text": (coco(("a.png", "polyp", {"size": list(SIZE), "counts": "12"})), "its RLE does not fill the image"),
    "stray annotation": ({**coco(GOOD), "images": []}, "annotations of image 7, which it does not list"),
    "no category": ({**coco(GOOD), "categories": []}, "an image or annotation lacks or contradicts 3"),
    "unnamed": (coco(("a.png", "ulcer", [TRIANGLE])), "the file holds ulcer, which [labels] does not name"),
    "not listed": (coco(("b.png", "polyp", [TRIANGLE]), names=("b.png",)), "the image is none of those that"),
    "resized": (
        {**coco(GOOD), "images": [{"id": 7, "file_name": "a.png", "height": 10, "width": 10}]},
        "it says that a.png has 10 x 10 pixels, but the image has 96 x 64",
    ),
    "endless picture": (
        {**coco(GOOD), "images": [{"id": 7, "file_name": "a.png", "height": math.inf, "width": 10}]},
        "damaged COCO file: an image or annotation lacks or contradicts",
    ),
    "half a character": (coco(("a.png", "pol\ud800yp", [TRIANGLE])), "a text holds half of a character"),
    "half in UTF-8": (b'{"images": ["\xed\xa0\x80"]}', "no JSON, or damaged"),
    "deep": ('{"a":' * 100_000, "no JSON, or damaged"),
    "endless number": (
        coco(("a.png", "polyp", {"size": list(SIZE), "counts": "o" * 300_000 + "0"})),
        "its RLE does not fill the image",
    ),
    "two of one name": (
        coco(("x/a.png", "polyp", [TRIANGLE]), names=("x/a.png", "y/a.png")),
        "x/a.png and y/a.png, and images/a.png may be either",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_annotations_are_quarantined(sa_med2d: Command, tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "raw/images/a.png")
    (tmp_path / "raw/annotations").mkdir()
    record, said = BAD[name]
    text = record if isinstance(record, str | bytes) else json.dumps(record).replace("Infinity", "1e400")
    (tmp_path / "raw/annotations/all.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    ran = build(sa_med2d, tmp_path, COCO_TABLES)
    assert ran.code == 1
    assert said in ran.err


def test_json_that_would_unfold_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """Two bytes of text, an empty list of 64 with its place: thirty times as much in memory."""
    (tmp_path / "all.json").write_text('{"images": [' + "[]," * 1_000_000 + '[]], "annotations": [], "categories": []}')
    tracemalloc.start()
    try:
        with pytest.raises(CaseError, match=r"limits\.bytes"):
            read_named_masks(tmp_path, "all.json", AnnotationRequest("a.png", rules=ReadRules(bytes=20_000_000)))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_coco_mask_needs_segments(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, COCO_TABLES.replace("segments = true", ""))
    assert ran.code == 1
    assert "segments = true is needed for annotations/{*}.json" in ran.err


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_compressed_run_lengths_are_those_of_pycocotools(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    encoded = pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))
    stored = {"size": [height, width], "counts": encoded["counts"].decode()}
    assert np.array_equal(coco_reader._draw(stored, (height, width), "annotation 1")[0], mask)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ('ignore = ["Surgical_tool"]', ["polyp"]),
        ('ignore = ["surg*"]', ["polyp"]),
        ('ignore = ["polyp"]', ["surgical_instrument"]),
        ("only_named = true", ["polyp", "surgical_instrument"]),
    ],
)
def test_categories_are_left_out_by_name(sa_med2d: Command, tmp_path: Path, rule: str, kept: list[str]) -> None:
    """Nothing names the category "light" but the key that leaves out whatever nothing names."""
    write_picture(tmp_path / "raw/images/a.png", 0)
    (tmp_path / "raw/annotations").mkdir()
    objects = [("a.png", "polyp", [TRIANGLE]), ("a.png", "surgical tool", [BOX])]
    objects += [("a.png", "light", [NEIGHBOUR])] if rule == "only_named = true" else []
    (tmp_path / "raw/annotations/all.json").write_text(json.dumps(coco(*objects)))
    ran = build(sa_med2d, tmp_path, f"{COCO_TABLES}{rule}\n")
    assert ran.code == 0, ran.err
    assert sorted({label for label, _ in built_masks(tmp_path / "out")["a"]}) == kept


def test_a_damaged_file_of_annotations_is_left_out_alone(sa_med2d: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "raw/images/a.png", 0)
    (tmp_path / "raw/annotations").mkdir()
    (tmp_path / "raw/annotations/all.json").write_text(json.dumps(coco(("a.png", "polyp", [TRIANGLE]))))
    (tmp_path / "raw/annotations/bad.json").write_text("{")
    assert build(sa_med2d, tmp_path, COCO_TABLES).code == 1
    ran = build(sa_med2d, tmp_path, COCO_TABLES + '[gates]\nbad_mask = "drop"\n')
    assert ran.code == 0, ran.err
    assert [label for label, _ in built_masks(tmp_path / "out")["a"]] == ["polyp"]
    (record,) = (json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json"))
    assert record["not_annotated"] == ["polyp", "surgical_instrument"]


@pytest.mark.slow
def test_objects_beyond_what_16_bit_can_number(sa_med2d: Command, tmp_path: Path) -> None:
    """65,600 objects of a pixel each, each of them with a number of its own."""
    side = 520
    pixels = (np.arange(side * side).reshape(side, side) % 251).astype(np.uint8)
    (tmp_path / "raw/images").mkdir(parents=True)
    assert cv2.imwrite(str(tmp_path / "raw/images/a.png"), pixels)
    places = [column * side + row for row in range(0, side - 1, 2) for column in range(0, side - 1, 2)][:65600]
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [side, side], "counts": [place, 1, side * side - place - 1]},
        }
        for number, place in enumerate(places, 1)
    ]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": side, "height": side}],
        "categories": [{"id": 1, "name": "polyp"}],
        "annotations": annotations,
    }
    (tmp_path / "raw/annotations").mkdir()
    (tmp_path / "raw/annotations/all.json").write_text(json.dumps(document))
    ran = build(sa_med2d, tmp_path, COCO_TABLES + "instances = true\nmin_area = 0\n")
    assert ran.code == 0, ran.err
    (receipt,) = (json.loads(path.read_text()) for path in (tmp_path / "out/build/receipts").rglob("*.json"))
    assert receipt["masks"] == receipt["mask_pixels"] == 65600
