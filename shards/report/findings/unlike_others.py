"""A class that is of another size, or in another place, than the same class in other sources.

Measure: the median area of its masks as a part of the image, and the median place of their centre, by plane; beside the
median over other sources of the same modality. Sets differ in how much around an organ they show, so only what is far
off counts: sixteen times the area, or a third of the image away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import numpy as np

from shards.report.findings.finding import Finding, Group, Measured, Value, keys_of
from shards.report.findings.series import Series

AREA: Final = 4.0
"""Doublings of the area."""
PLACE: Final = 0.33
"""Of the width and height of the image."""
OTHERS: Final = 2
"""Other sources that must have the class: of two sources that differ nobody knows which is wrong."""
FEWEST: Final = 5
"""Images that show it."""
MEANING: Final = (
    "how many times larger or smaller the class is than in other sources, or how far from its place in "
    "them, as a part of the image"
)
REASON: Final = "sources show more or less of what is around an organ, so that only what is far off counts"


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: area and centre of each class, by class and plane."""
    for view in series.views:
        height, width = view.grey.shape
        for label, mask in view.masks.items():
            rows, columns = np.nonzero(mask)
            if len(rows):
                about = np.log2(len(rows) / mask.size), rows.mean() / height, columns.mean() / width
                yield f"{label} {view.plane}", Value(view.key, series.case, np.array(about, np.float32))


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: sources whose class is far from that of the others."""
    alike: defaultdict[tuple[str, str], dict[Group, np.ndarray]] = defaultdict(dict)
    for group, values in measured.items():
        if len(values) >= FEWEST:
            medians = np.median(np.stack([one.value for one in values]), axis=0)
            alike[group.modality, group.of][group] = medians
    for sources in alike.values():
        if len(sources) <= OTHERS:
            continue
        for group, own in sources.items():
            others = np.median(np.stack([one for other, one in sources.items() if other != group]), axis=0)
            size, place = abs(float(own[0] - others[0])), float(np.hypot(*(own[1:] - others[1:])))
            if size > AREA or place > PLACE:
                by_area = size / AREA >= place / PLACE
                values = measured[group]
                order = sorted(values, key=lambda one: -float(np.abs(one.value - others)[0 if by_area else 1 :].max()))
                kind = "of another size" if by_area else "in another place"
                yield Finding(
                    check="unlike_others",
                    source=group.source,
                    of=group.of.split(" ")[0],
                    measure=2.0**size if by_area else place,
                    threshold=2.0**AREA if by_area else PLACE,
                    found=len(values),
                    looked_at=len(values),
                    examples=keys_of(order),
                    sentence=f"{group.of.split(' ')[0]} is {kind} than in {len(sources) - 1} other sources "
                    f"({group.of.split(' ')[1]} images): look whether it is that class",
                )
