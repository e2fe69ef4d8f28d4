"""A mask as one polygon that draws it again: holes and parts are reached by lines that are walked forth and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

_Points = npt.NDArray[np.int32]
_AT_ONCE = 1 << 22
"""Distances that are computed at once."""


def outline(mask: npt.NDArray[np.bool_]) -> _Points:
    """The polygon of a mask: ``cv2.fillPoly`` draws the same pixels, as long as the mask is one 8-connected part.

    The line to a hole lies within the mask, so it costs nothing: from the leftmost pixel at the edge of the hole to the
    left, as far as the mask goes, where another contour is. Lines between parts cross the background, and their pixels
    count as mask.

    Args:
        mask: (H, W), not empty.

    Returns:
        (points, 2) x, y of pixels, at least three points.
    """
    pixels = mask.view(np.uint8)
    found, above = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if len(found) == 1:
        polygon: _Points = found[0].reshape(-1, 2).astype(np.int32)
    else:
        found, above = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        contours = [
            _Contour(points.reshape(-1, 2).astype(np.int32), bool(of[3] >= 0))
            for points, of in zip(found, above[0], strict=True)
        ]
        polygon = _corners(_joined(_with_holes(mask, contours)))
    return np.concatenate([polygon] * 3)[:3] if len(polygon) < 3 else polygon


@dataclass(frozen=True)
class _Contour:
    """A contour of `cv2.findContours` with all its pixels; of a hole they are pixels of the mask too."""

    pixels: _Points
    is_hole: bool

    @cached_property
    def points(self) -> list[tuple[int, int]]:
        """x, y in order; a hole begins at its leftmost."""
        first = int(self.pixels[:, 0].argmin()) if self.is_hole else 0
        return [(x, y) for x, y in np.roll(self.pixels, -first, axis=0).tolist()]

    @cached_property
    def first_places(self) -> dict[tuple[int, int], int]:
        """Point -> where it comes first."""
        return {point: at for at, point in reversed(list(enumerate(self.points)))}


_Hung = Mapping[int, Mapping[int, Sequence[int]]]
"""Number of a contour -> place in it -> numbers of the holes that are reached from there."""


def _with_holes(mask: npt.NDArray[np.bool_], contours: Sequence[_Contour]) -> list[_Points]:
    """The outer contours, each with its holes."""
    outer = [at for at, one in enumerate(contours) if not one.is_hole]
    # what ends a row of the mask to the left of a hole is the outside, or a hole that begins further to the left
    holes = sorted((at for at, one in enumerate(contours) if one.is_hole), key=lambda at: contours[at].points[0])
    owners = {point: at for at in outer for point in contours[at].first_places}
    hung: dict[int, dict[int, list[int]]] = {at: {} for at in range(len(contours))}
    for at in holes:
        x, y = contours[at].points[0]
        background = np.flatnonzero(~mask[y, : x + 1])
        end = (int(background[-1]) + 1 if len(background) else 0, y)
        owner = owners[end]
        hung[owner].setdefault(contours[owner].first_places[end], []).append(at)
        for point in contours[at].first_places:
            owners.setdefault(point, at)
    return [np.array(list(_walk(at, contours, hung)), np.int32) for at in outer]


def _walk(start: int, contours: Sequence[_Contour], hung: _Hung) -> Iterator[tuple[int, int]]:
    """A contour, with a way round each hole that hangs on it, and on these; many may hang on each other."""
    waiting = [_steps(start, contours, hung)]
    while waiting:
        step = next(waiting[-1], None)
        if step is None:
            waiting.pop()
        elif isinstance(step, int):
            waiting.append(_steps(step, contours, hung))
        else:
            yield step


def _steps(at: int, contours: Sequence[_Contour], hung: _Hung) -> Iterator[tuple[int, int] | int]:
    """Points of a contour, and numbers of holes where the way goes round these; a hole ends where it began."""
    points = contours[at].points
    for number, point in enumerate(points):
        yield point
        for hole in hung[at].get(number, ()):
            yield hole
            yield point
    if contours[at].is_hole:
        yield points[0]


def _joined(parts: Sequence[_Points]) -> _Points:
    """Parts as one, each reached from the nearest pixel of those before it."""
    whole = parts[0]
    for part in parts[1:]:
        here, there = _nearest(whole, part)
        way = np.concatenate([np.roll(part, -there, axis=0), part[there : there + 1]])
        whole = np.concatenate([whole[: here + 1], way, whole[here:]])
    return whole


def _nearest(points: _Points, others: _Points) -> tuple[int, int]:
    """Where two lists of points come nearest to each other."""
    best, found = np.inf, (0, 0)
    step = max(1, _AT_ONCE // len(others))
    for start in range(0, len(points), step):
        block = points[start : start + step].astype(np.int64)
        distances = ((block[:, None] - others[None]) ** 2).sum(axis=2)
        at = int(distances.argmin())
        if distances.flat[at] < best:
            best = float(distances.flat[at])
            found = (start + at // len(others), at % len(others))
    return found


def _corners(points: _Points) -> _Points:
    """The points where a closed way turns."""
    steps = np.roll(points, -1, axis=0) - points
    points, steps = points[steps.any(axis=1)], steps[steps.any(axis=1)]  # none that stand still
    if not len(points):
        return points
    ahead = steps // np.gcd(steps[:, 0], steps[:, 1])[:, None]
    turns: npt.NDArray[np.bool_] = (ahead != np.roll(ahead, 1, axis=0)).any(axis=1)
    return points[turns]
