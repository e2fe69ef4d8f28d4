"""JSON that somebody else may have written: looked at before it takes memory, and parsed without a traceback.

Members of shards, receipts, descriptions of sources and manifests are all read here. What their fields must be is in
`shards.contract`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from sa_med2d_20m import MEMORY_LIMIT, DatasetError

LARGEST: Final = 2**27
"""Bytes of such a file: a receipt of a shard with 250,000 cases, the largest of them, is smaller."""
_TAKES: Final = {b"{": 240, b"[": 96, b",": 50, b'"': 15}
"""Bytes of memory that what a mark begins takes at most in CPython: a table, a list, a value and its place, a text."""
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""How half a character of UTF-16 is spelled, which no file may hold alone."""


def json_in(data: bytes, where: str, *, any_names: bool = False) -> Any:
    """Parse JSON.

    Args:
        data: UTF-8.
        where: What it is, as the beginning of a message.
        any_names: Whether names of files that are no UTF-8 may stand in it, as ``surrogateescape`` decodes them.

    Raises:
        DatasetError: It is too large, unfolds to too much, is nested too deep, or is no JSON.
    """
    if len(data) > LARGEST:
        raise too_large(where, len(data))
    size = len(data) + sum(takes * data.count(mark) for mark, takes in _TAKES.items())
    if size > MEMORY_LIMIT:
        raise DatasetError(f"{where} may take {size:,} bytes of memory as JSON, expected at most {MEMORY_LIMIT:,}")
    errors = "surrogateescape" if any_names else "strict"
    try:
        value = json.loads(data.decode("utf-8", errors), parse_constant=_refuse_constant)
        if _HALF.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8", errors)
    except RecursionError:
        raise DatasetError(f"{where} is no JSON: expected a few levels, got some nested too deep to be read") from None
    except UnicodeError as error:
        raise DatasetError(f"{where} is no JSON: expected UTF-8, got {error.reason}") from None  # type: ignore[attr-defined]
    except ValueError as error:
        raise DatasetError(f"{where} is no JSON ({error!s:.200})") from None
    return value


def too_large(where: str, size: int) -> DatasetError:
    """The error of a file that is larger than `LARGEST` and need not be read for that."""
    return DatasetError(f"{where} has {size:,} bytes, expected at most {LARGEST:,}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
