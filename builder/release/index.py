"""The release's own list of its images and masks, beside what is really there.

``SAMed2D_v1.json`` has two gigabytes for the whole release, so it is read in pieces and never parsed as a whole.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

_NAME: Final = re.compile(rb'"((?:images|masks)\\?/(?:[^"\\]|\\.)+\.png)"')
_PIECE: Final = 4 << 20
_LONGEST: Final = 1 << 16
"""Bytes of a name, with what JSON makes of its letters."""
_MASK64: Final = 2**64 - 1


def index_of(root: Path) -> Path | None:
    """The list of an unpacked release, None where it is not there."""
    return next((path for path in sorted(root.glob("SAMed2D_v*.json")) if "class_mapping" not in path.name), None)


def names_in(path: Path) -> Iterator[str]:
    """The paths that a list names, images and masks, in its order; raises OSError."""
    with path.open("rb") as file:
        kept = b""
        while data := file.read(_PIECE):
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
        there = np.sort(np.frombuffer(self._marks, np.uint64)) if self._marks else np.zeros(0, np.uint64)
        for name in names:
            mark = np.uint64(hash(name) & _MASK64)
            at = int(np.searchsorted(there, mark))
            if at == len(there) or there[at] != mark:
                yield name
