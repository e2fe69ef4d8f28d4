"""The checks there are. To look for another fault is to add a module and an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shards.report.findings import (
    background,
    intensity,
    inverted,
    mirrored,
    near_empty,
    shifted,
    sides,
    slice_order,
    unlike_others,
)
from shards.report.findings.finding import Check

CHECKS: Final[Mapping[str, Check]] = {
    "background": background,
    "shifted": shifted,
    "mirrored": mirrored,
    "inverted": inverted,
    "sides": sides,
    "slice_order": slice_order,
    "intensity": intensity,
    "near_empty": near_empty,
    "unlike_others": unlike_others,
}
"""Name -> module; the names are those of the table in docs/findings.md."""
