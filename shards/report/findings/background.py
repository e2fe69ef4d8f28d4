"""Masks that lie on the background of their image.

Measure: the part of a mask that lies on what is dark and reaches the edge of the image. Lungs are as dark as air and
enclosed, so they are no background. A mask that is moved, mirrored or of another case lies on it in part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from shards.console import plural
from shards.report.findings.finding import Finding, Measured, Value, keys_of
from shards.report.findings.series import Series, View

_MODALITIES: Final = ("ct", "fundus_photography", "mr", "pet")
"""Where what is dark and open to the edge is no tissue: in ultrasound it may be blood, in X-ray lung."""
_DARK: Final = 0.04
"""Of the range of the image: air in CT of -1024 to 1500 HU has up to 10 of 255 levels."""
MOSTLY: Final = 0.5
"""Part of a mask that must lie there: outlines of skin and of what touches it lie there with less."""
OFTEN: Final = 0.1
"""Part of the masks of a class: airways and noses are open to the air in some slices."""
FEWEST: Final = 3
"""Such masks, so that one alone says nothing of a source."""
MEANING: Final = "the part of the class's masks that lie for more than half on what is dark and open to the edge"
REASON: Final = "skin and what touches it lie there in part, and airways in some slices"


def background(view: View) -> npt.NDArray[np.bool_]:
    """(H, W): what is dark and reaches the edge of the image."""
    dark = (view.grey < _DARK).astype(np.uint8)
    _, parts = cv2.connectedComponents(dark, connectivity=4)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    reaching = np.unique(edge[edge > 0])
    return np.isin(parts, reaching) if len(reaching) else np.zeros(view.grey.shape, np.bool_)


def measure(series: Series) -> Iterator[tuple[str, Value]]:
    """See `Check.measure`: the part of each mask on the background."""
    for view in series.views if series.modality in _MODALITIES else ():
        behind = background(view)
        for label, mask in view.masks.items():
            if mask.any():
                yield label, Value(view.key, series.case, float(behind[mask].mean()))


def judge(measured: Measured) -> Iterator[Finding]:
    """See `Check.judge`: classes many of whose masks lie there."""
    for group, values in measured.items():
        there = sorted((one for one in values if one.value > MOSTLY), key=lambda one: -float(one.value))
        share = len(there) / len(values)
        if share > OFTEN and len(there) >= FEWEST:
            yield Finding(
                check="background",
                source=group.source,
                of=group.of,
                measure=share,
                threshold=OFTEN,
                found=len(there),
                looked_at=len(values),
                examples=keys_of(there),
                sentence=f"{plural(len(there), 'mask')} of {group.of} for the most part on the dark around it: "
                "look for masks that are shifted, mirrored or of other cases",
            )
