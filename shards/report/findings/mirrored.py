"""Masks that are mirrored against their image.

Measure: how strong the edges of the image are under the borders of its masks, and under those of the masks mirrored
left and right, top and bottom, and both. Where masks lie right the first is the largest, over the images of a source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from shards.report.findings.edges import FOLLOWED, border, edge_strength
from shards.report.findings.finding import Finding, Measured, Value, keys_of
from shards.report.findings.series import Series

_WAYS: Final = ("as they are", "mirrored left and right", "mirrored top and bottom", "turned by half a turn")
BETTER: Final = 1.05
"""How much stronger edges must be under mirrored masks. In 13 sets that are right they are as strong at most, in a
symmetrical template, and else 0.92 of that (docs/findings.md)."""
FEWEST: Final = 3
"""Images that say anything of a source."""
MEANING: Final = "how much stronger the image's edges are under the borders of masks when these are mirrored"
REASON: Final = (
    "in sets that are right mirrored borders lie on edges 0.92 times as strong at most, and 1.00 in a "
    "template that is symmetrical"
)


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: the strength of edges for each of the four ways, by plane."""
    for view in series.views:
        places = border(view)
        if places is None:
            continue
        rows, columns = places
        height, width = view.grey.shape
        ways = [
            edge_strength(view, height - 1 - rows if way & 2 else rows, width - 1 - columns if way & 1 else columns)
            for way in range(len(_WAYS))
        ]
        yield view.plane, Value(view.key, series.case, np.array(ways, np.float32))


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: sources whose masks would lie better mirrored."""
    for group, values in measured.items():
        if len(values) < FEWEST:
            continue
        strengths = np.stack([one.value for one in values])
        means = strengths.mean(axis=0)
        best = int(np.argmax(means))
        ratio = float(means[best] / max(means[0], 1e-9))
        if ratio > BETTER and means[best] > FOLLOWED:
            gains = strengths[:, best] - strengths[:, 0]
            yield Finding(
                check="mirrored",
                source=group.source,
                of=None,
                measure=ratio,
                threshold=BETTER,
                found=int((gains > 0).sum()),
                looked_at=len(values),
                examples=keys_of(values[at] for at in np.argsort(-gains)),
                sentence=f"{_WAYS[best]}, the borders of masks would lie on stronger edges ({group.of} images): look "
                "for an axis that masks or images have the other way round",
            )
