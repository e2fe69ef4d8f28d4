"""Texts, lines, rough masks and clicks, beside SciPy and masks made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.ndimage

from builder.command_line import main
from sa_med2d_20m import TEMPLATES, DatasetError, Masks, Output, Prompts, load, next_click
from tests.support.sources import write_source


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MR with a class whose phrase is not its name, one outside the vocabulary, and one that nothing shows."""
    folder = tmp_path_factory.mktemp("prompts")
    recipe = write_source(folder / "raw", "Magnet", cases=2, modality="mr")
    text = recipe.read_text().replace('1 = "liver"', '1 = "left kidney"').replace('2 = "spleen"', '2 = "odd_thing"')
    recipe.write_text(f'{text}3 = "anterior_eyeball_left"\n[splits]\ntrain = ["*"]\n')
    arguments = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


def test_texts_are_phrases_of_the_vocabulary_in_templates(out: Path) -> None:
    phrases = {"kidney_left": "left kidney", "odd_thing": "odd thing"}
    rows = list(load(out, "mr", view="mask", prompts=Prompts(texts=True)))
    possible = {
        (label, template.format(phrase=phrase, modality="MRI"))
        for label, phrase in phrases.items()
        for template in TEMPLATES
    }
    assert {(row["label"], row["text"]) for row in rows} == possible  # each class gets each template
    fixed = list(load(out, "mr", view="mask", prompts=Prompts(texts="{phrase}!")))
    assert {row["text"] for row in fixed} == {"left kidney!", "odd thing!"}
    whole = [text for row in load(out, "mr", prompts=Prompts(texts=True)) for text in row["texts"]]
    assert whole == [row["text"] for row in rows]
    assert "text" not in next(iter(load(out, "mr", view="mask", prompts=Prompts())))


def test_texts_of_what_is_absent(out: Path) -> None:
    rows = load(out, "mr", view=Masks(negatives=1), prompts=Prompts(texts=["{phrase}"], scribble=3, coarse=0.2))
    absent = [row for row in rows if not row["area"]]
    assert absent
    for row in absent:
        assert row["text"] in {"anterior part of the left eye", "left kidney", "odd thing"}
        assert row["scribble"] == [[-1.0, -1.0]] * 3
        assert not row["coarse"].any()
    assert "anterior part of the left eye" in {row["text"] for row in absent}


def test_points_do_not_repeat(out: Path) -> None:
    for row in load(out, "mr", view="mask", prompts=Prompts(positive=40, negative=40)):
        points = [tuple(point) for point in row["points"]]
        real = [point for point in points if point[0] >= 0]
        assert len(set(real)) == len(real)
        assert row["point_labels"][:40] == [1] * min(40, row["area"]) + [-1] * max(0, 40 - row["area"])
    mask = np.zeros((1, 9, 9), np.uint8)
    mask[0, 4, 3:6] = 1
    drawn = Prompts(positive=5).draw("key", {"id": 1, "layer": 0, "bbox": [3, 4, 3, 1]}, mask)
    assert sorted(drawn["points"]) == [[-1.0, -1.0]] * 2 + [[3.5, 4.5], [4.5, 4.5], [5.5, 4.5]]
    assert drawn["point_labels"] == [1, 1, 1, -1, -1]


