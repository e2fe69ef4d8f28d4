"""Class maps: one class for each pixel, for tools that know no overlaps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shards.export.layout import Unit
from shards.export.sample import Sample

ClassMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def class_map(sample: Sample, numbers: Mapping[str, int], unit: Unit, ground: int = 0) -> ClassMap:
    """Paint the masks of a sample, the larger first, so that the smaller of two that overlap wins.

    So does ``view="semantic"`` of the loader. What others cover of a class is counted: ``hidden`` (pixels) and
    ``overlapped`` (masks that lost some).

    Args:
        sample: The sample.
        numbers: Class name -> number.
        unit: Takes the counts.
        ground: Number of pixels without a mask.

    Returns:
        (H, W), uint8, or uint16 where a number is beyond 255.
    """
    shape = (sample.record["height"], sample.record["width"])
    painted = np.full(shape, ground, np.uint8 if max([ground, *numbers.values()]) < 256 else np.uint16)
    masks = sorted(sample.masks(), key=lambda one: (-one[0]["area"], one[0]["id"]))
    for entry, mask in masks:
        painted[mask] = numbers[entry["label"]]
    lost = [int(np.count_nonzero(painted[mask] != numbers[entry["label"]])) for entry, mask in masks]
    unit.count("hidden", sum(lost))
    unit.count("overlapped", sum(pixels > 0 for pixels in lost))
    return painted


def overlap_remark(hidden: float, overlapped: float) -> list[str]:
    """What the user should know of what was lost; nothing where nothing was."""
    if not overlapped:
        return []
    return [
        f"{int(overlapped):,} masks overlap smaller ones of other classes, which win: {int(hidden):,} pixels of theirs "
        "are lost, as a pixel has one class here"
    ]
