"""A set of images whose copies are looked for: fingerprints, what each belongs to, and a way to its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shards.duplicates.fingerprint import EXACT_BYTES, FRAMINGS
from shards.duplicates.sign_hash import WORDS

COLUMNS: Final = ("key", "source", "patient", "case", "split")
"""What is known of an image; of a file in a folder only its name, as the key."""
Read = Callable[[int], npt.NDArray[Any]]
"""Gives the pixels of an image by its number; may be called in threads."""


@dataclass(frozen=True)
class Images:
    """Images, in order. All arrays have one entry for each.

    Attributes:
        about: A table with `COLUMNS`, null where nothing is known.
        exact: (N, 2) uint64, see `shards.duplicates.fingerprint.Fingerprint`.
        hashes: (N, 3, 2) uint64.
        case: (N,) number of the case: images of one case are no copies of each other.
        volume: (N,) number of the volume and axis that it is a slice of; -1 for a picture.
        position: (N,) number of the slice.
        volumes: Names of the volumes, by their numbers: the keys of their slices without the number.
        read: Gives the pixels.
    """

    about: pa.Table
    exact: npt.NDArray[np.uint64]
    hashes: npt.NDArray[np.uint64]
    case: npt.NDArray[np.int32]
    volume: npt.NDArray[np.int32]
    position: npt.NDArray[np.int32]
    volumes: list[str]
    read: Read

    def __len__(self) -> int:
        return len(self.case)


def exact_words(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """(N, 2): hashes that a table holds as bytes."""
    return _words(column, EXACT_BYTES).reshape(-1, 2)


def hash_words(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """(N, 3, 2): hashes that a table holds as bytes."""
    size = len(FRAMINGS) * WORDS * 8
    return _words(column, size).reshape(-1, len(FRAMINGS), WORDS)


def _words(column: pa.ChunkedArray, size: int) -> npt.NDArray[np.uint64]:
    parts = []
    for chunk in column.chunks:
        data = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)
        parts.append(data[chunk.offset * size : (chunk.offset + len(chunk)) * size].view(np.uint64))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)
