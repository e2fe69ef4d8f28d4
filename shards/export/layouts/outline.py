"""A mask as one polygon that draws it again: holes and parts are reached by lines that are walked forth and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

_Points = npt.NDArray[np.int32]
_AT_ONCE: Final = 1 << 22
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
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    crop = np.ascontiguousarray(mask[y : y + height, x : x + width])
    polygon = _corners(_joined(_with_holes(crop))) + np.array([x, y], np.int32)
    return np.concatenate([polygon] * 3)[:3] if len(polygon) < 3 else polygon


def _with_holes(mask: npt.NDArray[np.bool_]) -> list[_Points]:
    """The outer contours with all their pixels, each with a way round its holes."""
    found, above = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    is_hole = [bool(of[3] >= 0) for of in above[0]]
    contours = [
        _from_leftmost(points.reshape(-1, 2).astype(np.int32)) if hole else points.reshape(-1, 2).astype(np.int32)
        for points, hole in zip(found, is_hole, strict=True)
    ]
    outer = [at for at, hole in enumerate(is_hole) if not hole]
    if len(outer) == len(contours):
        return contours
    # what ends a row of the mask to the left of a hole is the outside, or a hole that begins further to the left
    holes = sorted((at for at, hole in enumerate(is_hole) if hole), key=lambda at: tuple(contours[at][0].tolist()))
    owners, places = (np.zeros(mask.shape, np.int32) for _ in range(2))
    hung: dict[int, dict[int, list[int]]] = {at: {} for at in range(len(contours))}
    for at in (*outer, *holes):
        if is_hole[at]:
            x, y = contours[at][0].tolist()
            background = np.flatnonzero(~mask[y, : x + 1])
            end = int(background[-1]) + 1 if len(background) else 0
            hung[int(owners[y, end])].setdefault(int(places[y, end]), []).append(at)
        backwards = contours[at][::-1]  # of a pixel that comes twice the first place stays
        owners[backwards[:, 1], backwards[:, 0]] = at
        places[backwards[:, 1], backwards[:, 0]] = np.arange(len(backwards))[::-1]
    return [np.concatenate(list(_walk(at, contours, hung))) for at in outer]


def _from_leftmost(points: _Points) -> _Points:
    """The contour of a hole from its leftmost pixel on."""
    return np.roll(points, -int(points[:, 0].argmin()), axis=0)


_Hung = Mapping[int, Mapping[int, Sequence[int]]]
"""Number of a contour -> place in it -> numbers of the holes that are reached from there."""


def _walk(start: int, contours: Sequence[_Points], hung: _Hung) -> Iterator[_Points]:
    """A contour in pieces, with a way round each hole that hangs on it, and on these; many may hang on each other."""
    waiting = [_steps(contours[start], hung[start])]
    while waiting:
        step = next(waiting[-1], None)
        if step is None:
            waiting.pop()
        elif isinstance(step, int):
            waiting.append(_steps(np.concatenate([contours[step], contours[step][:1]]), hung[step]))
        else:
            yield step


def _steps(points: _Points, hung: Mapping[int, Sequence[int]]) -> Iterator[_Points | int]:
    """Pieces of a contour, and numbers of holes where the way goes round these; a hole ends where it began."""
    before = 0
    for place in sorted(hung):
        yield points[before : place + 1]
        for hole in hung[place]:
            yield hole
            yield points[place : place + 1]
        before = place + 1
    yield points[before:]


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
    moves = steps.any(axis=1)
    if not moves.any():  # a single pixel
        return points[:1]
    points, steps = points[moves], steps[moves]
    ahead = steps // np.gcd(steps[:, 0], steps[:, 1])[:, None]
    turns: npt.NDArray[np.bool_] = (ahead != np.roll(ahead, 1, axis=0)).any(axis=1)
    return points[turns]
