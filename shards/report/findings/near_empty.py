"""Images that show next to nothing.

Measure: the part of an image that is brighter than a twentieth of its range. A slice of air with one bright point has
next to none; the emptiest useful pictures, fluorescent nuclei and vessels, have more than 1 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shards.report.findings.finding import Finding, Measured, Value, keys_of
from shards.report.findings.series import Series

_DARK: Final = 0.05
EMPTY: Final = 0.005
"""Part of an image: a square of 36 pixels a side in 512 x 512."""
OFTEN: Final = 0.02
"""Part of the images of a source: the outermost slices of a volume may be nearly empty."""


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: the part of each image that is not dark."""
    for view in series.views:
        yield "", Value(view.key, series.case, float((view.grey > _DARK).mean()))


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: sources with many such images."""
    for group, values in measured.items():
        empty = sorted((one for one in values if one.value < EMPTY), key=lambda one: float(one.value))
        share = len(empty) / len(values)
        if share > OFTEN:
            yield Finding(
                check="near_empty",
                source=group.source,
                of=None,
                measure=share,
                threshold=OFTEN,
                found=len(empty),
                looked_at=len(values),
                examples=keys_of(empty),
                sentence=f"{len(empty):,} images show next to nothing: less than {100 * EMPTY:g} % is not dark",
            )
