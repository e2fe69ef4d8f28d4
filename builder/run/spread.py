"""One question asked of many files, on several processes: libraries that read files set what is of the process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final, TypeVar

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

_CHUNK: Final = 16


def spread(ask: Callable[[_Item], _Answer], items: Sequence[_Item], *, workers: int, worth: int) -> Iterator[_Answer]:
    """Ask a question of each item.

    Args:
        ask: The question; a function of a module, or a `functools.partial` of one.
        items: Of whom it is asked.
        workers: Number of processes.
        worth: Below so many items, to start processes takes longer than they save: then this process asks.

    Yields:
        The answers, in the order of the items.
    """
    if workers == 1 or len(items) < worth:
        yield from map(ask, items)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(ask, items, chunksize=min(_CHUNK, -(-len(items) // workers)))
