"""Images that stand in a source of the release under two names."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from builder.errors import UnreadableError
from builder.release.names import IMAGES, stem_of
from builder.release.place import Place, Reader
from builder.release.rows import PackedCase, Row

_END: Final = 24
"""Bytes at the end of a PNG that hold the check sums of its pixels (zlib) and of their chunk."""
_MASK64: Final = 2**64 - 1


def twins_among(cases: Sequence[PackedCase], place: Place) -> tuple[list[PackedCase], int]:
    """Leave out of a source each image that it has under an earlier name too, with the same masks.

    Two images are the same if their files are and they have the same place: alike slices of a volume are slices. Those
    of one size and check sum are read and compared. In a folder, of which check sums are not known, the end of a PNG,
    which holds two, stands in their place. If masks differ, both stay, as nothing is lost then.

    Args:
        cases: The cases of a source, in order.
        place: Where they lie.

    Returns:
        The cases without them, and how many there were.
    """
    groups = [same for group in _alike(cases) for same in _ending_alike(group, place)]
    if not groups:
        return list(cases), 0
    reader = place.open()

    @lru_cache(maxsize=16)
    def masks_of(number: int) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in cases[number].rows:
            if not row.path.startswith(IMAGES):
                found[_picture(row)].append(row)
        return found

    gone: dict[int, set[str]] = defaultdict(set)
    for group in groups:
        firsts: dict[bytes, str] = {}
        for number, row in group:
            content = _content(row, masks_of(number).get(stem_of(row.path), ()), reader)
            if content is not None and firsts.setdefault(content, row.path) != row.path:
                gone[number].add(stem_of(row.path))
    kept = []
    for number, case in enumerate(cases):
        rows = [row for row in case.rows if _picture(row) not in gone[number]] if number in gone else None
        if rows is None or rows:
            kept.append(case if rows is None else case.holding(rows))
    return kept, sum(map(len, gone.values()))


def _alike(cases: Sequence[PackedCase]) -> list[list[tuple[int, Row]]]:
    """Images of one size, check sum and place, with the numbers of their cases.

    Only a hash of each image is kept until it is known which of them are alike.
    """
    marks = array("Q", (hash(_mark(row)) & _MASK64 for case in cases for row in case.rows if _is_image(row)))
    values, counts = np.unique(np.frombuffer(marks, np.uint64), return_counts=True) if marks else ((), ())
    several = {int(value) for value, count in zip(values, counts, strict=True) if count > 1}
    found: dict[tuple[int, int, str], list[tuple[int, Row]]] = defaultdict(list)
    for number, case in enumerate(cases) if several else ():
        for row in case.rows:
            if _is_image(row) and hash(_mark(row)) & _MASK64 in several:
                found[_mark(row)].append((number, row))
    return [group for group in found.values() if len(group) > 1]


def _mark(image: Row) -> tuple[int, int, str]:
    """Size, check sum, and axis and slice of an image."""
    return image.size, image.crc32, stem_of(image.path).rpartition("--")[2]


def _is_image(row: Row) -> bool:
    return row.path.startswith(IMAGES)


def _ending_alike(group: list[tuple[int, Row]], place: Place) -> list[list[tuple[int, Row]]]:
    """Images of one size by the ends of their files; of an archive all, as their check sums are the same already."""
    if place.archive is not None:
        return [group]
    found: dict[bytes, list[tuple[int, Row]]] = defaultdict(list)
    for number, row in group:
        try:
            with (place.path / row.path).open("rb") as file:
                file.seek(-min(_END, row.size), os.SEEK_END)
                found[file.read()].append((number, row))
        except OSError:  # the conversion says why
            continue
    return [same for same in found.values() if len(same) > 1]


def _content(image: Row, masks: Sequence[Row], reader: Reader) -> bytes | None:
    """Hash of what an image and its masks hold, by class and instance; None where a file cannot be read."""
    digest = hashlib.sha256()
    try:
        for row in (image, *masks):
            end = b"" if row is image else row.path.rpartition("--")[2].encode()
            content = reader.read(row)
            digest.update(len(content).to_bytes(8, "big") + content + end)
    except UnreadableError:  # the conversion says which
        return None
    return digest.digest()


def _picture(row: Row) -> str:
    """The image that a file is, or is a mask of, by its stem."""
    if _is_image(row):
        return stem_of(row.path)
    return row.path.removeprefix("masks/").rpartition("--")[0]
