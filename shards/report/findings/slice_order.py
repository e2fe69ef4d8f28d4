"""Volumes whose slices are not in order.

Measure: of a slice, whether it differs more from the one four further on than from its neighbour. In a volume that is
in order nearly all do, in a shuffled one half of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np

from shards.report.findings.finding import Finding, Measured, Value, keys_of
from shards.report.findings.series import Series

_SIDE: Final = 48
_APART: Final = 4
_FEWEST: Final = 6
"""Slices of a volume that say anything."""
IN_ORDER: Final = 0.8
"""Part of the slices: of volumes in order 0.88 and more, see docs/findings.md."""
CASES: Final = 0.05
"""Part of the cases of a source."""
MEANING: Final = (
    "the part of the slices that are nearer to their neighbour than to the fourth after it, in the worst volume"
)
REASON: Final = "it is 0.5 where slices are shuffled, and 0.88 to 1 in volumes that are in order"


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: whether the neighbour of a slice is nearer to it than one further on."""
    small = [cv2.resize(view.grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for view in series.views]
    numbers = [view.index for view in series.views]
    for at in range(len(small) - _APART):
        first, next_one, last = numbers[at], numbers[at + 1], numbers[at + _APART]
        if first is None or (next_one, last) != (first + 1, first + _APART):
            continue
        nearer = _apart(small[at], small[at + 1]) < _apart(small[at], small[at + _APART])
        yield "", Value(series.views[at].key, series.case, nearer)


def _apart(one: cv2.typing.MatLike, other: cv2.typing.MatLike) -> float:
    return float(np.abs(one - other).mean())


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: sources with volumes that are not in order."""
    for group, values in measured.items():
        cases: defaultdict[str, list[Value]] = defaultdict(list)
        for one in values:
            cases[one.case].append(one)
        long = {case: own for case, own in cases.items() if len(own) >= _FEWEST}
        shares = {case: float(np.mean([one.value for one in own])) for case, own in long.items()}
        wrong = sorted((share, case) for case, share in shares.items() if share < IN_ORDER)
        if long and len(wrong) > CASES * len(long):
            yield Finding(
                check="slice_order",
                source=group.source,
                of=None,
                measure=wrong[0][0],
                threshold=IN_ORDER,
                found=sum(len(long[case]) for _, case in wrong),
                looked_at=sum(map(len, long.values())),
                examples=keys_of(one for _, case in wrong for one in long[case] if not one.value),
                sentence=f"slices of {len(wrong):,} of {len(long):,} volumes are not in order: look how files are "
                "sorted, and at the positions that they name",
            )