def test_scribbles_stay_on_their_mask() -> None:
    ring = np.zeros((1, 80, 90), np.uint8)
    cv2.circle(ring[0], (45, 40), 30, 1, 5)
    rows, columns = np.nonzero(ring[0])
    bbox = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    lengths = []
    for seed in range(20):
        line = np.array(
            Prompts(seed=seed, scribble=12).draw("key", {"id": 1, "layer": 0, "bbox": bbox}, ring)["scribble"]
        )
        assert line.shape == (12, 2)
        between = np.concatenate([line[:-1] + share * np.diff(line, axis=0) for share in np.linspace(0, 1, 9)])
        assert (
            ring[0][tuple(np.floor(between[:, ::-1]).astype(int).T)].mean() > 0.97
        )  # corners are cut by less than a pixel
        assert ring[0][tuple(np.floor(line[:, ::-1]).astype(int).T)].all()
        lengths.append(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    assert np.median(lengths) > 0.5 * ring.sum() ** 0.5  # it gets on


def test_rough_masks_are_near_their_masks(out: Path) -> None:
    overlap = []
    for row in load(out, "mr", view="mask", prompts=Prompts(coarse=0.2)):
        both = (row["coarse"] & row["mask"]).sum()
        overlap.append(2 * both / (row["coarse"].sum() + row["mask"].sum()))
        assert row["coarse"].shape == row["mask"].shape
        assert row["coarse"].dtype == np.bool_
    assert 0.5 < np.median(overlap) < 0.98
    assert len({round(float(one), 3) for one in overlap}) > 5
    again = [row["coarse"].sum() for row in load(out, "mr", view="mask", prompts=Prompts(coarse=0.2))]
    other = [row["coarse"].sum() for row in load(out, "mr", view="mask", prompts=Prompts(coarse=0.2, seed=1))]
    assert again == [row["coarse"].sum() for row in load(out, "mr", view="mask", prompts=Prompts(coarse=0.2))] != other


def test_all_prompts_in_another_size(out: Path) -> None:
    asked = Prompts(0.1, 3, 2, scribble=4, coarse=0.1, texts=True)
    for row in load(out, "mr", view="mask", prompts=asked, decode=Output(64, "stretch")):
        assert row["coarse"].shape == row["mask"].shape == (64, 64)
        assert [part.shape for part in (row["box"], row["points"], row["point_labels"], row["scribble"])] == [
            (4,),
            (5, 2),
            (5,),
            (4, 2),
        ]
        for (x, y), label in zip(row["points"], row["point_labels"], strict=True):
            assert label == -1 or row["mask"][int(y), int(x)] == label
        assert all(row["mask"][int(y), int(x)] for x, y in row["scribble"])


def test_the_next_click_is_on_what_is_wrong() -> None:
    mask = np.zeros((40, 50), bool)
    mask[5:25, 5:25] = True
    prediction = np.zeros_like(mask)
    prediction[5:25, 15:35] = True  # misses the left half of the mask, and is too much on its right
    found = [next_click(mask, prediction, seed=seed) for seed in range(200)]
    labels = [int(label) for _, label in found]
    assert set(labels) == {0, 1}
    assert 60 < sum(labels) < 140  # both regions have 200 pixels
    for point, label in found:
        column, row = (int(side) for side in point)
        assert (mask[row, column], prediction[row, column]) == (bool(label), not label)
    assert len({tuple(point) for point, _ in found}) > 100
    logits = np.where(prediction, 3.0, -3.0)
    assert np.array_equal(next_click(mask, logits, seed=7)[0], found[7][0])


@pytest.mark.parametrize("seed", range(5))
def test_the_centre_of_what_is_wrong_is_that_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask, prediction = (cv2.GaussianBlur(rng.normal(size=(60, 70)), (0, 0), 5) > 0 for _ in range(2))
    depths = [
        scipy.ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
        for part in (mask & ~prediction, prediction & ~mask)
    ]
    point, label = next_click(mask, prediction, how="centre")
    assert depths[1 - int(label)][int(point[1]), int(point[0])] == pytest.approx(
        max(depth.max() for depth in depths), abs=1e-4
    )


def test_clicks_of_a_batch_and_of_what_is_right() -> None:
    mask = np.zeros((2, 3, 8, 8), bool)
    mask[0, 0, 2:5, 2:5] = True
    points, labels = next_click(mask, np.zeros_like(mask), how="centre")
    assert (points.shape, labels.shape) == ((2, 3, 2), (2, 3))
    assert points[0, 0].tolist() == [3.5, 3.5]
    assert labels.ravel().tolist() == [1, -1, -1, -1, -1, -1]
    assert (points.reshape(-1, 2)[1:] == -1).all()
    with pytest.raises(DatasetError, match=r"the prediction is \(8, 8\), expected the shape of the mask, \(3, 8, 8\)"):
        next_click(mask[0], mask[0, 0])
    with pytest.raises(DatasetError, match="how is 'center', expected 'random' or 'centre'"):
        next_click(mask, mask, how="center")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_clicks_of_tensors(kind: str) -> None:
    torch = pytest.importorskip("torch")
    mask = torch.zeros((2, 8, 8), dtype=torch.bool)
    mask[:, 2:4, 3:5] = True
    logits = torch.full((2, 8, 8), -1.0, dtype=getattr(torch, kind), requires_grad=True)
    points, labels = next_click(mask, logits)
    assert points.dtype == torch.float32
    assert labels.tolist() == [1, 1]
    assert all(mask[at, int(y), int(x)] for at, (x, y) in enumerate(points.tolist()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"texts": ["a {class}"]},
            r"texts holds 'a \{class\}', expected a text with \{phrase\} and \{modality\} at most",
        ),
        ({"scribble": -1}, "scribble of the prompts is -1, expected a whole number from 0 on"),
        ({"coarse": -0.1}, "coarse of the prompts is -0.1, expected a number from 0 on"),
    ],
)
def test_options_are_refused_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Prompts(**options)


def test_rough_masks_are_of_single_masks(out: Path) -> None:
    with pytest.raises(DatasetError, match="coarse masks are prompts of single masks: view='mask' has them"):
        load(out, "mr", prompts=Prompts(coarse=0.1))
