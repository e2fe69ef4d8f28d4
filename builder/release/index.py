"""The release's own list of its images and masks, beside what is really there.

``SAMed2D_v1.json`` has two gigabytes for the whole release, so it is read in pieces and never parsed as a whole.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator
from itertools import compress, islice
from pathlib import Path
from typing import Final

import numpy as np

_NAME: Final = re.compile(rb'"((?:images|masks)\\?/(?:[^"\\]|\\.)+\.png)"')
_LONGEST: Final = 1 << 16
"""Bytes of a name, with what JSON makes of its letters."""
_MASK64: Final = 2**64 - 1
_AT_ONCE: Final = 1 << 16
"""Names that are looked up at once."""


def is_index(name: str) -> bool:
    """Whether a file is called as the list is, whatever folder it lies in."""
    name = name.rpartition("/")[2]
    return name.startswith("SAMed2D_v") and name.endswith(".json") and "class_mapping" not in name


def index_of(root: Path) -> Path | None:
    """The list of an unpacked release, None where it is not there."""
    return next((path for path in sorted(root.glob("*.json")) if is_index(path.name)), None)


def names_in(pieces: Iterable[bytes]) -> Iterator[str]:
    """The paths that a list names, images and masks, in its order.

    Args:
        pieces: Its content, one after another.
    """
    kept = b""
    for data in pieces:
        kept += data
        end = 0
        for found in _NAME.finditer(kept):
            end = found.end()
            yield _decoded(found[1])
        kept = kept[max(end, len(kept) - _LONGEST) :]


def _decoded(text: bytes) -> str:
    if b"\\" not in text:
        return text.decode("utf-8", "surrogateescape")
    try:
        return str(json.loads(b'"' + text + b'"'))
    except ValueError:  # no JSON, so no name either; what it names is not there
        return text.decode("utf-8", "backslashreplace")


class Paths:
    """The paths of all files that are there, as hashes: eight bytes each."""

    def __init__(self) -> None:
        self._marks = array("Q")

    def add(self, path: str) -> None:
        """Take in a path."""
        self._marks.append(hash(path) & _MASK64)

    def without(self, names: Iterable[str]) -> Iterator[str]:
        """Those names that none of these paths is."""
        there = np.unique(np.frombuffer(self._marks, np.uint64)) if self._marks else np.zeros(0, np.uint64)
        left = iter(names)
        while some := list(islice(left, _AT_ONCE)):
            marks = np.array([hash(name) & _MASK64 for name in some], np.uint64)
            at = np.searchsorted(there, marks)
            absent = at == len(there)
            absent[~absent] = there[at[~absent]] != marks[~absent]
            yield from compress(some, absent.tolist())
