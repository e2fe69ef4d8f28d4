"""What a user chooses for a build."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What a user chooses.

    Attributes:
        workers: Number of processes.
        executor: Name in `builder.executors.EXECUTORS`.
        ray_address: Address of a Ray cluster, for the executor ``ray``; None to start one on this machine.
        shard_size: Size of a shard in bytes of its images before compression.
        limit_cases: Only the first so many cases of each source.
        strict: Stop at the first case that cannot be built, and at class names that the vocabulary does not know.
        case_minutes: A case that takes longer than this is given up by the executor ``local``, where shards are built
            in other processes.
    """

    workers: int = 1
    executor: str = "local"
    ray_address: str | None = None
    shard_size: int = 1 << 30
    limit_cases: int | None = None
    strict: bool = False
    case_minutes: float = 60.0
