"""Shard tasks on a Ray cluster: one Ray task a shard, with nothing between processes but tasks, receipts and counts.

All nodes see the sources and the output folder under the same paths, as on a shared file system.
"""

from __future__ import annotations

import itertools
import re
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2

from builder.errors import CaseError
from builder.run.executors.attempts import WorkerLostError
from builder.run.options import Options
from builder.run.plan import LostCase, Task
from builder.run.shard import CaseDone, build_shard
from shards.receipt import Receipt
from shards.store import is_here

if TYPE_CHECKING:
    import ray

RETRIES: Final = 5
"""How often a shard is built again after its node or process died."""
_AHEAD: Final = 2
"""Shards given to the cluster for each of its cores, so that none waits for the driver."""
_REACHED: Final = 10.0
"""Seconds that a cluster has to answer at all."""
_DIED: Final = (
    f"could not be converted {RETRIES + 1} times, the process died each time: memory ran out, or a decoder crashed"
)
_LOOK: Final = 0.5
"""Seconds between looks at what was done."""


class RayExecutor:
    """Builds shards on the cores of a Ray cluster.

    Args:
        out: Output folder, on a file system that all nodes share.
        options: Of which ``ray_address`` names a cluster that runs already; without it one is started on this machine,
            with ``workers`` cores.
    """

    def __init__(self, out: Path, options: Options) -> None:
        self._out, self._options = out.absolute() if is_here(out) else out, options

    def run(self, tasks: Sequence[Task], on_case: Callable[[CaseDone], None]) -> Iterator[Receipt]:
        """See `builder.run.executors.Executor`."""
        ray = _started(self._options)
        try:
            yield from _Run(ray, self._out, self._options, on_case).receipts(deque(tasks))
        finally:
            ray.shutdown()


def _started(options: Options) -> Any:
    """The package, connected to its cluster."""
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError:
        raise WorkerLostError("--executor ray needs Ray: pip install 'sa-med2d-20m[ray]'") from None
    _refuse_unreachable(options.ray_address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "ignore_reinit_error": True}
    try:
        if options.ray_address is None:
            # "local": without it Ray joins whatever cluster this machine has last seen, and refuses num_cpus there
            ray.init(address="local", num_cpus=options.workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=options.ray_address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = options.ray_address or "this machine"
        raise WorkerLostError(f"no Ray cluster at {where}: {str(error).splitlines()[0]}") from None
    return ray


def _refuse_unreachable(address: str | None) -> None:
    """Try the address of a cluster first: Ray itself tries for minutes, and then ends the process."""
    found = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address or "")
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_REACHED).close()
    except (OSError, OverflowError) as error:
        raise WorkerLostError(f"no Ray cluster at {address}: {error}") from None


class _Run:
    """One run on a cluster, while it goes on."""

    def __init__(self, ray: Any, out: Path, options: Options, on_case: Callable[[CaseDone], None]) -> None:
        from ray.util.queue import Queue  # noqa: PLC0415 - an extra
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        # the queue lives as long as the driver does, and not on a node that may die
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._ray, self._out, self._options, self._on_case = ray, out, options, on_case
        self._build = ray.remote(num_cpus=1, max_retries=RETRIES)(_build)
        self._reported: Counter[str] = Counter()
        self._at: dict[str, tuple[str, float]] = {}

    def receipts(self, waiting: deque[Task]) -> Iterator[Receipt]:
        """The receipt of each shard as it is finished."""
        running: dict[ray.ObjectRef[Any], Task] = {}
        while waiting or running:
            while waiting and len(running) < _AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1))):
                task = waiting.popleft()
                running[self._submit(task)] = task
            done, _ = self._ray.wait(list(running), num_returns=1, timeout=_LOOK)
            self._report()
            for reference in done:
                task = running.pop(reference)
                receipt = self._receipt(reference, task)
                if receipt is None:
                    waiting.appendleft(self._without(task, _DIED))
                else:
                    yield receipt
            for reference, task in self._overdue(running):
                self._ray.cancel(reference, force=True)
                del running[reference]
                waiting.appendleft(self._without(task, self._options.overdue))
        self._report()

    def _submit(self, task: Task) -> Any:
        """Give a shard to the cluster.

        It asks for no more memory than the largest node has: else it would wait for ever.
        """
        most = max((node["Resources"].get("memory", 0) for node in self._ray.nodes() if node["Alive"]), default=0)
        memory = min(task.memory, int(0.9 * most))
        return self._build.options(memory=memory).remote(task, self._out, self._options.strict, self._events)

    def _overdue(self, running: Mapping[Any, Task]) -> list[tuple[Any, Task]]:
        """What has been at one case for too long."""
        latest = time.monotonic() - self._options.case_seconds
        return [
            (reference, task)
            for reference, task in running.items()
            if task.shard.stem in self._at and self._at[task.shard.stem][1] < latest
        ]

    def _without(self, task: Task, reason: str) -> Task:
        """The task without the case that it was at."""
        case, _ = self._at.pop(task.shard.stem)
        return replace(task, lost=(*task.lost, LostCase(case, reason)))

    def _receipt(self, reference: Any, task: Task) -> Receipt | None:
        """The receipt of a task that has ended, None if its process died over a case each time."""
        try:
            receipt: Receipt = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, CaseError | OSError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            if task.shard.stem in self._at:
                return None
            raise WorkerLostError(
                f"{task.shard.tar} was lost with its node or process {RETRIES + 1} times ({type(error).__name__}); run "
                "the same command again to go on from the shards that are finished"
            ) from None
        return receipt

    def _report(self) -> None:
        """Tell of each case once: a shard that is built again comes to the same cases again."""
        for stem, number, done in self._events.get_nowait_batch(self._events.qsize()):
            if isinstance(done, str):
                self._at[stem] = done, time.monotonic()
                continue
            self._at.pop(stem, None)
            if number > self._reported[stem]:
                self._reported[stem] = number
                self._on_case(done)


def _build(task: Task, out: Path, strict: bool, events: Any) -> Receipt:
    """Build a shard on a node."""
    cv2.setNumThreads(1)
    numbers = itertools.count(1)
    stem = task.shard.stem
    return build_shard(
        task,
        out,
        strict=strict,
        on_case=lambda done: events.put((stem, next(numbers), done)),
        on_start=lambda case: events.put((stem, 0, case)),
    )
