"""Pieces of work on several processes.

Each process has its own pipe, so that it ends when this process does, whatever ends it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Final

from sa_med2d_20m import SAMed2DError
from shards.processes import WORKER_DIED, follow_parent, one_thread, warm_context

_WARM: Final = ("cv2", "numpy", "pyarrow.parquet")
"""What every worker needs beside its work: imported once, by the server that workers are forked from."""

Work = Callable[[int], None]


def each(work: Work, numbers: Sequence[int], processes: int) -> Generator[int]:
    """Do some work for each number.

    Args:
        work: The work; it can be pickled.
        numbers: What it is done for.
        processes: How many work at once; with one, or for one number, it is done in this process.

    Yields:
        Each number when its work is done, in any order.

    Raises:
        SAMed2DError: A process died.
        Exception: What the work raises.
    """
    if min(processes, len(numbers)) <= 1:
        with one_thread():
            for number in numbers:
                work(number)
                yield number
        return
    workers = [_Worker(work) for _ in range(min(processes, len(numbers)))]
    try:
        yield from _done(workers, deque(numbers))
    finally:
        for worker in workers:
            worker.stop()


def _done(workers: Sequence[_Worker], waiting: deque[int]) -> Iterator[int]:
    while waiting or any(worker.busy for worker in workers):
        for worker in workers:
            if not worker.busy and waiting:
                worker.give(waiting.popleft())
        ready = wait([worker.connection for worker in workers if worker.busy])
        for worker in workers:
            if worker.connection in ready:
                yield worker.taken()


class _Worker:
    """A process that does one thing after another.

    Attributes:
        connection: Our end of its pipe.
        busy: Whether it has something to do.
    """

    def __init__(self, work: Work) -> None:
        context = warm_context([type(work).__module__, *_WARM])
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work, dict(os.environ)), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.busy = False

    def give(self, number: int) -> None:
        """Let it do the work for a number."""
        try:
            self.connection.send(number)
        except (BrokenPipeError, ConnectionResetError):
            raise SAMed2DError(WORKER_DIED) from None
        self.busy = True

    def taken(self) -> int:
        """What it has done."""
        try:
            done: int | Exception = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise SAMed2DError(WORKER_DIED) from None
        if isinstance(done, Exception):
            raise done
        self.busy = False
        return done

    def stop(self) -> None:
        """End the process, whatever it does: what it wrote of a piece that is not finished counts as nothing."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(pipe: Connection, work: Work, environment: Mapping[str, str]) -> None:
    """Do the work for each number that comes through the pipe, until it is closed."""
    follow_parent(environment)
    try:
        with one_thread():
            while True:
                number = pipe.recv()
                try:
                    work(number)
                except (SAMed2DError, OSError) as error:
                    pipe.send(error)
                else:
                    pipe.send(number)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
        return
