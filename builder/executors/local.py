"""Shard tasks on the processes of this machine."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import cv2

from builder.plan import Task
from builder.task import CaseDone, build_shard
from shards.receipt import Receipt


class WorkerLostError(Exception):
    """A worker process died before its shard was finished."""


class LocalExecutor:
    """Builds shards one after another, or on several processes.

    Args:
        out: Output folder.
        workers: Number of processes; 1, or a single task, is built in this one.
        strict: Stop at the first case that cannot be built.
    """

    def __init__(self, out: Path, workers: int, strict: bool) -> None:
        self._out, self._workers, self._strict = out, workers, strict

    def run(self, tasks: Sequence[Task], on_case: Callable[[CaseDone], None]) -> Iterator[Receipt]:
        """See `builder.executors.Executor`."""
        if min(self._workers, len(tasks)) <= 1:
            cv2.setNumThreads(1)
            for task in tasks:
                yield build_shard(task, self._out, strict=self._strict, on_case=on_case)
        else:
            yield from self._run_on_processes(tasks, on_case)

    def _run_on_processes(self, tasks: Sequence[Task], on_case: Callable[[CaseDone], None]) -> Iterator[Receipt]:
        # spawned, not forked: the parent has threads (progress, Arrow, OpenCV), which do not survive a fork
        context = multiprocessing.get_context("spawn")
        events: SimpleQueue[CaseDone | None] = context.SimpleQueue()
        listener = threading.Thread(target=_listen, args=(events, on_case), daemon=True)
        listener.start()
        pool = ProcessPoolExecutor(
            min(self._workers, len(tasks)), mp_context=context, initializer=_start, initargs=(events,)
        )
        try:
            futures = [pool.submit(_build, task, self._out, self._strict) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise WorkerLostError(
                "a worker process died: memory ran out (use fewer --workers), or a decoder crashed on a damaged file "
                "(--workers 1 shows which); run the same command again to go on from the shards that are finished"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            events.put(None)
            listener.join()
            events.close()


def _listen(events: SimpleQueue[CaseDone | None], on_case: Callable[[CaseDone], None]) -> None:
    while (event := events.get()) is not None:
        on_case(event)


_events: SimpleQueue[CaseDone | None]


def _start(events: SimpleQueue[CaseDone | None]) -> None:
    global _events  # noqa: PLW0603 - a worker process has one queue for its whole life
    _events = events
    cv2.setNumThreads(1)


def _build(task: Task, out: Path, strict: bool) -> Receipt:
    return build_shard(task, out, strict=strict, on_case=_events.put)
