"""Batches on a Ray cluster: one Ray task a batch, with nothing between processes but batches and outcomes.

All nodes see the sources and the output folder under the same paths, as on a shared file system.
"""

from __future__ import annotations

import argparse
import re
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.run.executors.attempts import Attempt, Attempts, Recovery, WorkerLostError
from builder.run.options import Options
from shards.store import is_here

if TYPE_CHECKING:
    from builder.run.batch import Batch, Outcome

MOST_DEATHS: Final = 6
"""How often a process may die over one case: more often than on one machine, as a node takes all its cases with it."""
_AHEAD: Final = 2
"""Batches given to the cluster for each of its cores, so that none waits for the driver."""
_REACHED: Final = 10.0
"""Seconds that a cluster has to answer at all."""
_LOOK: Final = 0.5
"""Seconds between looks at what was done."""


class RayExecutor:
    """Converts batches on the cores of a Ray cluster.

    Args:
        options: What the user chose.
        address: Address of a cluster that runs already; None to start one on this machine, with ``workers`` cores.
    """

    def __init__(self, options: Options, address: str | None = None) -> None:
        self._options, self._address = options, address

    def run(self, batches: Sequence[Batch], out: Path) -> Generator[Outcome, None, None]:
        """See `builder.run.executors.Executor`."""
        ray = self._started()
        try:
            run = _Run(ray, out.absolute() if is_here(out) else out, self._options)
            yield from run.outcomes(deque(batches))
        finally:
            ray.shutdown()

    def _started(self) -> Any:
        """The package, connected to its cluster."""
        try:
            import ray  # noqa: PLC0415 - an extra
        except ImportError:
            raise WorkerLostError("--executor ray needs Ray: pip install 'sa-med2d-20m[ray]'") from None
        _refuse_unreachable(self._address)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "ignore_reinit_error": True}
        try:
            if self._address is None:
                # "local": without it Ray joins whatever cluster this machine has last seen, and refuses num_cpus there
                ray.init(address="local", num_cpus=self._options.workers, include_dashboard=False, **quiet)
            else:
                ray.init(address=self._address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = self._address or "this machine"
            raise WorkerLostError(f"no Ray cluster at {where}: {str(error).splitlines()[0]}") from None
        return ray


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `builder.run.executors.ExecutorModule`."""
    parser.add_argument(
        "--ray-address",
        metavar="ADDR",
        help="cluster of --executor ray that runs already, such as auto or HOST:6379 (default: one on this machine)",
    )


def from_options(chosen: argparse.Namespace, options: Options) -> RayExecutor:
    """See `builder.run.executors.ExecutorModule`."""
    return RayExecutor(options, chosen.ray_address)


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

    def __init__(self, ray: Any, out: Path, options: Options) -> None:
        from ray.util.queue import Queue  # noqa: PLC0415 - an extra
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        # the queue lives as long as the driver does, and not on a node that may die
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._ray, self._out, self._options = ray, out, options
        # attempts are counted here: only this process knows which case each was at
        self._convert = ray.remote(num_cpus=1, max_retries=0)(_convert)
        self._attempts = Attempts(options, MOST_DEATHS)
        self._running: dict[Any, int] = {}
        self._by_number: dict[int, Attempt] = {}
        self._submitted = 0

    def outcomes(self, waiting: deque[Batch]) -> Iterator[Outcome]:
        """What became of each case, as it is finished."""
        while waiting or self._running:
            while waiting and len(self._running) < _AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1))):
                self._submit(waiting.popleft())
            ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK)
            yield from self._reported()
            for reference in ended:
                yield from self._end(reference, waiting)
            for reference in self._overdue():
                self._ray.cancel(reference, force=True)
                attempt = self._by_number.pop(self._running.pop(reference))
                yield from _recover(self._attempts.overdue(attempt), waiting)

    def _submit(self, batch: Batch) -> None:
        """Give a batch to the cluster.

        It asks for no more memory than the largest node has: else it would wait for ever.
        """
        most = max((node["Resources"].get("memory", 0) for node in self._ray.nodes() if node["Alive"]), default=0)
        memory = min(batch.memory, int(0.9 * most))
        self._submitted += 1
        reference = self._convert.options(memory=memory).remote(self._submitted, batch, self._out, self._events)
        self._running[reference] = self._submitted
        self._by_number[self._submitted] = Attempt(batch)

    def _reported(self) -> Iterator[Outcome]:
        """The outcomes that processes have told of; what one tells after it was given up is not heard."""
        for number, event in self._events.get_nowait_batch(self._events.qsize()):
            attempt = self._by_number.get(number)
            if attempt is None:
                continue
            if isinstance(event, str):
                self._attempts.proceeds()
                attempt.begins(event)
            else:
                attempt.finishes()
                yield event

    def _end(self, reference: Any, waiting: deque[Batch]) -> Iterator[Outcome]:
        number = self._running.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OSError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError:  # its process or node died
            yield from self._reported()
            yield from _recover(self._attempts.died(self._by_number.pop(number)), waiting)
            return
        yield from self._reported()
        del self._by_number[number]

    def _overdue(self) -> list[Any]:
        """What has been at one case for too long."""
        return [
            reference
            for reference, number in self._running.items()
            if self._by_number[number].is_overdue(self._options)
        ]


def _recover(recovery: Recovery, waiting: deque[Batch]) -> Iterator[Outcome]:
    """Let what must be tried again wait; the outcome of a case that is given up."""
    if recovery.again is not None:
        waiting.appendleft(recovery.again)
    if recovery.outcome is not None:
        yield recovery.outcome


def _convert(number: int, batch: Batch, out: Path, events: Any) -> None:
    """Convert a batch on a node."""
    import cv2  # noqa: PLC0415 - the driver needs none of it

    from builder.run.work import convert_batch  # noqa: PLC0415

    cv2.setNumThreads(1)
    for outcome in convert_batch(batch, out, lambda case: events.put((number, case))):
        events.put((number, outcome))
