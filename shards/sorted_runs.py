"""Runs of equal rows of sorted arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def starts(*columns: Array) -> Array:
    """Where rows begin that differ from the one before.

    >>> starts(np.array([7, 7, 9])).tolist(), starts(np.array([])).tolist()
    ([0, 2], [])
    """
    changes = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    found: Array = np.flatnonzero(np.concatenate([[True], changes])[: len(columns[0])])
    return found


def lengths(begins: Array, count: int) -> Array:
    """How many rows each run has.

    Args:
        begins: Where runs begin, see `starts`.
        count: How many rows there are.
    """
    found: Array = np.diff(begins, append=count)
    return found


def places(begins: Array, count: int) -> Array:
    """Which row of its run each row is, from 0.

    >>> places(np.array([0, 2]), 3).tolist()
    [0, 1, 0]
    """
    found: Array = np.arange(count) - np.repeat(begins, lengths(begins, count))
    return found
