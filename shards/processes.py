"""Worker processes: how they start, and what they leave to the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

WORKER_DIED: Final = (
    "a worker died: it was killed, or took more memory than there is; run the same command again, with fewer --workers "
    "if memory is short: it goes on from what is finished"
)
"""What is said where a process ends before its work is done."""


def warm_context(
    modules: Sequence[str],
) -> multiprocessing.context.SpawnContext | multiprocessing.context.ForkServerContext:
    """How processes start: from one that has imported all and has no threads, or, where there is no such, anew.

    They are not forked from this process: its threads (progress, Arrow, OpenCV) do not survive a fork.

    Args:
        modules: What nearly every worker needs: imported once, by the server that workers are forked from.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV on one thread: pictures are small, and processes are many."""
    import cv2  # noqa: PLC0415 - the command line knows executors before it works

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def follow_parent(environment: Mapping[str, str]) -> None:
    """Take the environment of the process that asks for work, and leave it to decide about interrupts.

    Args:
        environment: Its variables; those of the server which this process was forked from may be older: credentials and
            addresses of stores.
    """
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
