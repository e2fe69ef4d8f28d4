"""Work that threads do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
_WAITING: Final = 1 << 12
"""Values that are handed to threads at once."""


def mapped(pool: ThreadPoolExecutor, function: Callable[[_T], _R], values: Sequence[_T]) -> Iterator[_R]:
    """What a function gives for values, in their order; of millions only some wait for a thread at a time."""
    for start in range(0, len(values), _WAITING):
        yield from pool.map(function, values[start : start + _WAITING])
