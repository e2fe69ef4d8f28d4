"""Whether the borders of masks lie on edges of their image, where they are and where they would be elsewhere."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from shards.report.findings.series import View

FEWEST_PIXELS: Final = 30
"""Pixels of the borders of an image that say anything."""
FOLLOWED: Final = 0.54
"""Strength of edges from which on borders follow any. By chance it is 0.5; in sets that are right it is 0.61 and more,
in these moved by 10 pixels still 0.55 at the nearest place that is tried. A tumour in muscle lies on 0.40 to 0.52
wherever it is put, and then one place is as good as the other."""


def edge_strength(view: View, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> float:
    """How strong the edges of an image are at some places, those outside left out; NaN where half are outside.

    Ranks of the gradient, from 0 to 1: so one bright edge counts no more than others.
    """
    height, width = view.grey.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    if inside.mean() < 0.5:
        return float("nan")
    return float(view.edges[rows[inside], columns[inside]].mean())
