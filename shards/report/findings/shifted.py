"""Masks that lie beside what they are of.

Measure: how strong the edges of the image are under the borders of its masks, and under the same borders moved by 4 to
12 pixels in eight directions. Where masks lie right the first is the largest, over the images of a source. One image
says little, as its edges are everywhere; the mean over a source says much.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from shards.report.findings.edges import FOLLOWED, border, edge_strength
from shards.report.findings.finding import Finding, Measured, Value, keys_of
from shards.report.findings.series import Series

_STEPS: Final = (-12, -8, -4, 0, 4, 8, 12)
OFFSETS: Final = tuple((down, right) for down in _STEPS for right in _STEPS)
"""Pixels by which borders are moved."""
_NONE: Final = OFFSETS.index((0, 0))
BETTER: Final = 1.05
"""How much stronger edges must be elsewhere. In 13 sets that are right they are nowhere stronger (docs/findings.md)."""
FEWEST: Final = 3
"""Images that say anything of a source."""
MEANING: Final = (
    "how much stronger the image's edges are under the borders of masks when these are moved by 4 to 12 pixels"
)
REASON: Final = "in 13 sets that are right edges are nowhere stronger than where the masks are"


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: the strength of edges under the borders, for each of `OFFSETS`."""
    for view in series.views:
        places = border(view)
        if places is not None:
            strengths = [edge_strength(view, places[0] + down, places[1] + right) for down, right in OFFSETS]
            yield "", Value(view.key, series.case, np.array(strengths, np.float32))


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: sources whose masks would lie better elsewhere."""
    for group, values in measured.items():
        strengths = np.stack([one.value for one in values])
        known = ~np.isnan(strengths).any(axis=1)
        if known.sum() < FEWEST:
            continue
        means = strengths[known].mean(axis=0)
        best = int(np.argmax(means))
        ratio = float(means[best] / max(means[_NONE], 1e-9))
        if ratio > BETTER and means[best] > FOLLOWED:
            gains = np.nan_to_num(strengths[:, best] - strengths[:, _NONE], nan=-1)
            order = np.argsort(-gains)
            down, right = OFFSETS[best]
            side = "right" if right > 0 else "left"
            where = f"{abs(down)} pixels {'down' if down > 0 else 'up'}, {abs(right)} to the {side}"
            yield Finding(
                check="shifted",
                source=group.source,
                of=None,
                measure=ratio,
                threshold=BETTER,
                found=int((gains > 0).sum()),
                looked_at=int(known.sum()),
                examples=keys_of(values[at] for at in order),
                sentence=f"the borders of masks would lie on stronger edges {where}: look for a shift between masks "
                "and images",
            )
