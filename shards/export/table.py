"""Rows of the CSV tables that layouts write."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from shards.plain_text import visible


def row(cells: Iterable[object]) -> str:
    """A row of a table on one line (RFC 4180)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([_cell(cell) for cell in cells])
    return text.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    return " ".join(visible(value).split("\n")) if isinstance(value, str) else value
