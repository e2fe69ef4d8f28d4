"""Batches on the processes of this machine.

Each process has its own pipe, so that what one was doing when it died is known, and the others go on.
"""

from __future__ import annotations

import argparse
import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.run.executors.attempts import Attempt, Attempts, Recovery
from builder.run.options import Options
from shards.processes import follow_parent, one_thread, warm_context

if TYPE_CHECKING:
    from builder.run.batch import Batch, Outcome

MOST_DEATHS: Final = 3
"""How often a process may die over one case."""
_LOOK: Final = 1.0
"""Seconds between looks at cases that take too long."""
_WARM: Final = (
    "builder.run.work",
    "builder.readers.nifti",
    "builder.readers.picture",
    "nibabel.orientations",
    "pandas",  # PyArrow imports it with the first table, where it is installed
)
"""What nearly every worker needs: imported once, by the server that workers are forked from."""


class LocalExecutor:
    """Converts batches one after another in this process, or on several processes.

    Args:
        options: With one worker, or for a single batch, cases are converted in this process, unless a limit of time is
            set.
    """

    def __init__(self, options: Options) -> None:
        self._options = options

    def run(self, batches: Sequence[Batch], out: Path) -> Generator[Outcome, None, None]:
        """See `builder.run.executors.Executor`."""
        processes = min(self._options.workers, len(batches))
        if processes <= 1 and self._options.case_minutes is None:
            from builder.run.work import convert_batch  # noqa: PLC0415 - the command line knows executors before it works

            with one_thread():
                for batch in batches:
                    yield from convert_batch(batch, out)
            return
        workers = [_Worker(out) for _ in range(processes)]
        try:
            yield from _Run(workers, deque(batches), self._options).outcomes()
        finally:
            for worker in workers:
                worker.stop()


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `builder.run.executors.ExecutorModule`: it has none of its own."""


def from_options(chosen: argparse.Namespace, options: Options) -> LocalExecutor:  # noqa: ARG001 - of the protocol
    """See `builder.run.executors.ExecutorModule`."""
    return LocalExecutor(options)


class _Run:
    """One run of an executor, while it goes on."""

    def __init__(self, workers: list[_Worker], waiting: deque[Batch], options: Options) -> None:
        self._workers, self._waiting, self._options = workers, waiting, options
        self._attempts = Attempts(options, MOST_DEATHS)

    def outcomes(self) -> Iterator[Outcome]:
        """What became of each case, as it is finished."""
        while self._waiting or any(worker.attempt for worker in self._workers):
            for worker in self._workers:
                if worker.attempt is None and self._waiting:
                    worker.give(self._waiting.popleft())
            ready = wait([worker.connection for worker in self._workers if worker.attempt], timeout=_LOOK)
            for worker in self._workers:
                if worker.connection in ready:
                    yield from self._receive(worker)
                elif worker.attempt is not None and worker.attempt.is_overdue(self._options):
                    yield from self._recover(worker, self._attempts.overdue(worker.attempt))

    def _receive(self, worker: _Worker) -> Iterator[Outcome]:
        assert worker.attempt is not None
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            yield from self._recover(worker, self._attempts.died(worker.attempt))
            return
        if isinstance(message, Exception):
            raise message
        if message is None:
            worker.attempt = None
        elif isinstance(message, str):
            self._attempts.proceeds()
            worker.attempt.begins(message)
        else:
            worker.attempt.finishes()
            yield message

    def _recover(self, worker: _Worker, recovery: Recovery) -> Iterator[Outcome]:
        if recovery.again is not None:
            self._waiting.appendleft(recovery.again)
        worker.restart()
        if recovery.outcome is not None:
            yield recovery.outcome


class _Worker:
    """A process that converts one batch after another.

    Attributes:
        connection: Our end of its pipe.
        attempt: What it converts, or None.
    """

    connection: Connection
    attempt: Attempt | None

    def __init__(self, out: Path) -> None:
        self._out = out
        self._start()

    def give(self, batch: Batch) -> None:
        """Let it convert a batch."""
        try:
            self.connection.send(batch)
        except (BrokenPipeError, ConnectionResetError):  # it died while it had nothing to do
            self.restart()
            self.connection.send(batch)
        self.attempt = Attempt(batch)

    def restart(self) -> None:
        """End the process, if it is still there, and start another."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the process, whatever it does: what it wrote of a case that is not finished counts as nothing."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _start(self) -> None:
        context = warm_context(_WARM)
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._out, dict(os.environ)))
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.attempt = None


def _work(pipe: Connection, out: Path, environment: Mapping[str, str]) -> None:
    """Convert what comes through the pipe, until it is closed; tell of each case before and after."""
    follow_parent(environment)
    try:
        with one_thread():
            while True:
                _convert(pipe, out)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
        return


def _convert(pipe: Connection, out: Path) -> None:
    from builder.run.work import convert_batch  # noqa: PLC0415 - as above

    batch = pipe.recv()
    try:
        for outcome in convert_batch(batch, out, pipe.send):
            pipe.send(outcome)
        pipe.send(None)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except OSError as error:
        pipe.send(error)
