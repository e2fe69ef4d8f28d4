"""Images that stand in a source of the release under two names."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeVar

from builder.errors import UnreadableError
from builder.release.names import IMAGES, stem_of
from builder.release.place import Place, Reader
from builder.release.rows import Row

_Case = TypeVar("_Case")
_END: Final = 24
"""Bytes at the end of a PNG that hold the check sums of its pixels (zlib) and of their chunk."""
_Cases = list[tuple[_Case, list[Row]]]


def twins_among(cases: _Cases[_Case], place: Place) -> tuple[_Cases[_Case], int]:
    """Leave out of a source each image that it has under an earlier name too, with the same masks.

    Two images are the same if their files are and they have the same place: alike slices of a volume are slices. Those
    of one size and check sum are read and compared. In a folder, of which check sums are not known, the end of a PNG,
    which holds two, stands in their place. If masks differ, both stay, as nothing is lost then.

    Args:
        cases: The cases of a source, in order, each with its files.
        place: Where they lie.

    Returns:
        The cases without them, and how many there were.
    """
    alike: dict[tuple[int, int, str], list[tuple[int, Row]]] = defaultdict(list)
    for number, (_, rows) in enumerate(cases):
        for row in rows:
            if row.path.startswith(IMAGES):
                alike[row.size, row.crc32, _place(row)].append((number, row))
    several = [same for group in alike.values() if len(group) > 1 for same in _ending_alike(group, place)]
    if not several:
        return cases, 0
    reader = place.open()

    @lru_cache(maxsize=16)
    def masks_of(number: int) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in cases[number][1]:
            if not row.path.startswith(IMAGES):
                found[_picture(row)].append(row)
        return found

    gone: set[str] = set()
    for group in several:
        firsts: dict[bytes, str] = {}
        for number, row in group:
            content = _content(row, masks_of(number).get(stem_of(row.path), ()), reader)
            if content is not None and firsts.setdefault(content, row.path) != row.path:
                gone.add(stem_of(row.path))
    kept = [(case, [row for row in rows if _picture(row) not in gone]) for case, rows in cases]
    return [(case, rows) for case, rows in kept if rows], len(gone)


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


def _place(image: Row) -> str:
    """Axis and slice of an image, by its name."""
    return stem_of(image.path).rpartition("--")[2]


def _picture(row: Row) -> str:
    """The image that a file is, or is a mask of, by its stem."""
    if row.path.startswith(IMAGES):
        return stem_of(row.path)
    return row.path.removeprefix("masks/").rpartition("--")[0]
