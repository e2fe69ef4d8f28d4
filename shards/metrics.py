"""Scores of predicted volumes: Dice, and the normalised surface Dice in millimetres.

Both are those of MONAI (`DiceMetric`, `SurfaceDiceMetric` without subvoxels): the surface of a mask are its voxels that
have one of six neighbours outside, and a surface voxel agrees when the other surface is at most the tolerance away
(Nikolov et al., arXiv 1809.04430, counted in voxels as by Seidlitz et al., arXiv 2111.05408).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sa_med2d_20m import DatasetError, decode_masks

Prediction = npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]]
"""A class map whose values 1, 2 ... are the classes that are named, or a binary mask of each class."""


_EXPECTED: Final = (
    "expected a row of view='volume' or 'clip', or a list of rows of view='image', slices of an image along an axis"
)


@dataclass(frozen=True)
class VolumeScore:
    """How well a class was found in a volume.

    Attributes:
        dice: 0 to 1, or None where neither the volume nor the prediction has the class.
        nsd: Share of both surfaces that lies within the tolerance of the other, 0 to 1, or None as for ``dice``, and
            where no tolerance was asked.
    """

    dice: float | None
    nsd: float | None


def volume_metrics(
    rows: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    predictions: Prediction | Sequence[Prediction],
    *,
    classes: Sequence[str] | None = None,
    tolerance: float | Mapping[str, float] | None = 1.0,
) -> dict[str, VolumeScore]:
    """Compare a case with what a model makes of it, class by class.

    Args:
        rows: A row of ``load(..., view="volume")`` or of a clip; or rows of ``view="image"``, the slices of one image
            along one axis.
        predictions: For a volume an array or tensor (Z, H, W), or one of each class. For slices as many (H, W), in
            their order.
        classes: The names of the values 1, 2 ... of class maps, as `sa_med2d_20m.Semantic` has them; of binary masks
            those that are scored, by default all that are predicted or shown.
        tolerance: In mm, for all classes or for each; None for Dice alone, which needs no spacing.

    Returns:
        Class -> score, in the order of the classes; without those that nobody looked for in the case, or not in all
        of it (``not_annotated``), and those that it shows in parts too small to keep alone.

    Raises:
        DatasetError: There is no spacing, or rows and predictions do not belong together.
    """
    if isinstance(classes, str):
        classes = (classes,)
    if not all(isinstance(label, str) for label in classes or ()):
        raise DatasetError(f"classes is {classes!r:.80}, expected names")
    limits = tolerance.values() if isinstance(tolerance, Mapping) else [] if tolerance is None else [tolerance]
    if not all(isinstance(limit, int | float) and 0 <= limit < float("inf") for limit in limits):
        raise DatasetError(f"tolerance is {tolerance!r:.80}, expected mm from 0 on")
    if isinstance(rows, Mapping):
        if np.ndim(rows.get("mask", ())) != 3:
            raise DatasetError(_EXPECTED)
        held, guessed, places = [rows], [predictions], None
        truth = _masks_of_volume(rows)
    else:
        held, guessed = _in_order(rows, predictions)
        places = [row["index"] - held[0]["index"] for row in held]
        truth = _masks_of_slices(held)
    shape, spacing = _grid(held, whole=places is None, in_mm=tolerance is not None)
    found = _predicted(guessed, classes, shape, places)
    asked = dict.fromkeys(classes if classes is not None else [*found, *truth])
    looked_for = {label for row in held for label in row["absent"] or ()} | truth.keys()
    unknown = any(row["absent"] is None for row in held)
    in_part = {label for row in held for label in row.get("not_annotated") or ()}  # its masks are not all of it
    nothing = np.zeros(shape, np.bool_)
    scores = {}
    for label in asked:
        if (label in looked_for or unknown) and label not in in_part:
            limit = tolerance.get(label) if isinstance(tolerance, Mapping) else tolerance
            if limit is None and tolerance is not None:
                raise DatasetError(f"tolerance has none for {label}")
            scores[label] = _score(truth.get(label, nothing), found.get(label, nothing), spacing, limit)
    return scores


def _in_order(rows: Sequence[Mapping[str, Any]], predictions: Any) -> tuple[list[Mapping[str, Any]], list[Any]]:
    """Slices of one image along one axis by their numbers, each with its prediction."""
    if not isinstance(rows, Sequence) or not all(_is_slice(row) for row in rows):
        raise DatasetError(_EXPECTED)
    if not rows:
        raise DatasetError("there is no row to compare")
    if len({row["key"].rpartition("_")[0] for row in rows}) > 1:
        raise DatasetError("the rows are slices of several images or axes, expected those of one")
    if not hasattr(predictions, "__len__") or isinstance(predictions, str | Mapping):
        raise DatasetError(
            f"expected a list of {len(rows)} predictions, one for each row, got {type(predictions).__name__}"
        )
    if len(predictions) != len(rows):
        raise DatasetError(f"expected {len(rows)} predictions, one for each row, got {len(predictions)}")
    order = sorted(range(len(rows)), key=lambda at: rows[at]["index"])
    for one, other in itertools.pairwise(order):
        if rows[one]["index"] == rows[other]["index"]:
            raise DatasetError(f"slice {rows[one]['index']} stands among the rows twice, expected each once")
    return [rows[at] for at in order], [predictions[at] for at in order]


def _is_slice(row: object) -> bool:
    return isinstance(row, Mapping) and isinstance(row.get("masks"), list) and isinstance(row.get("index"), int)


def _masks_of_volume(row: Mapping[str, Any]) -> dict[str, npt.NDArray[np.bool_]]:
    layers = row["mask"].reshape(len(row["mask"]), -1, row["height"], row["width"])
    numbers: dict[str, list[int]] = {}
    for entry in row["masks"]:
        numbers.setdefault(entry["label"], []).append(entry["id"])
    return {label: np.asarray(np.isin(layers, ids).any(axis=1)) for label, ids in numbers.items()}


def _masks_of_slices(rows: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    first = rows[0]
    shape = (rows[-1]["index"] - first["index"] + 1, first["height"], first["width"])
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for row in rows:
        for entry, mask in zip(row["masks"], decode_masks(row), strict=True):
            masks.setdefault(entry["label"], np.zeros(shape, np.bool_))[row["index"] - first["index"]] |= mask
    return masks


def _grid(
    rows: Sequence[Mapping[str, Any]], *, whole: bool, in_mm: bool
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and spacing of (slices, rows, columns), which is in mm where that is asked."""
    first = rows[0]
    depth = len(first["mask"]) if whole else rows[-1]["index"] - first["index"] + 1
    if not in_mm:
        return (depth, first["height"], first["width"]), (1.0, 1.0, 1.0)
    if first["spacing"] is None or first["slice_spacing"] is None:
        raise DatasetError(
            f"{first['key']}: its source says no spacing, so there is no distance in mm; "
            "tolerance=None gives Dice alone"
        )
    row, column = first["spacing"]
    between = first["slice_spacing"]
    indices = first["indices"] if whole and len(first["indices"]) == depth else [0, 1]
    steps = set(np.diff(indices).tolist())
    stride = steps.pop() if len(steps) == 1 else 1  # of a clip, whose slices may lie further apart
    return (depth, first["height"], first["width"]), (between * stride, row, column)


