"""Executors map shard tasks to receipts. They are found by name; a new one is a module and an entry in `EXECUTORS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from builder.executors.local import LocalExecutor
from builder.plan import Task
from builder.task import CaseDone
from shards.receipt import Receipt


class Executor(Protocol):
    """What an executor does."""

    def run(self, tasks: Sequence[Task], on_case: Callable[[CaseDone], None]) -> Iterator[Receipt]:
        """Build the tasks in any order.

        Args:
            tasks: The shards to build.
            on_case: Called in the calling process, from any thread, after each case.

        Yields:
            The receipt of each shard as it is finished.

        Raises:
            CaseError: In a strict build, at the first case that cannot be built.
            WorkerLostError: Worker processes die without working on anything.
        """
        ...


EXECUTORS: Final = {"local": LocalExecutor}
"""Name on the command line -> class, made with ``(out, workers, strict, seconds_per_case)``."""
