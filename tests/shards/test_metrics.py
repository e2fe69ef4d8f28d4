"""Scores of predicted volumes, against what MONAI and DeepMind's surface-distance say of the same masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from builder.command_line import main
from sa_med2d_20m import Clip, DatasetError, load
from shards.metrics import VolumeScore, volume_metrics
from tests.support.nifti import lps_affine, write_nifti
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like

SHAPE = (24, 40, 36)
SPACING = (0.8, 0.9, 1.5)
"""mm along x, y, z."""


def ellipsoid(center: tuple[int, int, int], radii: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    parts = ((axis - at) / radius for axis, at, radius in zip((z, y, x), center, radii, strict=True))
    return np.asarray(sum(part**2 for part in parts) <= 1)


TRUTH = {"liver": ellipsoid((10, 14, 12), (6, 9, 8)), "spleen": ellipsoid((16, 30, 26), (5, 6, 7))}
GUESS = {"liver": ellipsoid((11, 15, 12), (6, 8, 9)), "spleen": ellipsoid((16, 27, 26), (4, 6, 7))}
DICE = {"liver": 0.8257448004496908, "spleen": 0.6020671834625323}
"""By surface_distance 0.1 of DeepMind (compute_dice_coefficient); MONAI 1.6.1 agrees to four digits."""
NSD = {
    0.5: {"liver": 0.2132616490125656, "spleen": 0.15094339847564697},
    1.0: {"liver": 0.5752688050270081, "spleen": 0.31446540355682373},
    2.0: {"liver": 0.9811828136444092, "spleen": 0.7327044010162354},
    3.0: {"liver": 1.0, "spleen": 0.9842767119407654},
}
"""By MONAI 1.6.1: compute_surface_dice(..., spacing=[(1.5, 0.9, 0.8)]), in float32."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One case with two ellipsoids, and a class that its source annotates and it does not have."""
    folder = tmp_path_factory.mktemp("metrics")
    write_nifti(folder / "raw/images/a.nii.gz", ct_like(), lps_affine(SPACING))
    labels = np.select(list(TRUTH.values()), [1, 2]).astype(np.uint8)
    write_nifti(folder / "raw/labels/a.nii.gz", labels, lps_affine(SPACING))
    text = RECIPE.format(name="Scans", license="MIT", modality="ct") + '7 = "stomach"\n'
    (folder / "Scans.toml").write_text(text + '[masks]\nmin_area = 0\n[splits]\ntrain = ["*"]\n')
    command = ["build", folder / "Scans.toml", "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(part) for part in command]) == 0
    return folder / "out"


def class_map() -> npt.NDArray[np.uint8]:
    return np.select([GUESS["spleen"], GUESS["liver"]], [2, 1]).astype(np.uint8)


@pytest.mark.parametrize("tolerance", NSD)
def test_scores_are_those_of_published_implementations(out: Path, tolerance: float) -> None:
    (row,) = load(out, "ct", view="volume")
    scores = volume_metrics(row, GUESS, tolerance=tolerance)
    assert list(scores) == ["liver", "spleen"]
    for label, score in scores.items():
        assert score.dice == pytest.approx(DICE[label], abs=1e-12)
        assert score.nsd == pytest.approx(NSD[tolerance][label], abs=1e-6)
    named = volume_metrics(row, class_map(), classes=["liver", "spleen"], tolerance=dict.fromkeys(GUESS, tolerance))
    assert named == scores


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_the_axis_makes_no_difference(out: Path, plane: str) -> None:
    (row,) = load(out, "ct", view="volume", planes=plane)
    turn = {"coronal": (1, 0, 2), "sagittal": (2, 0, 1)}[plane]
    guess = {label: mask.transpose(turn)[:, ::-1] for label, mask in GUESS.items()}
    scores = volume_metrics(row, guess, tolerance=2.0)
    assert {label: score.nsd for label, score in scores.items()} == pytest.approx(NSD[2.0], abs=1e-6)
    assert {label: score.dice for label, score in scores.items()} == pytest.approx(DICE)


def test_slices_make_a_case_in_any_order(out: Path) -> None:
    """Predictions of a 2D model, of the slices that are there; what lies beyond them is no part of the score."""
    rows = list(load(out, "ct", planes="axial"))[::-1]
    held = sorted(row["index"] for row in rows)
    cut = {label: np.where(np.isin(np.arange(24), held)[:, None, None], mask, False) for label, mask in GUESS.items()}
    (volume,) = load(out, "ct", view="volume")
    expected = volume_metrics(volume, cut, tolerance=2.0)
    masks = [{label: mask[row["index"]] for label, mask in GUESS.items()} for row in rows]
    assert volume_metrics(rows, masks, tolerance=2.0) == expected
    maps = [class_map()[row["index"]] for row in rows]
    assert volume_metrics(rows, maps, classes=["liver", "spleen"], tolerance=2.0) == expected


def test_a_clip_is_scored_by_its_own_slices(out: Path) -> None:
    row = next(iter(load(out, "ct", view=Clip(6, 2))))
    truth = {label: mask[row["indices"]] for label, mask in TRUTH.items()}
    assert set(volume_metrics(row, truth).values()) <= {VolumeScore(1.0, 1.0), VolumeScore(None, None)}


def test_classes_that_are_not_there(out: Path) -> None:
    (row,) = load(out, "ct", view="volume")
    nothing, some = np.zeros(SHAPE, np.bool_), ellipsoid((5, 5, 5), (3, 3, 3))
    scores = volume_metrics(row, {"liver": nothing, "stomach": some, "lung": some})
    assert scores == {
        "liver": VolumeScore(0.0, 0.0),  # shown, not found
        "stomach": VolumeScore(0.0, 0.0),  # looked for, not shown, found all the same
        "spleen": VolumeScore(0.0, 0.0),
    }  # and nobody looked for a lung
    assert volume_metrics(row, {"stomach": nothing})["stomach"] == VolumeScore(None, None)
    assert list(volume_metrics(row, GUESS, classes=["spleen"])) == ["spleen"]
    assert volume_metrics(row, GUESS, classes="spleen") == volume_metrics(row, GUESS, classes=["spleen"])


def test_classes_that_were_drawn_in_part_have_no_score(out: Path) -> None:
    """As a region whose parts are not all annotated in the case, and a class of which a mask file was damaged."""
    (row,) = load(out, "ct", view="volume")
    slices = [one | {"not_annotated": ["liver"]} for one in load(out, "ct", planes="axial")]
    masks = [{label: mask[one["index"]] for label, mask in GUESS.items()} for one in slices]
    for scores in (volume_metrics(row | {"not_annotated": ["liver"]}, GUESS), volume_metrics(slices, masks)):
        assert list(scores) == ["spleen"]


def test_tensors_score_as_arrays_do(out: Path) -> None:
    torch = pytest.importorskip("torch")
    (row,) = load(out, "ct", view="volume")
    logits = torch.stack([torch.from_numpy(mask.astype(np.float32)) for mask in GUESS.values()]).requires_grad_() - 0.5
    masks = dict(zip(GUESS, logits > 0, strict=True))
    assert volume_metrics(row, masks) == volume_metrics(row, GUESS)
    whole = {label: mask.to(torch.bfloat16).requires_grad_() for label, mask in masks.items()}
    assert volume_metrics(row, whole) == volume_metrics(row, GUESS)


def test_dice_alone_needs_no_spacing(out: Path) -> None:
    (row,) = load(out, "ct", view="volume")
    scores = volume_metrics(row | {"spacing": None, "slice_spacing": None}, GUESS, tolerance=None)
    assert {label: score.nsd for label, score in scores.items()} == dict.fromkeys(GUESS)
    assert {label: score.dice for label, score in scores.items()} == pytest.approx(DICE)


def test_what_cannot_be_compared(out: Path) -> None:
    (row,) = load(out, "ct", view="volume")
    axial = list(load(out, "ct", planes="axial"))
    wrong: list[tuple[Any, Any, dict[str, Any], str]] = [
        (row, {"liver": np.zeros((3, 3, 3))}, {}, r"liver: expected a prediction of \(24, 40, 36\), got \(3, 3, 3\)"),
        (row, class_map(), {}, r"a class map needs classes=\[...\]"),
        (row | {"spacing": None}, GUESS, {}, "says no spacing, .* no distance in mm; tolerance=None gives Dice alone"),
        ([], [], {}, "there is no row to compare"),
        (list(load(out, "ct")), [], {}, "slices of several images or axes"),
        (axial, [], {}, r"expected \d+ predictions, one for each row, got 0"),
        (row, GUESS, {"tolerance": {"liver": 1.0}}, "tolerance has none for spleen"),
        (row, GUESS, {"tolerance": -1}, "tolerance is -1, expected mm from 0 on"),
        (row, GUESS, {"tolerance": "2"}, "tolerance is '2', expected mm from 0 on"),
        (next(iter(load(out, "ct", view="mask"))), GUESS, {}, "expected a row of view='volume' or 'clip', or a list"),
        (list(load(out, "ct", view="mask"))[:1], [GUESS], {}, "or a list of rows of view='image', slices of an image"),
        ([row], [GUESS], {}, "or a list of rows of view='image', slices of an image"),
        (3, GUESS, {}, "or a list of rows of view='image', slices of an image"),
        ([axial[0] | {"index": None}], [GUESS], {}, "or a list of rows of view='image', slices of an image"),
        ([axial[0]] * 2, [{}, {}], {}, f"slice {axial[0]['index']} stands among the rows twice"),
        (
            row,
            {"liver": GUESS["liver"] * 0.3},
            {},
            "liver: expected whole numbers, got 0.3; cut probabilities at a threshold",
        ),
        (row, None, {"classes": ["liver"]}, "liver: the prediction holds object, expected whole numbers or bool"),
        (row, {"liver": [[1], [1, 2]]}, {}, "liver: the prediction is no array"),
        (row, 1, {"classes": ["liver"]}, r"liver: expected a prediction of \(24, 40, 36\), got \(\)"),
        (axial, None, {}, r"expected a list of \d+ predictions, one for each row, got NoneType"),
        (axial, GUESS, {}, r"expected a list of \d+ predictions, one for each row, got dict"),
        (row, class_map() * 0.3, {"classes": ["liver"]}, "liver: expected whole numbers, got 0.3"),
        (row, class_map(), {"classes": [1, 2]}, r"classes is \[1, 2\], expected names"),
    ]
    for rows, predictions, options, said in wrong:
        with pytest.raises(DatasetError, match=said):
            volume_metrics(rows, predictions, **options)