def _predicted(
    predictions: Sequence[Any], classes: Sequence[str] | None, shape: tuple[int, int, int], places: Sequence[int] | None
) -> dict[str, npt.NDArray[np.bool_]]:
    """Binary volumes by class, out of one prediction of the volume, or of one for each place along it."""
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for number, prediction in enumerate(predictions):
        if not isinstance(prediction, Mapping) and classes is None:
            raise DatasetError("a class map needs classes=[...], the names of its values 1, 2 ...")
        masks = (
            prediction
            if isinstance(prediction, Mapping)
            else {label: _whole(label, prediction) == value for value, label in enumerate(classes or (), 1)}
        )
        for label, mask in masks.items():
            expected = shape if places is None else shape[1:]
            values = _whole(label, mask)
            if values.shape != expected:
                raise DatasetError(f"{label}: expected a prediction of {expected}, got {values.shape}")
            whole = found.setdefault(label, np.zeros(shape, np.bool_))
            whole[slice(None) if places is None else places[number]] = values != 0
    return found


def _whole(label: str, prediction: Any) -> npt.NDArray[Any]:
    """A prediction that is no probability, of which every one above 0 would count."""
    if hasattr(prediction, "detach"):  # a tensor, whose half precision NumPy may not have
        prediction = prediction.detach().cpu()
        prediction = prediction.float() if prediction.is_floating_point() else prediction
    try:
        values = np.asarray(prediction)
    except ValueError:  # lists of unlike length
        raise DatasetError(f"{label}: the prediction is no array") from None
    if values.dtype.kind not in "biuf":
        raise DatasetError(f"{label}: the prediction holds {values.dtype}, expected whole numbers or bool")
    broken = values[values != np.rint(values)] if values.dtype.kind == "f" else np.empty(0)
    if broken.size:
        raise DatasetError(
            f"{label}: expected whole numbers, got {broken.flat[0]:.3g}; cut probabilities at a threshold"
        )
    return values


def _score(
    truth: npt.NDArray[np.bool_],
    prediction: npt.NDArray[np.bool_],
    spacing: tuple[float, float, float],
    tolerance: float | None,
) -> VolumeScore:
    either = truth | prediction
    if not either.any():
        return VolumeScore(None, None)
    filled = [np.flatnonzero(either.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in filled)
    truth, prediction = truth[box], prediction[box]
    dice = 2 * np.count_nonzero(truth & prediction) / (np.count_nonzero(truth) + np.count_nonzero(prediction))
    nsd = None if tolerance is None else _surface_dice(truth, prediction, spacing, tolerance)
    return VolumeScore(float(dice), nsd)


def _surface_dice(
    one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], spacing: tuple[float, float, float], tolerance: float
) -> float:
    try:
        from scipy import ndimage  # noqa: PLC0415 - only this needs it
    except ImportError:
        raise DatasetError("distances of surfaces need SciPy: pip install 'sa-med2d-20m[build]'") from None
    if not one.any() or not other.any():
        return 0.0
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    distances = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    near = [np.count_nonzero(distances[1 - at][surfaces[at]] <= tolerance) for at in (0, 1)]
    return float(sum(near) / sum(np.count_nonzero(surface) for surface in surfaces))
