"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from shards.report.findings.series import Series

EXAMPLES: Final = 5
"""Samples that a finding names."""


class Value(NamedTuple):
    """What a check measured of a sample.

    Attributes:
        key: The sample.
        case: Its case.
        value: What was measured, as its check needs it.
    """

    key: str
    case: str
    value: Any


class Group(NamedTuple):
    """What the values are of that are judged together.

    Attributes:
        modality: Of the source.
        source: Its name.
        of: A class, or what else the check tells apart; empty for all images.
    """

    modality: str
    source: str
    of: str


Measured = Mapping[Group, Sequence[Value]]


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong in a source.

    Attributes:
        check: Name of the check, a key of `shards.report.findings.checks.CHECKS`.
        source: The source.
        of: Class, or None for all its images.
        measure: What was measured.
        threshold: What it is compared with.
        found: Images that it is about.
        looked_at: Images that were measured.
        examples: Keys of the worst of them.
        sentence: What it is, and what to do.
    """

    check: str
    source: str
    of: str | None
    measure: float
    threshold: float
    found: int
    looked_at: int
    examples: tuple[str, ...]
    sentence: str


class Check(Protocol):
    """What a module of a check offers."""

    def measure(self, series: Series, /) -> Iterator[tuple[str, Value]]:
        """Measure the samples of a series; each value with what it is judged by, see `Group.of`."""
        ...

    def judge(self, measured: Measured, /) -> Iterator[Finding]:
        """Say what looks wrong, of all that was measured."""
        ...


def keys_of(values: Iterable[Value]) -> tuple[str, ...]:
    """The samples that a finding names."""
    return tuple(dict.fromkeys(value.key for value in values))[:EXAMPLES]
