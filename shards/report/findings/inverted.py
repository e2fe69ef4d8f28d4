"""Masks that cover what is around their object instead of the object.

Measure: the part of the image's edge that a class covers. Objects seldom reach the edge; what is around one covers all
of it, also where most of the image belongs to the object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from shards.report.findings.finding import Finding, Measured, Value, keys_of
from shards.report.findings.series import Series

COVERED: Final = 0.75
"""Part of the edge. A class that fills the picture (tissue of histology) covers less, or not often so much."""
OFTEN: Final = 0.5
"""Part of the images that show the class."""
FEWEST: Final = 2
"""Such images."""
MEANING: Final = "the part of the images of the class in which it covers more than three quarters of the image's edge"
REASON: Final = "tissue of histology fills pictures, and covers the edge less often"


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: the part of the edge that each class covers."""
    for view in series.views:
        for label, mask in view.masks.items():
            edge = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
            yield label, Value(view.key, series.case, float(edge.mean()))


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: classes that cover the edge of most of their images."""
    for group, values in measured.items():
        around = [one for one in values if one.value > COVERED]
        share = len(around) / len(values)
        if share > OFTEN and len(around) >= FEWEST:
            yield Finding(
                check="inverted",
                source=group.source,
                of=group.of,
                measure=share,
                threshold=OFTEN,
                found=len(around),
                looked_at=len(values),
                examples=keys_of(around),
                sentence=f"{group.of} covers the edge of {len(around):,} of {len(values):,} images that show it: look "
                "whether its masks are inverted (masks.inverted)",
            )
