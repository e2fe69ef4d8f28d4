"""Numbers of classes that layouts share."""

from __future__ import annotations

from collections.abc import Iterable

from sa_med2d_20m import LABELS


def category_numbers(labels: Iterable[str]) -> dict[str, int]:
    """Class name -> its number in semantic maps; names that the vocabulary does not have follow in their order."""
    known = {label: number for number, label in enumerate(LABELS, 1)}
    strangers = sorted(set(labels) - known.keys())
    further = {label: number for number, label in enumerate(strangers, len(LABELS) + 1)}
    return {label: known.get(label) or further[label] for label in sorted(labels)}
