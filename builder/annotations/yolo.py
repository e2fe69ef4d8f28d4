"""YOLO segmentation labels: a text file beside each picture, a line for each object.

A line is the number of a class and the corners of a polygon, x and y as fractions of width and height. Format:
https://docs.ultralytics.com/datasets/segment/.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final

from builder.annotations.polygons import checked_polygon, draw_polygons
from builder.annotations.segments import AnnotationRequest, NamedMasks, Segment
from builder.errors import UnreadableError
from builder.readers.image import Picture, Volume

_BEYOND: Final = 0.01
"""How far, in fractions of a side, a corner may lie outside: tools round, and let outlines touch the border."""

_CLASS: Final = re.compile("[0-9]{1,9}")
_MEMORY: Final = 40
"""Most bytes that Python takes for each byte of a file once its polygons are lists."""


def read_named_masks(path: Path, request: AnnotationRequest) -> NamedMasks:
    """The objects of a picture, named by class number; see `builder.annotations.segments.NamedMaskReader`."""
    request.rules.check_bytes(_MEMORY * path.stat().st_size)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UnreadableError("no YOLO labels: it is no text") from None
    return NamedMasks(partial(_segments_on, lines))


def _segments_on(lines: list[str], image: Picture | Volume) -> list[Segment]:
    if isinstance(image, Volume):
        raise UnreadableError("YOLO labels are about pictures, but the image is a volume")
    shape = image.array.shape[0], image.array.shape[1]
    return [_segment(line, f"line {at}", shape) for at, line in enumerate(lines, 1) if line.strip()]


def _segment(line: str, where: str, shape: tuple[int, int]) -> Segment:
    number, *words = line.split()
    if not _CLASS.fullmatch(number):
        raise UnreadableError(f"{where}: expected a class number and the corners of a polygon")
    if len(words) == 4:
        raise UnreadableError(f"{where} has four numbers, a box; a box alone makes no mask")
    try:
        fractions = checked_polygon([float(word) for word in words], where)
    except ValueError:
        raise UnreadableError(f"{where}: a coordinate is no number") from None
    if not all(-_BEYOND <= fraction <= 1 + _BEYOND for fraction in fractions):
        raise UnreadableError(f"{where}: coordinates beyond 0 and 1, expected fractions of width and height")
    sides = (shape[1], shape[0]) * (len(fractions) // 2)
    polygon = [fraction * side for fraction, side in zip(fractions, sides, strict=True)]
    return Segment(number, partial(draw_polygons, [polygon], shape))
