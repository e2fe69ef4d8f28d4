"""The layout ``sam2`` by the rules of SAM 2's public code (``training/dataset``, ``tools/vos_inference.py``)."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
from PIL import Image

from sa_med2d_20m import load
from tests.support.command import Command, run_quietly
from tests.support.export_volumes import CASES, labels_of

Masks = dict[int, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Video:
    """As ``PNGRawDataset(is_palette=False)`` and ``MultiplePNGSegmentLoader`` read one."""

    images: Path
    annotations: Path

    @property
    def frames(self) -> dict[int, Path]:
        return {int(path.name.split(".")[0]): path for path in sorted(self.images.glob("*.jpg"))}

    def masks(self, frame: int) -> Masks:
        first = next(self.annotations.glob("*/*.png"))  # stops where a video has no object at all
        shape = np.array(Image.open(first)).shape
        found = {}
        for folder in sorted(self.annotations.glob("*")):
            path = folder / f"{frame:05d}.png"
            mask = np.array(Image.open(path)) if path.exists() else np.zeros(shape, bool)
            assert mask.shape == shape
            found[int(folder.name)] = mask > 0
        return found


def videos(exported: Path, split: str) -> dict[str, Video]:
    names = [line.strip().rsplit(".", 1)[0] for line in (exported / f"{split}.txt").read_text().splitlines()]
    places = [exported / split / kind for kind in ("JPEGImages", "Annotations")]
    return {name: Video(*(place / name for place in places)) for name in sorted(names)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sam2")


@pytest.fixture(scope="module")
def exported(folder: Path, volumes: Path) -> Path:
    """Nobody writes to it."""
    ran = run_quietly("export", volumes, "--to", folder / "to", "--layout", "sam2", "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return folder / "to"


@pytest.mark.parametrize("split", ["train", "test"])
def test_videos_are_images_along_an_axis(exported: Path, split: str) -> None:
    kinds = {"Whole": "xyz", "Union": "x", "Gaps": "x"}
    expected = {
        f"ct_00--{source}--{case}--{axis}"
        for source, axes in kinds.items()
        for axis in axes
        for case, place in CASES.items()
        if place == split
    }
    assert videos(exported, split).keys() == expected
    for kind in ("JPEGImages", "Annotations"):
        assert {path.name for path in (exported / split / kind).iterdir()} == expected


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_training_clip_can_be_drawn_from_every_video(exported: Path, split: str) -> None:
    """As ``RandomUniformSampler`` draws them: eight frames, and what the first of them shows."""
    rng = random.Random(0)
    for video in videos(exported, split).values():
        numbers = list(video.frames)
        for _ in range(1000):
            start = rng.randrange(0, len(numbers) - 8 + 1)
            shown = [number for number, mask in video.masks(numbers[start]).items() if mask.any()]
            if shown:
                break
        assert shown
        sizes = {Image.open(path).convert("RGB").size[::-1] for path in video.frames.values()}
        assert sizes == {video.masks(numbers[0])[shown[0]].shape}


def test_objects_are_those_of_the_volume(exported: Path) -> None:
    """Parts of a class that hang together through slices have one number, others another."""
    labels = labels_of("third")
    through = scipy.ndimage.generate_binary_structure(3, 1)
    through[1] = True
    video = videos(exported, "test")["ct_00--Whole--third--x"]
    assert list(video.frames) == list(range(len(labels)))
    found = {number: np.stack([video.masks(frame)[number] for frame in video.frames]) for number in video.masks(0)}
    expected = []
    for value in (1, 2):
        parts, count = scipy.ndimage.label(labels == value, through)
        expected += [parts == part for part in range(1, count + 1)]
    assert len(found) == len(expected) == 5
    for part in expected:
        assert sum(np.array_equal(part, mask) for mask in found.values()) == 1


def test_masks_of_a_class_are_the_stored_ones_also_where_classes_overlap(exported: Path, volumes: Path) -> None:
    with (exported / "objects.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row in load(volumes, "all", split="test", sources=["Union"], view="volume"):
        video = videos(exported, "test")[row["key"]]
        labels = {int(one["object"]): one["label"] for one in table if one["video"] == row["key"]}
        assert {entry["label"] for entry in row["masks"]} == {"liver", "spleen", "abdomen_organs"}
        depth, height, width = row["image"].shape
        for label in set(labels.values()):
            ids = [entry["id"] for entry in row["masks"] if entry["label"] == label]
            stored: Any = np.isin(row["mask"].reshape(depth, -1, height, width), ids).any(axis=1)
            for frame in video.frames:
                shown = [mask for number, mask in video.masks(frame).items() if labels[number] == label]
                np.testing.assert_array_equal(np.any(shown, axis=0), stored[frame])


def test_the_table_says_what_each_object_is(exported: Path) -> None:
    with (exported / "objects.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row in table:
        video = videos(exported, row["split"])[row["video"]]
        masks = {frame: video.masks(frame)[int(row["object"])] for frame in video.frames}
        shown = [frame for frame, mask in masks.items() if mask.any()]
        assert [int(row[name]) for name in ("frames", "first_frame", "last_frame")] == [len(shown), shown[0], shown[-1]]
        assert int(row["pixels"]) == sum(mask.sum() for mask in masks.values())
    assert {row["plane"] for row in table} == {"axial", "coronal", "sagittal"}


def test_frames_are_the_slices(exported: Path, volumes: Path) -> None:
    """JPEG loses a little; what is compared with has a noise that JPEG keeps badly."""
    rows = list(load(volumes, "all", split="test", sources=["Gaps"]))
    frames = videos(exported, "test")["ct_00--Gaps--third--x"].frames
    assert list(frames) == [row["index"] for row in rows] != list(range(len(rows)))
    for row in rows:
        picture = np.array(Image.open(frames[row["index"]]))
        assert np.abs(picture.astype(int) - row["image"]).mean() < 2


def test_what_is_left_out_is_said(volumes: Path, tmp_path: Path, sa_med2d: Command) -> None:
    choice = ("--config", "all", "--label", "spleen", "--label", "optic_disc", "--workers", 1)
    ran = sa_med2d("export", volumes, "--to", tmp_path / "to", "--layout", "sam2", *choice)
    assert ran.code == 0, ran.err
    assert "left out: 3 images, as a video has slices of a volume" in ran.err
    assert "fewer than 8 frames" not in ran.err
    ran = sa_med2d(
        "export", volumes, "--to", tmp_path / "two", "--layout", "sam2", "--source", "Rings", "--config", "all"
    )
    assert ran.code == 1
    assert "two: sam2 can hold none of the chosen images; left out: 3 images, as a video has slices" in ran.err
    assert not list((tmp_path / "two").glob("*.txt"))
