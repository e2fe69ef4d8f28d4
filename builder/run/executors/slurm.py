"""Batches as job arrays on a Slurm cluster, through `submitit`.

A job converts its batches on processes of its own, as the local executor does, so that a case over which a process dies
costs that case and not the job. All nodes see the sources and the output folder under the same paths.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.run.executors.attempts import WorkerLostError
from builder.run.executors.local import LocalExecutor
from builder.run.options import Options
from shards.arguments import positive
from shards.paths import BUILD
from shards.store import is_here

if TYPE_CHECKING:
    from builder.run.batch import Batch, Outcome

MOST_LOSSES: Final = 3
"""How often a job may be lost with its node, or run out of time."""
_JOBS_PER_PLACE: Final = 4
"""Jobs for each that runs at once, so that one with large cases keeps nobody waiting at the end."""
_LOOK: Final = 1.0
"""Seconds between looks at what was done."""


@dataclass(frozen=True)
class SlurmRequest:
    """What Slurm is asked for.

    Attributes:
        cluster: ``slurm``, or ``local``: jobs run on this machine, for a trial.
        partition: Partition, or None for the cluster's default.
        minutes: Longest time of a job.
        cores: Cores of a job.
    """

    cluster: str = "slurm"
    partition: str | None = None
    minutes: int = 240
    cores: int = 1


class SlurmExecutor:
    """Converts batches in Slurm jobs.

    Args:
        options: Of which ``workers`` says how many jobs run at once.
        request: What Slurm is asked for.
    """

    def __init__(self, options: Options, request: SlurmRequest) -> None:
        self._options, self._request = options, request

    def run(self, batches: Sequence[Batch], out: Path) -> Generator[Outcome, None, None]:
        """See `builder.run.executors.Executor`."""
        if not is_here(out):
            raise WorkerLostError("--executor slurm needs an output folder that all nodes share, not an object store")
        out = out.absolute()
        folder = out / BUILD / "slurm"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what jobs are given names files as they are
        cluster = self._cluster(folder, max(batch.memory for batch in batches) if batches else 0)
        job_options = replace(
            self._options, workers=self._request.cores, case_minutes=self._options.case_seconds / 60
        )  # with a limit of time, cases are converted in processes of their own

        def submit(shares: Sequence[Sequence[Batch]]) -> list[Any]:
            count = len(shares)
            jobs: list[Any] = cluster.map_array(_convert, shares, [out] * count, [job_options] * count)
            return jobs

        shares = _shares(batches, self._options.workers * (_JOBS_PER_PLACE if self._request.cluster == "slurm" else 1))
        running = {job: (share, 0) for job, share in zip(submit(shares), shares, strict=True)}
        try:
            while running:
                ended = [job for job in running if job.done()]
                for job in ended:
                    share, losses = running.pop(job)
                    outcomes, again = _end(job, share, out, losses)
                    yield from outcomes
                    running |= dict.fromkeys(submit([again]) if again else (), (again, losses + 1))
                if not ended:
                    time.sleep(_LOOK)
            shutil.rmtree(folder)
        finally:
            for job in running:
                job.cancel()

    def _cluster(self, folder: Path, memory: int) -> Any:
        """The `submitit` executor, with what Slurm is asked for; memory in bytes for each core of a job."""
        try:
            import submitit  # noqa: PLC0415 - an extra
        except ImportError:
            raise WorkerLostError("--executor slurm needs submitit: pip install 'sa-med2d-20m[slurm]'") from None
        request = self._request
        if request.cluster == "slurm" and shutil.which("sbatch") is None:
            raise WorkerLostError("--executor slurm needs the command sbatch: run this on a login node of the cluster")
        cluster = submitit.AutoExecutor(folder=folder, cluster=request.cluster)
        cluster.update_parameters(name="sa-med2d", timeout_min=request.minutes, cpus_per_task=request.cores)
        cluster.update_parameters(mem_gb=-(-memory * request.cores // 10**9) + 1)
        if request.cluster == "slurm":
            cluster.update_parameters(slurm_array_parallelism=self._options.workers)
            if request.partition is not None:
                cluster.update_parameters(slurm_partition=request.partition)
        return cluster


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `builder.run.executors.ExecutorModule`."""
    parser.add_argument(
        "--slurm-cluster",
        choices=("slurm", "local"),
        default="slurm",
        help="where jobs of --executor slurm run; local: on this machine, for a trial (default: slurm)",
    )
    parser.add_argument("--slurm-partition", metavar="P", help="partition (default: the cluster's own)")
    parser.add_argument("--slurm-minutes", type=positive, default=240, metavar="M", help="longest time of a job (240)")
    parser.add_argument("--slurm-cores", type=positive, default=1, metavar="N", help="cores of a job (1)")


def from_options(chosen: argparse.Namespace, options: Options) -> SlurmExecutor:
    """See `builder.run.executors.ExecutorModule`."""
    request = SlurmRequest(chosen.slurm_cluster, chosen.slurm_partition, chosen.slurm_minutes, chosen.slurm_cores)
    return SlurmExecutor(options, request)


def _shares(batches: Sequence[Batch], count: int) -> list[Sequence[Batch]]:
    """Batches for each of so many jobs, dealt in turn, so that large cases spread."""
    return [batches[start::count] for start in range(min(count, len(batches)))]


def _convert(share: Sequence[Batch], out: Path, options: Options) -> list[Outcome]:
    """What a job does."""
    return list(LocalExecutor(options).run(share, out))


def _end(job: Any, share: Sequence[Batch], out: Path, losses: int) -> tuple[list[Outcome], list[Batch]]:
    """What a job that has ended leaves: outcomes, and what must be converted again.

    Raises:
        WorkerLostError: It was lost too often.
        OSError: The output folder cannot be written.
    """
    from submitit.core.utils import FailedJobError  # noqa: PLC0415 - an extra

    failure = job.exception()
    if failure is None:
        return job.result(), []
    if isinstance(failure, FailedJobError):  # it ran to its end, which was an error
        raise WorkerLostError(f"a Slurm job failed: {str(failure).strip().splitlines()[-1]}")
    if losses + 1 == MOST_LOSSES:
        raise WorkerLostError(
            f"a Slurm job was lost {MOST_LOSSES} times with its node or its time; its logs are in {job.paths.folder}; "
            "run the same command again to go on from the cases that are finished"
        )
    return _recovered(share, out)


def _recovered(share: Sequence[Batch], out: Path) -> tuple[list[Outcome], list[Batch]]:
    """The cases that a lost job had finished, by its logs, and the rest."""
    from builder.run.batch import Outcome  # noqa: PLC0415 - the command line knows executors before it works
    from builder.run.pieces import logged_cases  # noqa: PLC0415

    logged = {case.piece.settings: case for case in logged_cases(out)}
    outcomes, again = [], []
    for batch in share:
        done = [task for task in batch.cases if task.settings in logged]
        outcomes += [Outcome(batch.shard, task, logged[task.settings]) for task in done]
        rest = tuple(task for task in batch.cases if task.settings not in logged)
        again += [replace(batch, cases=rest)] if rest else []
    return outcomes, again
