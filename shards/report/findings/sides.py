"""A left class on the right of its right one.

Measure: of the axial and coronal slices that show both, the part in which the centre of the left one lies left of
that of the right one. Such slices show the patient's left on the viewer's right, see docs/contract.md. An organ may
cross the midline in a slice; in most slices of a case it does not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import numpy as np

from shards.report.findings.finding import Finding, Measured, Value, keys_of
from shards.report.findings.series import Series

_PLANES: Final = ("axial", "coronal")
_LEFT: Final = re.compile(r"(^|_)left(_|$)")
MOST: Final = 0.5
"""Part of the slices of a case."""
CASES: Final = 0.2
"""Part of the cases of a source: one patient of hundreds has their organs the other way round."""
MEANING: Final = "the part of the cases in which the left class lies on the right of its right one in most slices"
REASON: Final = "one patient of thousands has their organs the other way round"


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: how far the left one lies right of the right one, as a part of the width."""
    for view in series.views:
        if view.plane not in _PLANES:
            continue
        width = view.grey.shape[1]
        for label, mask in view.masks.items():
            other = view.masks.get(_LEFT.sub(r"\1right\2", label))
            if _LEFT.search(label) and other is not None and mask.any() and other.any():
                apart = np.nonzero(mask)[1].mean() - np.nonzero(other)[1].mean()
                yield label, Value(view.key, series.case, float(apart) / width)


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: classes that lie the wrong way round in many cases of a source."""
    for group, values in measured.items():
        cases: defaultdict[str, list[Value]] = defaultdict(list)
        for one in values:
            cases[one.case].append(one)
        swapped = [own for own in cases.values() if sum(one.value < 0 for one in own) > MOST * len(own)]
        share = len(swapped) / len(cases)
        if share > CASES:
            wrong = sorted((one for own in swapped for one in own if one.value < 0), key=lambda one: float(one.value))
            yield Finding(
                check="sides",
                source=group.source,
                of=group.of,
                measure=share,
                threshold=CASES,
                found=len(wrong),
                looked_at=len(values),
                examples=keys_of(wrong),
                sentence=f"{group.of} lies on the right of its right one in {len(swapped):,} of {len(cases):,} cases: "
                "look whether [labels] has the sides swapped, or an axis of images and masks is the other way round",
            )
