"""What a user chooses for a build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CASE_MINUTES: Final = 60.0
"""What no case should need: the largest volume of the benchmarks takes seconds."""
MODES: Final = ("keep-first", "group")
"""What may be done with copies: later cases are left out, or patients who share images go into one split."""


@dataclass(frozen=True)
class Options:
    """What a user chooses.

    Attributes:
        workers: Number of processes.
        shard_size: Size of a shard in bytes of its images before compression.
        limit_cases: Only the first so many cases of each source.
        strict: Stop at the first case that cannot be built, and at class names that the vocabulary does not know.
        case_minutes: A case that takes longer than this is given up. None for an hour where cases are converted in
            other processes, which can be ended, and no limit where they are converted in this one.
        dedup: What is done with copies, one of `MODES`; None for nothing.
    """

    workers: int = 1
    shard_size: int = 1 << 30
    limit_cases: int | None = None
    strict: bool = False
    case_minutes: float | None = None
    dedup: str | None = None

    @property
    def case_seconds(self) -> float:
        """The limit, where there is one."""
        return 60 * (CASE_MINUTES if self.case_minutes is None else self.case_minutes)

    @property
    def overdue(self) -> str:
        """What is said of a case that took longer."""
        return f"took longer than {self.case_seconds / 60:g} minutes (--case-minutes)"
