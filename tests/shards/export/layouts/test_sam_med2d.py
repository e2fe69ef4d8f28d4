"""The layout ``sam-med2d`` by the rules of SAM-Med2D's public code (``DataLoader.py``, ``utils.py``, ``test.py``)."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sa_med2d_20m import load
from tests.support.command import Command
from tests.support.export_source import build, masks_by_place, read_png, write_png, write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sam_med2d")


@pytest.fixture
def exported(built: Path, folder: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Below the folder in which the command ran, as the demo data of SAM-Med2D lie below its code; made once."""
    monkeypatch.chdir(folder)
    ran = sa_med2d("export", built, "--to", "data_demo", "--layout", "sam-med2d", "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return Path("data_demo")


def test_training_finds_images_and_masks(exported: Path, built: Path) -> None:
    """As ``TrainingDataset`` opens them: paths as they stand, masks of 0 and 255, each with some of both."""
    index = json.loads((exported / "image2label_train.json").read_text())
    rows = list(load(built, "all", split="train"))
    assert list(index) == sorted(index)  # shards are in the order of their paths, and so are keys within a source here
    found = set()
    for path, labels in index.items():
        image = read_png(path, cv2.IMREAD_COLOR)
        assert image.ndim == 3
        assert labels
        for label in labels:
            mask = read_png(label, cv2.IMREAD_GRAYSCALE)
            assert mask.shape == image.shape[:2]
            assert set(np.unique(mask)) <= {0, 255}
            assert mask.max() == 255
            found.add(label)
    assert len(found) == sum(len(row["masks"]) for row in rows)


@pytest.mark.parametrize(("split", "prompts"), [("test", "256_prompt"), ("validation", "256_prompt_validation")])
def test_a_test_takes_its_prompts(exported: Path, built: Path, split: str, prompts: str) -> None:
    """As ``TestingDataset`` does: it makes the picture of 256 x 256 itself, and boxes and points must lie on the mask."""
    index = json.loads((exported / f"label2image_{split}.json").read_text())
    given = json.loads((exported / f"{prompts}.json").read_text())
    assert given.keys() == {path.split("/")[-1] for path in index}
    assert len(index) == sum(len(row["masks"]) for row in load(built, "all", split=split))
    for path, image in index.items():
        mask = read_png(path, cv2.IMREAD_GRAYSCALE) // 255
        height, width = mask.shape
        assert read_png(image, cv2.IMREAD_COLOR).shape[:2] == (height, width)
        seen = cv2.copyMakeBorder(
            mask, (256 - height) // 2, -((height - 256) // 2), (256 - width) // 2, -((width - 256) // 2), 0
        )
        assert seen.shape == (256, 256)
        prompt = given[path.split("/")[-1]]
        rows, columns = np.nonzero(seen)
        assert prompt["boxes"] == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        ((x, y),) = prompt["point_coords"]
        assert seen[y, x] == 1
        assert prompt["point_labels"] == [1]


def test_masks_are_those_of_the_loader(exported: Path, built: Path) -> None:
    (row,) = (row for row in load(built, "all", split="test", sources=["Rings"]))
    for (label, instance), mask in masks_by_place(row).items():
        path = exported / f"masks/fundus_photography--Rings--c_2--2d_none_{label}_{instance:03d}.png"
        np.testing.assert_array_equal(read_png(path, cv2.IMREAD_GRAYSCALE), mask * np.uint8(255))


def test_masks_of_which_nothing_is_left_are_left_out(tmp_path: Path, sa_med2d: Command) -> None:
    """A pixel of a picture of 1024 x 1024 that no pixel of 256 x 256 is taken from."""
    mask = np.zeros((1024, 1024), np.uint8)
    mask[401, 401] = mask[600:700, 600:700] = 1
    write_png(tmp_path / "raw/Big/images/a2.png", np.random.default_rng(0).integers(0, 255, mask.shape, np.uint8))
    write_png(tmp_path / "raw/Big/masks/a2.png", mask)
    write_recipe(tmp_path / "raw", "Big", "microscopy", "MIT", "", """
[files]
image = "images/{case}.png"
mask = "masks/{case}.png"
[labels]
1 = "cell"
[masks]
min_area = 0
""")  # fmt: skip
    out = build(tmp_path / "raw", tmp_path / "out", [tmp_path / "raw/Big.toml"])
    ran = sa_med2d("export", out, "--to", tmp_path / "to", "--layout", "sam-med2d", "--workers", 1)
    assert ran.code == 0, ran.err
    assert "masks left out, as nothing is left of them at 256 x 256, where SAM-Med2D would stop: 1" in ran.err
    ((path, image),) = json.loads((tmp_path / "to/label2image_test.json").read_text()).items()
    assert image == str(tmp_path / "to/images/microscopy_00--Big--a2--2d_none.png")
    seen = cv2.resize(read_png(path, cv2.IMREAD_GRAYSCALE), (256, 256), interpolation=cv2.INTER_NEAREST)
    assert seen.max() == 255
