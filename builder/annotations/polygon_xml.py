"""Polygons in XML, as ASAP and Aperio ImageScope write them; both count pixels from the corner of the image.

ASAP: ``ASAP_Annotations`` with ``Annotation`` elements of a type and a group, and ``Coordinate`` elements (X, Y).
Aperio: ``Annotations`` with ``Annotation`` elements, each a layer, that hold ``Region`` elements with ``Vertex``
elements (X, Y); what is cut out of the others of its layer has NegativeROA 1.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from builder.annotations.polygons import checked_polygon, draw_polygons
from builder.annotations.segments import AnnotationRequest, NamedMasks, Segment
from builder.annotations.untrusted_xml import parse
from builder.errors import UnreadableError
from builder.readers.image import Picture, Volume

_MEMORY: Final = 16
"""Most bytes that Python takes for each byte of a file once its polygons are lists."""
_ASAP: Final = "ASAP_Annotations"
_APERIO: Final = "Annotations"
"""Names of the outermost elements."""
_OUTLINES: Final = frozenset({"Polygon", "Spline", "Rectangle"})
"""Types of ASAP that enclose something; a spline is drawn through its corners."""
_FREEHAND: Final = "0"
_RECTANGLE: Final = "1"
"""Types of Aperio that are given by their corners."""
_NO_GROUP: Final = ("", "None")


@dataclass
class _Outline:
    """A polygon, as it is being read.

    Attributes:
        where: For errors: the how-manieth of the file.
        name: Of its class.
        layer: Number of the annotation that it stands in.
        negative: Whether it is cut out of the others of its layer.
        corners: x, y, x, y ... in pixels.
    """

    where: str
    name: str
    layer: int
    negative: bool = False
    corners: list[float] = field(default_factory=list)


class _Outlines:
    """Takes the outlines from a file, element by element."""

    def __init__(self) -> None:
        self.found: list[_Outline] = []
        self._path: list[str] = []
        self._layer = 0
        self._name = ""

    def start(self, tag: str, values: dict[str, str]) -> None:
        if not self._path and tag not in (_ASAP, _APERIO):
            raise UnreadableError(f"its outermost element is no {_ASAP} (ASAP) and no {_APERIO} (Aperio)")
        asap = bool(self._path) and self._path[0] == _ASAP
        if tag == "Annotation":
            self._layer += 1
            group = values.get("PartOfGroup", "")
            self._name = values.get("Name", "") if group in _NO_GROUP else group
            if asap:
                self._begin(values.get("Type", ""), _OUTLINES)
        elif tag == "Attribute" and self._path[-2:] == ["Annotation", "Attributes"]:
            self._name = values.get("Value", "").strip() or values.get("Name", "").strip() or self._name
        elif tag == "Region" and not asap:
            self._begin(values.get("Type", _FREEHAND), {_FREEHAND, _RECTANGLE})
            self.found[-1].negative = values.get("NegativeROA", "0") == "1"
            self.found[-1].name = values.get("Text", "").strip() or self._name
        elif tag == "Attribute" and self._path[-2:] == ["Region", "Attributes"]:
            self.found[-1].name = values.get("Value", "").strip() or self.found[-1].name
        elif tag in ("Coordinate", "Vertex") and self.found:
            self._corner(values)
        self._path.append(tag)

    def end(self, _tag: str) -> None:
        self._path.pop()

    def _begin(self, kind: str, known: Set[str]) -> None:
        where = f"outline {len(self.found) + 1}"
        if kind not in known:
            raise UnreadableError(
                f"{where} is of type {kind[:40]!r}, expected {' or '.join(sorted(known))}",
                withheld=f"{where} is of another type than {' or '.join(sorted(known))}",
            )
        self.found.append(_Outline(where, self._name, self._layer))

    def _corner(self, values: dict[str, str]) -> None:
        outline = self.found[-1]
        try:  # some programmes write decimals as the country does
            outline.corners += [float(values[axis].replace(",", ".")) for axis in ("X", "Y")]
        except (KeyError, ValueError):
            raise UnreadableError(f"{outline.where}: a coordinate is no number") from None


def read_named_masks(path: Path, request: AnnotationRequest) -> NamedMasks:
    """The outlines of a picture, named by group (ASAP), or by region or layer (Aperio); see `NamedMaskReader`."""
    request.rules.check_bytes(_MEMORY * path.stat().st_size)
    outlines = _Outlines()
    parse(path, outlines, writers="neither ASAP nor Aperio write")
    return NamedMasks(partial(_segments_on, outlines.found))


def _segments_on(outlines: Sequence[_Outline], image: Picture | Volume) -> list[Segment]:
    if isinstance(image, Volume):
        raise UnreadableError("outlines in XML are about pictures, but the image is a volume")
    shape = image.array.shape[0], image.array.shape[1]
    holes: dict[int, list[list[float]]] = {}
    for one in outlines:
        checked_polygon(one.corners, one.where)
        if one.negative:
            holes.setdefault(one.layer, []).append(one.corners)
    return [
        Segment(one.name, partial(_draw, one.corners, holes.get(one.layer, []), shape))
        for one in outlines
        if not one.negative
    ]


def _draw(corners: list[float], holes: list[list[float]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    return draw_polygons([corners], shape) & ~draw_polygons(holes, shape)
