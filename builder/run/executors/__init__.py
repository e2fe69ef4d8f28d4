"""Executors map shard tasks to receipts. They are found by name; a new one is a module and an entry in `EXECUTORS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from builder.run.executors.local import LocalExecutor
from builder.run.executors.ray import RayExecutor
from builder.run.options import Options
from builder.run.plan import Task
from builder.run.shard import CaseDone
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
            WorkerLostError: Processes or nodes die without getting anything done, or cannot be reached.
        """
        ...


EXECUTORS: Final[dict[str, Callable[[Path, Options], Executor]]] = {"local": LocalExecutor, "ray": RayExecutor}
"""Name on the command line -> class, made with ``(out, options)``."""
