"""One class for each pixel, for tools whose labels exclude each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shards.console import plural
from shards.export.sample import Sample


def class_map(
    sample: Sample, numbers: Mapping[str, int], ground: int = 0
) -> tuple[npt.NDArray[np.uint8 | np.uint16], int]:
    """The class of each pixel; where masks overlap the smaller one wins, as in `sa_med2d_20m.load` by default.

    Args:
        sample: The sample.
        numbers: Class name -> number, from 1; 0 is background.
        ground: Number of pixels without a mask, which is none of these.

    Returns:
        (H, W), 8 bit where the largest number fits, and how many pixels of masks another class hides.
    """
    depth = np.uint8 if max([ground, *numbers.values()]) < 256 else np.uint16
    painted = np.full((sample.record["height"], sample.record["width"]), ground, depth)
    hidden = 0
    for entry, mask in sorted(sample.masks(), key=lambda pair: (-pair[0]["area"], pair[0]["layer"], pair[0]["id"])):
        number = numbers[entry["label"]]
        below = painted[mask]
        hidden += int(np.count_nonzero((below != ground) & (below != number)))
        painted[mask] = number
    return painted, hidden


def overlaps_said(pixels: float) -> list[str]:
    """What the user should know of classes that overlap."""
    if not pixels:
        return []
    return [f"{plural(int(pixels), 'pixel')} of several classes: there the one of the smallest mask is written"]
