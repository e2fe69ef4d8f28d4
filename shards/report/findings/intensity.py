"""Images whose grey values are crushed: a few bright or dark pixels take the range, and leave tissue a few levels.

Measure: the part of its range in which the middle 98 % of an image's pixels lie. Metal, padding and burnt-in marks
leave tissue 20 of 255 levels; slices of CT from air to bone use half of the range and more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from shards.console import plural
from shards.report.findings.finding import Finding, Measured, Value, often_below
from shards.report.findings.series import Series

CRUSHED: Final = 0.08
"""Of the range: 20 of 255 levels."""
OFTEN: Final = 0.05
"""Part of the images of a source."""
MEANING: Final = "the part of the images in which 98 % of the pixels lie within 8 % of the range"
REASON: Final = "metal and marks do that to single slices, padding and burnt-in text to whole sources"


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: the part of the range that most pixels are in."""
    for view in series.views:
        low, high = np.percentile(view.grey, [1, 99])
        yield "", Value(view.key, series.case, float(high - low))


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: sources with many such images."""
    return often_below(
        "intensity",
        measured,
        limit=CRUSHED,
        often=OFTEN,
        sentence=lambda found: (
            f"98 % of the pixels of {plural(found, 'image')} lie within {100 * CRUSHED:g} % of the range: "
            'look for padding, metal or marks; [intensity] mode = "window" gives tissue the levels'
        ),
    )
