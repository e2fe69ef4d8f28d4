"""What a check says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

    @property
    def MEANING(self) -> str:  # noqa: N802 - a constant of a module
        """What `Finding.measure` is, in words that end a sentence."""
        ...

    @property
    def REASON(self) -> str:  # noqa: N802
        """Why the threshold is where it is: what stays below it in sets that are right."""
        ...

    def measure(self, series: Series, /) -> Iterator[tuple[str, Value]]:
        """Measure the samples of a series; each value with what it is judged by, see `Group.of`."""
        ...

    def judge(self, measured: Measured, /) -> Iterator[Finding]:
        """Say what looks wrong, of all that was measured."""
        ...


def often_below(
    check: str, measured: Measured, *, limit: float, often: float, sentence: Callable[[int], str]
) -> Iterator[Finding]:
    """The sources of which more than a part of the images lie below a limit.

    Args:
        check: Name of the check.
        measured: Numbers.
        limit: Images below it are meant.
        often: Part of the images of a source.
        sentence: What is said of how many there are.
    """
    for group, values in measured.items():
        low = sorted((one for one in values if one.value < limit), key=lambda one: float(one.value))
        share = len(low) / len(values)
        if share > often:
            yield Finding(
                check=check,
                source=group.source,
                of=None,
                measure=share,
                threshold=often,
                found=len(low),
                looked_at=len(values),
                examples=keys_of(low),
                sentence=sentence(len(low)),
            )


def keys_of(values: Iterable[Value]) -> tuple[str, ...]:
    """The samples that a finding names."""
    return tuple(dict.fromkeys(value.key for value in values))[:EXAMPLES]
