"""The layout ``yolo``: pictures, and polygons for the segmentation models of Ultralytics.

Rules: https://docs.ultralytics.com/datasets/segment/ and ``ultralytics/data/utils.py``: for each object a line ``class
x1 y1 x2 y2 ...``, coordinates as shares of width and height, at least three points; labels lie beside ``images`` in
``labels``; polygons are drawn by ``cv2.fillPoly`` after their coordinates are cut off to whole pixels.
"""

from __future__ import annotations

import json
from collections import Counter

import cv2
import numpy as np
import numpy.typing as npt

from shards.export.layout import Gathered, Layout, Overview, Unit
from shards.export.layouts.outline import outline
from shards.export.pictures import eight_bit_png
from shards.export.sample import Sample

_SMALLEST = 10
"""Pixels of a side; Ultralytics leaves smaller images out."""


class Yolo(Layout):
    """``images/{split}/{key}.png``, ``labels/{split}/{key}.txt`` and ``data.yaml``; classes count from 0."""

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._numbers = {label: number for number, label in enumerate(overview.labels)}

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        unit.file(f"images/{sample.split}/{sample.key}.png", eight_bit_png(sample))
        lines = []
        for entry, mask in sample.masks():
            line = as_line(outline(mask), mask.shape)
            lines.append(f"{self._numbers[entry['label']]} {line}\n")
            loss = 1 - overlap(mask, drawn(line, mask.shape))
            unit.count("masks")
            unit.count("loss", loss)
            unit.count("changed", loss > 0)
            unit.count("below_99", loss > 0.01)
        unit.file(f"labels/{sample.split}/{sample.key}.txt", "".join(lines).encode())
        same = Counter((entry["label"], *entry["bbox"]) for entry in sample.record["masks"])
        unit.count("same_box", sum(count - 1 for count in same.values()))
        unit.count("small", min(sample.record["height"], sample.record["width"]) < _SMALLEST)

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        places = {split: f"images/{split}" for split in self.overview.splits}
        used = {
            "train": places.get("train", next(iter(places.values()))),
            "val": places.get("validation", places.get("test", next(iter(places.values())))),
            **({"test": places["test"]} if "test" in places else {}),
        }
        names = [f"  {number}: {json.dumps(label)}" for label, number in self._numbers.items()]
        lines = [*(f"{name}: {place}" for name, place in used.items()), "names:", *names]
        with gathered.open("data.yaml") as file:
            file.write("\n".join([*lines, ""]).encode())
        return [*_loss(gathered), *_left_out(gathered), *_instead(used)]


def as_line(polygon: npt.NDArray[np.int32], shape: tuple[int, ...]) -> str:
    """A polygon as a line has it: shares of width and height at the middle of each pixel.

    They are exact enough that whoever multiplies and cuts off gets the pixel again, in 32 bit too.
    """
    shares = ((polygon + 0.5) / (shape[1], shape[0])).ravel().tolist()
    return " ".join(["%.7f"] * len(shares)) % tuple(shares)


def drawn(line: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """What Ultralytics makes of a line, at the size of the image."""
    shares = np.fromstring(line, sep=" ").astype(np.float32).reshape(-1, 2)
    points = (shares * np.array([shape[1], shape[0]], np.float32)).astype(np.int32)
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [points], 1)
    return canvas.astype(np.bool_)


def overlap(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))


def _loss(gathered: Gathered) -> list[str]:
    masks = int(gathered.counted("masks"))
    if not masks:
        return []
    mean = 1 - gathered.counted("loss") / masks
    changed, worse = (int(gathered.counted(name)) for name in ("changed", "below_99"))
    return [
        f"polygons against masks, drawn at the size of the image: mean IoU {mean:.6f}; {changed:,} of {masks:,} masks "
        f"differ, {worse:,} of them by more than 0.01"
    ]


def _left_out(gathered: Gathered) -> list[str]:
    said = {
        "same_box": "masks with the class and the box of another in their image, which Ultralytics drops",
        "small": f"images with a side under {_SMALLEST} pixels, which Ultralytics leaves out",
    }
    return [f"{what}: {int(gathered.counted(name)):,}" for name, what in said.items() if gathered.counted(name)]


def _instead(used: dict[str, str]) -> list[str]:
    """Ultralytics wants both train and val."""
    asked = {"train": "images/train", "val": "images/validation"}
    return [
        f"there are no images for {name}: data.yaml names {used[name]} in their place"
        for name, place in asked.items()
        if used[name] != place
    ]
