"""What the names of the release's files say.

``images/{modality}_{submodality}--{source}--{case}--{axis}_{slice}.png`` is an image, and the same with
``--{class}_{instance}`` in ``masks/`` a mask of it. The older naming is that of the data that came with the code of
SAM-Med2D (``data_demo``): ``images/{case}_{slice}.png`` and ``masks/{case}_{slice}_{class name}_{instance}.png``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from builder.sources.metadata import NAME
from sa_med2d_20m import MODALITIES

IMAGES: Final = "images/"
MASKS: Final = "masks/"
_NUMBER: Final = r"(?:\d{4}|[1-9]\d{4,})"
_INSTANCE: Final = r"(?:\d{3}|[1-9]\d{3,})"
_RELEASE: Final = re.compile(
    rf"(?P<folder>images|masks)/(?P<tag>[A-Za-z0-9_]+)--(?P<source>{NAME.pattern})--(?P<case>[^/]+?)"
    rf"--(?P<place>[xyz]_{_NUMBER}|2d_none)(?:--(?P<label>{_NUMBER})_(?P<instance>{_INSTANCE}))?\.png",
    re.DOTALL,
)
_OLDER_IMAGE: Final = re.compile(r"images/(?P<case>[^/]+)\.png", re.DOTALL)
_OLDER_MASK: Final = re.compile(rf"masks/(?P<picture>[^/]+)_(?P<instance>{_INSTANCE})\.png", re.DOTALL)
_TAG: Final = re.compile(rf"(?P<modality>{'|'.join(MODALITIES)})(?:_(?P<submodality>[A-Za-z0-9]+(?:_[A-Za-z0-9]+)*))?")

Naming = Literal["release", "sam-med2d"]


@dataclass(frozen=True)
class Tag:
    """A modality with its sub-modality, as the release writes it: ``mr_t1``, or ``x_ray`` where there is none.

    Attributes:
        modality: One of `sa_med2d_20m.MODALITIES`.
        submodality: ``00`` where there is none.
    """

    modality: str
    submodality: str

    @classmethod
    def parse(cls, text: str) -> Tag | None:
        """Read one; None where the modality is none that we know.

        >>> Tag.parse("fundus_photography"), Tag.parse("mr_t1")
        (Tag(modality='fundus_photography', submodality='00'), Tag(modality='mr', submodality='t1'))
        """
        found = _TAG.fullmatch(text)
        return None if found is None else cls(found["modality"], found["submodality"] or "00")


@dataclass(frozen=True)
class FileName:
    """What the name of a file says.

    Attributes:
        is_mask: Whether it is a mask.
        tag: Modality and sub-modality as written.
        source: Name of the source.
        case: Name of the case.
        axis: ``x``, ``y``, ``z``, or ``2d`` for a picture.
        index: Number of the slice along the axis, None for a picture.
        label: Class of a mask: four digits in the release, its name in the older naming; empty for an image.
        instance: Number of a mask within its class and image; 0 for an image.
    """

    is_mask: bool
    tag: str
    source: str
    case: str
    axis: str
    index: int | None
    label: str = ""
    instance: int = 0


def parse(path: str) -> FileName | None:
    """Read a name of the release, below its top folder; None where it is none.

    >>> parse("masks/mr_t1--BraTS2021--BraTS2021_00218--z_0141--0011_000.png").label
    '0011'
    """
    found = _RELEASE.fullmatch(path)
    if found is None:
        return None
    folder, tag, source, case, place, label, instance = found.groups()
    if (folder == "masks") != (label is not None):
        return None
    axis, _, index = place.partition("_")
    number = None if axis == "2d" else int(index)
    return FileName(folder == "masks", tag, source, case, axis, number, label or "", int(instance or 0))


def stem_of(path: str) -> str:
    """The name of an image without folder and ending: what names of its masks begin with."""
    return path.removeprefix(IMAGES).removesuffix(".png")


def older_image(path: str, tag: str, source: str) -> FileName | None:
    """Read the name of an image in the older naming, which says neither modality nor source.

    The number at its end is a slice of an axis that the name does not tell, so each image is a picture of its own.
    """
    found = _OLDER_IMAGE.fullmatch(path)
    return None if found is None else FileName(False, tag, source, found["case"], "2d", None)


def older_mask(path: str, images: frozenset[str], tag: str, source: str) -> FileName | None:
    """Read the name of a mask in the older naming.

    Args:
        path: The path.
        images: Stems of all images: names of classes hold underscores and digits, so only they tell where one begins.
        tag: As in `older_image`.
        source: Likewise.
    """
    found = _OLDER_MASK.fullmatch(path)
    if found is None:
        return None
    text, end = found["picture"], len(found["picture"])
    while (end := text.rfind("_", 0, end)) > 0:  # the longest stem that is an image's
        if text[:end] in images and end + 1 < len(text):
            instance = int(found["instance"])
            return FileName(True, tag, source, text[:end], "2d", None, text[end + 1 :], instance)
    return None
