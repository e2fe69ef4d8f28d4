"""What rows show: class maps, prompts, other decodings; mixing modalities and showing rare classes more often."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from builder.command_line import main
from builder.sources.vocabulary import vocabulary
from sa_med2d_20m import LABELS, DatasetError, Prompts, Semantic, decode_masks, decode_png, interleave, load
from tests.support.nifti import write_nifti
from tests.support.sources import write_source
from tests.support.volumes import organ_map


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT with a rare class and masks in two layers, MR with few images, a class outside the vocabulary."""
    folder = tmp_path_factory.mktemp("views")
    raw = folder / "raw"
    recipes = [write_source(raw, "Scans", cases=4), write_source(raw, "Magnet", cases=1, modality="mr")]
    rare = organ_map()
    rare[10:14, 30:36, 4:10] = 7
    write_nifti(raw / "Scans/labels/case02.nii.gz", rare)
    regions = '7 = "stomach"\n[regions]\nabdomen_organs = [1, 2]\n'
    recipes[0].write_text(recipes[0].read_text() + regions)
    for recipe in recipes:
        recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["*"]\n')
    arguments = ["build", *recipes, "--raw", raw, "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


def test_labels_are_those_of_the_vocabulary() -> None:
    assert len(set(LABELS)) == len(LABELS)
    assert set(LABELS) == {term.label for term in vocabulary().terms}


def by_hand(row: dict[str, Any], masks: npt.NDArray[np.bool_], order: list[int], numbers: dict[str, int]) -> Any:
    """A class map painted mask by mask."""
    painted = np.zeros(masks.shape[1:], int)
    for at in order:
        painted[masks[at]] = numbers.get(row["masks"][at]["label"], painted[masks[at]])
    return painted


def test_class_map_where_the_smaller_mask_wins(out: Path) -> None:
    classes = ["liver", "spleen", "stomach", "abdomen_organs"]
    numbers = {name: number for number, name in enumerate(classes, 1)}
    rows = {row["key"]: row for row in load(out, "ct")}
    overlapping = 0
    for wins, sign in (("small", -1), ("large", 1)):
        for row in load(out, "ct", view=Semantic(classes, wins)):
            image = rows[row["key"]]
            masks = decode_masks(image)
            areas = [entry["area"] for entry in image["masks"]]
            order = sorted(range(len(masks)), key=lambda at: sign * areas[at])
            assert row["mask"].dtype == np.uint8
            assert np.array_equal(row["mask"], by_hand(image, masks, order, numbers))
            assert np.array_equal(row["image"], image["image"])
            overlapping += int((masks.sum(axis=0) > 1).any())
    assert overlapping


def test_class_map_where_the_named_class_wins(out: Path) -> None:
    classes = ["liver", "abdomen_organs"]
    shown: dict[str, set[int]] = {}
    for wins in (["abdomen_organs", "liver"], ["liver", "abdomen_organs"], ["liver"]):
        maps = [row["mask"] for row in load(out, "ct", view=Semantic(classes, wins))]
        shown[wins[0] + str(len(wins))] = {int(value) for value in np.unique(np.concatenate([m.ravel() for m in maps]))}
    # the region covers the liver whole
    assert shown == {"abdomen_organs2": {0, 2}, "liver2": {0, 1, 2}, "liver1": {0, 1, 2}}


def test_class_map_by_the_vocabulary(out: Path) -> None:
    rows = list(load(out, "mr", view="semantic"))
    assert rows[0]["mask"].dtype == np.uint16
    assert {int(value) for row in rows for value in np.unique(row["mask"])} == {
        0,
        LABELS.index("liver") + 1,
        LABELS.index("spleen") + 1,
    }
    with pytest.raises(DatasetError, match=r"'abdomen_organs' is no class of the vocabulary.*name the classes"):
        list(load(out, "ct", view="semantic"))


@pytest.mark.parametrize("streaming", [True, False])
def test_other_decodings(out: Path, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    for view in ("image", "mask", "semantic"):
        arrays = list(load(out, "mr", view=view))
        pictures = list(load(out, "mr", view=view, decode="pil", streaming=streaming))
        files = list(load(out, "mr", view=view, decode="bytes", streaming=streaming))
        for array, picture, file in zip(arrays, pictures, files, strict=True):
            assert isinstance(picture["image"], PIL.Image.Image)
            assert np.array_equal(np.asarray(picture["image"]), array["image"])
            assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(file["image"]))), array["image"])
            scale = 255 if view == "mask" else 1
            assert np.array_equal(np.asarray(picture["mask"]), array["mask"] * scale)
            decoded = decode_png(file["mask"])
            assert np.array_equal(decoded.astype(bool) if view == "mask" else decoded, array["mask"])


