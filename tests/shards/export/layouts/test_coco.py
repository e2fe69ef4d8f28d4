"""The layout ``coco`` as pycocotools reads it."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from sa_med2d_20m import LABELS, load
from tests.support.command import run_quietly
from tests.support.export_source import masks_by_place, read_png


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coco")


@pytest.fixture(scope="module")
def exported(folder: Path, built: Path) -> Path:
    """Nobody writes to it."""
    ran = run_quietly("export", built, "--to", folder / "to", "--layout", "coco", "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return folder / "to"


def read(exported: Path, split: str) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(exported / f"annotations/instances_{split}.json"))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_pycocotools_reads_the_same_masks(exported: Path, built: Path, split: str) -> None:
    coco = read(exported, split)
    rows = {row["key"]: row for row in load(built, "all", split=split)}
    images = {image["key"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert images.keys() == rows.keys()
    for key, image in images.items():
        expected = masks_by_place(rows[key])
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        found = {(coco.cats[one["category_id"]]["name"], one["instance"]): one for one in annotations}
        assert found.keys() == expected.keys()
        for place, mask in expected.items():
            np.testing.assert_array_equal(coco.annToMask(found[place]), mask)
            assert found[place]["area"] == mask.sum()
            rows_of, columns = np.nonzero(mask)
            box = [columns.min(), rows_of.min(), np.ptp(columns) + 1, np.ptp(rows_of) + 1]
            assert found[place]["bbox"] == box
            assert not found[place]["iscrowd"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_pictures_are_there_and_as_large_as_said(exported: Path, built: Path, split: str) -> None:
    rows = {row["key"]: row["image"] for row in load(built, "all", split=split)}
    images = json.loads((exported / f"annotations/instances_{split}.json").read_text())["images"]
    for image in images:
        picture = read_png(exported / "images" / split / image["file_name"])
        assert picture is not None
        assert picture.shape[:2] == (image["height"], image["width"])
        assert picture.dtype == np.uint8
        stored = rows[image["key"]]
        if stored.dtype == np.uint8:
            np.testing.assert_array_equal(picture, stored)
        else:  # 16 bit: the whole range is used, in the order of the values
            assert (picture.min(), picture.max()) == (0, 255)
            order = np.argsort(stored, axis=None)
            assert (np.diff(picture.ravel()[order].astype(int)) >= 0).all()


def test_ids_are_unique_over_all_splits(exported: Path) -> None:
    files = [json.loads(path.read_text()) for path in sorted((exported / "annotations").iterdir())]
    for kind, count in (("images", 196), ("annotations", 192)):
        ids = [one["id"] for file in files for one in file[kind]]
        assert len(set(ids)) == len(ids) == count


def test_categories_and_licences(exported: Path) -> None:
    file = json.loads((exported / "annotations/instances_train.json").read_text())
    above = {one["name"]: one["supercategory"] for one in file["categories"]}
    assert above == {
        "brain_tumor": "brain", "cell": "other", "kidney_left": "kidney", "liver": "liver", "optic_disc": "eye",
        "retinal_vessel": "eye", "spleen": "spleen",
    }  # fmt: skip
    assert all(LABELS[one["id"] - 1] == one["name"] for one in file["categories"])
    licences = {one["id"]: one for one in file["licenses"]}
    assert {(image["source"], licences[image["license"]]["name"]) for image in file["images"]} == {
        ("Small", "CC-BY-SA-4.0"), ("Deep", "CC-BY-NC-4.0"), ("Rings", "CC0-1.0"), ("Cells", "MIT"),
    }  # fmt: skip
    assert {one["url"] for one in licences.values()} >= {"https://spdx.org/licenses/CC-BY-SA-4.0.html"}
