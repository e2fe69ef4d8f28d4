"""Shard tasks on the processes of this machine.

Each process has its own pipe, so that what one was doing when it died is known, and the others go on.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

import cv2

from builder.errors import CaseError
from builder.run.executors.attempts import WorkerLostError
from builder.run.options import Options
from builder.run.plan import LostCase, Task
from builder.run.shard import CaseDone, build_shard
from shards.receipt import Receipt

MOST_DEATHS: Final = 3
"""How often a process may die over one case: more than once, as memory may have run out because of another."""
MOST_BARREN: Final = 10
"""How many processes in a row may die before any of them begins with a case."""
_LOOK: Final = 1.0
"""Seconds between looks at cases that take too long."""


class LocalExecutor:
    """Builds shards one after another, or on several processes.

    Args:
        out: Output folder.
        options: With one worker, or for a single task, shards are built in this process, unless a limit of time is set.
    """

    def __init__(self, out: Path, options: Options) -> None:
        self._out, self._options = out, options

    def run(self, tasks: Sequence[Task], on_case: Callable[[CaseDone], None]) -> Iterator[Receipt]:
        """See `builder.run.executors.Executor`."""
        processes = min(self._options.workers, len(tasks))
        if processes <= 1 and self._options.case_minutes is None:
            cv2.setNumThreads(1)
            for task in tasks:
                yield build_shard(task, self._out, strict=self._options.strict, on_case=on_case)
            return
        workers = [_Worker(self._out, self._options.strict) for _ in range(processes)]
        try:
            yield from _Run(workers, deque(tasks), on_case, self._options).receipts()
        finally:
            for worker in workers:
                worker.stop()


class _Run:
    """One run of an executor, while it goes on."""

    def __init__(
        self, workers: list[_Worker], waiting: deque[Task], on_case: Callable[[CaseDone], None], options: Options
    ) -> None:
        self._workers, self._waiting, self._on_case, self._options = workers, waiting, on_case, options
        self._deaths: Counter[tuple[str, str | None]] = Counter()
        self._reported: Counter[str] = Counter()
        self._barren = 0

    def receipts(self) -> Iterator[Receipt]:
        """The receipt of each shard as it is finished."""
        while self._waiting or any(worker.task for worker in self._workers):
            for worker in self._workers:
                if worker.task is None and self._waiting:
                    worker.give(self._waiting.popleft())
            ready = wait([worker.connection for worker in self._workers if worker.task], timeout=_LOOK)
            for worker in self._workers:
                if worker.connection in ready:
                    yield from self._receive(worker)
                elif (
                    worker.task is not None and worker.case is not None and worker.seconds > self._options.case_seconds
                ):
                    self._give_up(worker, self._options.overdue)

    def _receive(self, worker: _Worker) -> Iterator[Receipt]:
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            self._bury(worker)
            return
        self._barren = 0
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Receipt):
            worker.task = None
            yield message
        elif isinstance(message, CaseDone):
            self._report(worker, message)
        else:
            worker.begin(message)

    def _report(self, worker: _Worker, done: CaseDone) -> None:
        """Tell of a case, once: a shard that is built again comes to the same cases again."""
        assert worker.task is not None
        worker.case, worker.done = None, worker.done + 1
        if worker.done > self._reported[worker.task.shard.stem]:
            self._reported[worker.task.shard.stem] = worker.done
            self._on_case(done)

    def _bury(self, worker: _Worker) -> None:
        """A process died: its shard is built again, without the case if that is to blame."""
        assert worker.task is not None
        death = worker.task.shard.stem, worker.case
        self._deaths[death] += worker.case is not None
        self._barren += worker.case is None
        if self._barren == MOST_BARREN:
            raise WorkerLostError(
                "worker processes die before they read anything; is there enough memory? Use fewer --workers, and run "
                "the same command again to go on from the shards that are finished"
            )
        if self._deaths[death] == MOST_DEATHS:
            reason = "the process died each time: memory ran out (use fewer --workers), or a decoder crashed"
            self._give_up(worker, f"could not be converted {MOST_DEATHS} times, {reason}")
            return
        self._waiting.appendleft(worker.task)
        worker.restart()

    def _give_up(self, worker: _Worker, reason: str) -> None:
        assert worker.task is not None
        assert worker.case is not None
        task = worker.task
        self._waiting.appendleft(replace(task, lost=(*task.lost, LostCase(worker.case, reason))))
        worker.restart()


class _Worker:
    """A process that builds one shard after another.

    Attributes:
        connection: Our end of its pipe.
        task: What it builds, or None.
        case: Name of the case that it converts, or None.
        done: How many cases of the task it has done.
    """

    connection: Connection
    task: Task | None
    case: str | None
    done: int

    def __init__(self, out: Path, strict: bool) -> None:
        self._out, self._strict = out, strict
        self._start()

    @property
    def seconds(self) -> float:
        """How long it has been at its case."""
        return time.monotonic() - self._began

    def give(self, task: Task) -> None:
        """Let it build a shard."""
        try:
            self.connection.send(task)
        except (BrokenPipeError, ConnectionResetError):  # it died while it had nothing to do
            self.restart()
            self.connection.send(task)
        self.task, self.case, self.done = task, None, 0

    def begin(self, case: str) -> None:
        """It has begun with a case."""
        self.case, self._began = case, time.monotonic()

    def restart(self) -> None:
        """End the process, if it is still there, and start another."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the process, whatever it does: a shard that is not finished leaves nothing under its name."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _start(self) -> None:
        # spawned, not forked: the parent has threads (progress, Arrow, OpenCV), which do not survive a fork
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._out, self._strict))
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.task, self.case, self.done = None, None, 0
        self._began = time.monotonic()


def _work(pipe: Connection, out: Path, strict: bool) -> None:
    """Build what comes through the pipe, until it is closed; tell of each case before and after."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    cv2.setNumThreads(1)
    try:
        while True:
            task = pipe.recv()
            try:
                pipe.send(build_shard(task, out, strict=strict, on_case=pipe.send, on_start=pipe.send))
            except (CaseError, OSError) as error:
                pipe.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
        return