def test_prompts_of_every_mask(out: Path) -> None:
    asked = Prompts(jitter=0.1, positive=3, negative=2, seed=5)
    by_mask = list(load(out, "ct", view="mask", prompts=asked))
    moved = 0
    for row in by_mask:
        x, y, width, height = row["bbox"]
        box = np.array(row["box"]) - [x, y, x + width, y + height]
        assert (np.abs(box) <= np.array([width, height] * 2) * 0.1 + 1e-9).all()
        moved += bool(np.abs(box).max() > 0)
        assert row["point_labels"] == [1, 1, 1, 0, 0]
        for (column, line), label in zip(row["points"], row["point_labels"], strict=True):
            assert row["mask"][int(line), int(column)] == label
            assert column % 1 == line % 1 == 0.5
    assert moved > len(by_mask) / 2
    flat = [
        (one["key"], *prompt)
        for one in load(out, "ct", prompts=asked)
        for prompt in zip(one["boxes"], one["points"], one["point_labels"], strict=True)
    ]
    assert flat == [(row["key"], row["box"], row["points"], row["point_labels"]) for row in by_mask]
    again = [row["points"] for row in load(out, "ct", view="mask", prompts=asked)]
    other = [row["points"] for row in load(out, "ct", view="mask", prompts=Prompts(0.1, 3, 2, seed=6))]
    assert again == [row["points"] for row in by_mask] != other
    plain = next(iter(load(out, "ct", view="mask", prompts=Prompts())))
    x, y, width, height = plain["bbox"]
    assert plain["box"] == [x, y, x + width, y + height]


def test_no_room_for_a_negative_point() -> None:
    layers = np.ones((1, 8, 8), np.uint8)
    mask = {"id": 1, "layer": 0, "bbox": [0, 0, 8, 8]}
    _, points, labels = Prompts(positive=1, negative=1).draw("key", mask, layers)
    assert labels == [1, -1]
    assert points[1] == [-1.0, -1.0]


def test_modalities_are_mixed_by_weight(out: Path) -> None:
    held = {name: len(list(load(out, name))) for name in ("ct", "mr")}
    mixed = [row["modality"] for row in interleave(out, "all", seed=3)]
    assert mixed == [row["modality"] for row in interleave(out, "all", seed=3)]
    assert mixed != [row["modality"] for row in interleave(out, "all", seed=4)]
    counts = Counter(mixed[:400])
    assert 150 < counts["mr"] < 250
    assert all(Counter(mixed)[name] >= count for name, count in held.items())
    heavy = Counter(row["modality"] for row in list(interleave(out, "all", weights={"ct": 1, "mr": 9}))[:400])
    assert 330 < heavy["mr"] < 390
    assert {row["modality"] for row in interleave(out, "all", weights={"mr": 2})} == {"mr"}


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        ("ct", None, "config is 'ct', expected all, all-commercial, all-permissive or all-local"),
        ("all", {"pet": 1}, "no modality 'pet' here; there are ct, mr|did you mean"),
        ("all", {"ct": 0}, "weights leave no modality; .* holds ct, mr"),
    ],
)
def test_mixes_that_do_not_exist(out: Path, config: str, weights: dict[str, float] | None, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        interleave(out, config, weights=weights)


def test_rare_classes_come_more_often(out: Path) -> None:
    """By the rule of arXiv 1908.03195: sqrt(t / f), where f is the share of images that show the class."""
    plain = [row["key"] for row in load(out, "ct")]
    rare = {row["key"] for row in load(out, "ct", labels="stomach")}
    balanced = Counter(row["key"] for row in load(out, "ct", balance=1.0))
    factor = (len(plain) / len(rare)) ** 0.5
    mean = sum(balanced[key] for key in rare) / len(rare)
    assert abs(mean - factor) < 0.5
    assert factor > 3
    others = [balanced[key] for key in plain if key not in rare]
    assert set(others) <= {1, 2}
    assert Counter(row["key"] for row in load(out, "ct", balance=1.0)) == balanced
