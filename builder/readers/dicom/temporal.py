"""DICOM series of several volumes in one place: points in time, heart phases, echoes, diffusion weightings.

Positions do not tell such volumes apart; what does is the first of `ORDERS` that has another value for each image at a
place. What else the images say of time, echo and weighting must then agree within each volume. Standard: DICOM PS3.3
C.7.6.13 (Temporal Position), C.8.3.1 (MR Image), C.7.6.18 (Cardiac Synchronization), C.7.6.16.2.2 (Frame Content).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydicom.dataset import Dataset

from builder.errors import UnreadableError
from builder.readers.dicom.file import quiet, text_of

ATTRIBUTES: Final = (
    "AcquisitionNumber",
    "DiffusionBValue",
    "EchoTime",
    "FrameContentSequence",
    "ImageType",
    "InstanceNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
)
"""Every attribute that is read: numbers, and what kind of image it is. No date and no time of day."""


@dataclass(frozen=True)
class Moment:
    """What tells an image from others at the same place; None where it does not say.

    Attributes:
        position: Temporal position, from 1.
        trigger: Milliseconds since the heart's last R wave.
        echo: Echo time in ms.
        weighting: Diffusion b-value in s/mm2.
        acquisition: Acquisition number.
        instance: Instance number, or the number of the frame in its file.
        kind: Image type, such as original, primary, in phase.
    """

    position: float | None
    trigger: float | None
    echo: float | None
    weighting: float | None
    acquisition: float | None
    instance: float | None
    kind: str


ORDERS: Final = ("position", "trigger", "echo", "weighting", "acquisition", "instance")
"""Attributes of `Moment` that may order the images at a place, the most telling first."""
_AGREEING: Final = {
    "position": "points in time",
    "echo": "echo times",
    "weighting": "b-values",
    "kind": "image types",
}
"""Attribute -> what it is called, of those that are the same all over a volume."""


def moments_of(dataset: Dataset, count: int) -> Iterator[Moment]:
    """What each frame of a file says; what the file says of all is read once, as a slide may have thousands."""
    whole = Moment(
        position=_number(dataset, "TemporalPositionIdentifier"),
        trigger=_number(dataset, "TriggerTime"),
        echo=_number(dataset, "EchoTime"),
        weighting=_number(dataset, "DiffusionBValue"),
        acquisition=_number(dataset, "AcquisitionNumber"),
        instance=_number(dataset, "InstanceNumber"),
        kind=text_of(dataset, "ImageType"),
    )
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    for number in range(count):
        content = next(iter(groups[number].get("FrameContentSequence") or []), Dataset()) if groups else Dataset()
        index = _number(content, "TemporalPositionIndex")
        position = whole.position if index is None else index
        yield replace(whole, position=position, instance=whole.instance if count == 1 else float(number))


def _number(dataset: Dataset, keyword: str) -> float | None:
    """A number, None where there is none or it is damaged: most series are in order without it."""
    if keyword not in dataset:
        return None
    try:
        with quiet():
            number = float(dataset[keyword].value)
    except Exception:  # values are decoded on access, and damaged ones raise nearly anything
        return None
    return number if math.isfinite(number) else None


def volumes_of(places: Sequence[int], moments: Sequence[Moment]) -> list[list[int]]:
    """Tell the volumes of a series apart.

    Args:
        places: Number of the place of each image.
        moments: What each image says.

    Returns:
        The numbers of the images of each volume, by place.

    Raises:
        UnreadableError: Unlike numbers of images at the places, or nothing orders them.

    >>> first, second = (Moment(None, None, None, None, None, instance, "") for instance in (1.0, 2.0))
    >>> volumes_of([0, 0, 1, 1], [second, first, first, second])
    [[1, 2], [0, 3]]
    """
    at: defaultdict[int, list[int]] = defaultdict(list)
    for image, place in enumerate(places):
        at[place].append(image)
    counts = {len(images) for images in at.values()}
    if len(counts) > 1:
        raise UnreadableError(
            f"it holds {len(places)} images at {len(at)} places, so some places are taken twice: expected one image at "
            "each; remove the copies, or put each volume into its own folder"
        )
    if counts == {1}:
        return [[at[place][0] for place in sorted(at)]]
    order = next((name for name in ORDERS if _tells_apart(name, at.values(), moments)), None)
    each = f"it holds {counts.pop()} images at each of {len(at)} places: several volumes, as phases or echoes are"
    if order is None:
        raise UnreadableError(f"{each}, and nothing that they say tells these apart; put each into its own folder")
    by_place = [sorted(at[place], key=lambda image: getattr(moments[image], order)) for place in sorted(at)]
    volumes = [list(images) for images in zip(*by_place, strict=True)]
    for name, called in _AGREEING.items():
        if any(len({getattr(moments[image], name) for image in images}) > 1 for images in volumes):
            raise UnreadableError(
                f"{each}, but put in order by {order} one of these has images of several {called}; put each into its "
                "own folder"
            )
    return volumes


def _tells_apart(name: str, together: Iterable[list[int]], moments: Sequence[Moment]) -> bool:
    """Whether an attribute has another value for each of the images at a place."""
    for images in together:
        values = {getattr(moments[image], name) for image in images}
        if None in values or len(values) < len(images):
            return False
    return True
