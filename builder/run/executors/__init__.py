"""Executors turn cases into pieces. They are found by name; a new one is a module and an entry in `EXECUTORS`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from builder.run.batch import Batch, Outcome
    from builder.run.options import Options


class Executor(Protocol):
    """What an executor does.

    It decides where and when batches are converted, and which of their processes are tried again. It never reads an
    image and never writes a shard: `builder.run.work.convert_batch` converts a batch, wherever it is called, and leaves
    the samples below the output folder, which all processes must see under one path.
    """

    def run(self, batches: Sequence[Batch], out: Path) -> Generator[Outcome, None, None]:
        """Convert batches in any order.

        A process that dies costs the case it died over, after some attempts of the executor's own number
        (`builder.run.executors.attempts` counts them): its outcome is a quarantined case, which the next build tries
        again. The cases that it had finished before stay finished. A case that takes longer than
        ``Options.case_seconds`` is given up likewise. When the caller closes the iterator, all processes end.

        Args:
            batches: What is to be converted.
            out: Output folder.

        Yields:
            What became of each case, once, as soon as its samples can be read by others.

        Raises:
            WorkerLostError: Processes or nodes die without getting anything done, or cannot be reached.
            OSError: The output folder cannot be written.
        """
        ...


class ExecutorModule(Protocol):
    """What the module of an executor offers to the command line."""

    def add_options(self, parser: argparse.ArgumentParser, /) -> None:
        """Declare its own options, named ``--NAME-...``."""
        ...

    def from_options(self, chosen: argparse.Namespace, options: Options, /) -> Executor:
        """Make the executor.

        Args:
            chosen: All options of the command line, its own among them.
            options: Those that all executors share.
        """
        ...


# mypy checks each module against `ExecutorModule` here; modules import what they work with when they run


def _local() -> ExecutorModule:
    from builder.run.executors import local  # noqa: PLC0415

    return local


def _ray() -> ExecutorModule:
    from builder.run.executors import ray  # noqa: PLC0415

    return ray


def _slurm() -> ExecutorModule:
    from builder.run.executors import slurm  # noqa: PLC0415

    return slurm


EXECUTORS: Final[dict[str, Callable[[], ExecutorModule]]] = {"local": _local, "ray": _ray, "slurm": _slurm}
"""Name on the command line -> what gives its module."""
