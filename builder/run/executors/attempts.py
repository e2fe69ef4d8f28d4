"""What all executors keep of their attempts: which case a process died over, and when to give up.

A process that dies is not told from one that was killed for want of memory, which another process may have taken. So a
case is tried several times before it is to blame.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from builder.run.batch import Batch, Outcome
from builder.run.options import Options
from builder.run.work import lost_case
from sa_med2d_20m import SAMed2DError

MOST_BARREN: Final = 10
"""How many processes in a row may die before any of them begins with a case."""


class WorkerLostError(SAMed2DError):
    """Processes or nodes die without getting anything done, or cannot be reached; the message says what to do."""


class Attempt:
    """A batch that a process is converting.

    Args:
        batch: The batch.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._done = 0
        self._case: str | None = None
        self._began = 0.0

    def begins(self, case: str) -> None:
        """The process begins with a case."""
        self._case, self._began = case, time.monotonic()

    def finishes(self) -> None:
        """The process has finished the case."""
        self._case, self._done = None, self._done + 1

    @property
    def case(self) -> str | None:
        """Name of the case that is being converted."""
        return self._case

    @property
    def rest(self) -> Batch | None:
        """What is not finished, the case that is being converted first."""
        return self.batch.without(self._done)

    def is_overdue(self, options: Options) -> bool:
        """Whether it has been at one case for longer than is allowed."""
        return self._case is not None and time.monotonic() - self._began > options.case_seconds


@dataclass(frozen=True)
class Recovery:
    """What follows from an attempt that ended before its time.

    Attributes:
        outcome: Of the case that is given up, or None.
        again: What must be tried again, or None.
    """

    outcome: Outcome | None
    again: Batch | None


class Attempts:
    """The attempts of one run of an executor.

    Args:
        options: What the user chose.
        most_deaths: How often a process may die over one case.
    """

    def __init__(self, options: Options, most_deaths: int) -> None:
        self._options, self._most_deaths = options, most_deaths
        self._deaths: Counter[tuple[str, str]] = Counter()
        self._barren = 0

    def proceeds(self) -> None:
        """Some process has begun with a case, so that processes can begin at all."""
        self._barren = 0

    def died(self, attempt: Attempt) -> Recovery:
        """The process of an attempt is gone.

        Raises:
            WorkerLostError: None gets as far as a case.
        """
        if attempt.case is None:
            self._barren += 1
            if self._barren == MOST_BARREN:
                raise WorkerLostError(
                    "worker processes die before they read anything; is there enough memory? Use fewer --workers, and "
                    "run the same command again to go on from the cases that are finished"
                )
            return Recovery(None, attempt.rest)
        place = attempt.batch.shard.stem, attempt.case
        self._deaths[place] += 1
        if self._deaths[place] < self._most_deaths:
            return Recovery(None, attempt.rest)
        reason = "the process died each time: memory ran out (use fewer --workers), or a decoder crashed"
        return _given_up(attempt, f"could not be converted {self._most_deaths} times, {reason}")

    def overdue(self, attempt: Attempt) -> Recovery:
        """The process of an attempt was ended because its case took too long."""
        return _given_up(attempt, self._options.overdue)


def _given_up(attempt: Attempt, reason: str) -> Recovery:
    rest = attempt.rest
    assert rest is not None
    return Recovery(lost_case(rest.cases[0], rest, reason), rest.without(1))
