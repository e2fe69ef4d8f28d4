"""Images that show next to nothing.

Measure: the part of an image that is brighter than a twentieth of its range. A slice of air with one bright point has
next to none; the emptiest useful pictures, fluorescent nuclei and vessels, have more than 1 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shards.console import plural
from shards.report.findings.finding import Finding, Measured, Value, often_below
from shards.report.findings.series import Series

_DARK: Final = 0.05
EMPTY: Final = 0.005
"""Part of an image: a square of 36 pixels a side in 512 x 512."""
OFTEN: Final = 0.02
"""Part of the images of a source: the outermost slices of a volume may be nearly empty."""
MEANING: Final = "the part of the images of which less than 0.5 % is brighter than a twentieth of the range"
REASON: Final = "the outermost slices of a volume may be nearly empty"


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: the part of each image that is not dark."""
    for view in series.views:
        yield "", Value(view.key, series.case, float((view.grey > _DARK).mean()))


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: sources with many such images."""
    return often_below(
        "near_empty",
        measured,
        limit=EMPTY,
        often=OFTEN,
        sentence=lambda found: (
            f"next to nothing is seen in {plural(found, 'image')}: less than {100 * EMPTY:g} % is not dark"
        ),
    )
