"""Whether the metadata of a sample is what `sa_med2d_20m.Metadata` says: fields, types, and what follows from them."""

from __future__ import annotations

import math
import reprlib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import islice
from typing import Any, Final, Literal

from sa_med2d_20m import SCHEMA, Metadata

_PLANES: Final = {
    "x": ("axial", "unknown"),
    "y": ("coronal", "unknown"),
    "z": ("sagittal", "unknown"),
    "2d": ("2d",),
}


def type_faults(value: Any, expected: Any = Metadata, where: str = "") -> Iterator[str]:
    """Compare parsed JSON with a type.

    Args:
        value: The value.
        expected: A dataclass, ``str``, ``int``, ``float``, ``bool``, literals, a tuple or dict of one of them, or any
            of these or None.
        where: Path of the value, for the message.

    Yields:
        A sentence for each field that is missing, unknown, of another type, or beyond what Arrow and files can hold.
        They are made as they are asked for, and each is short.
    """
    if is_dataclass(expected):
        yield from _record_faults(value, typing.cast("type", expected), where)
    elif isinstance(expected, types.UnionType):
        if value is not None:
            yield from type_faults(
                value, next(arm for arm in typing.get_args(expected) if arm is not type(None)), where
            )
    elif typing.get_origin(expected) is dict:
        yield from _table_faults(value, typing.get_args(expected)[1], where)
    elif typing.get_origin(expected) is tuple:
        yield from _list_faults(value, typing.get_args(expected), where)
    elif typing.get_origin(expected) is Literal:
        if value not in typing.get_args(expected):
            yield f"{where} is {_SHOWN.repr(value)}, expected {' or '.join(map(repr, typing.get_args(expected)))}"
    elif isinstance(value, bool) != (expected is bool) or not isinstance(
        value, int | float if expected is float else expected
    ):
        yield f"{where} is {_SHOWN.repr(value)}, expected {expected.__name__}"
    elif (limit := _beyond(value, expected)) is not None:
        yield f"{where} is {_SHOWN.repr(value)}, expected {limit}"


def _beyond(value: Any, expected: type) -> str | None:
    """Which limit a value of the right type does not keep to; None for none."""
    if expected is str:
        return None if len(value) <= LONGEST_TEXT else f"at most {LONGEST_TEXT:,} characters, got {len(value):,}"
    if expected is float:
        # Arrow takes whole numbers for a float only where it holds them exactly
        exact = math.isfinite(value) if isinstance(value, float) else abs(value) <= 2**53
        return None if exact else "a finite number of 64 bit"
    return None if value in _INT64 else "a number of 64 bit"


LONGEST_TEXT: Final = 2**16
"""Characters of one text, such as a citation."""
_INT64: Final = range(-(2**63), 2**63)
_SHOWN: Final = reprlib.Repr()
"""What came, in a message: short, however large it is."""
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 80
_SHOWN.maxlist = _SHOWN.maxdict = 9
_SHOWN.maxlevel = 3


@cache
def _types_of(kind: type) -> dict[str, Any]:
    """Types of the fields of a dataclass; to work them out takes longer than to compare a record with them."""
    return typing.get_type_hints(kind)


@cache
def _required(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING)


def _record_faults(value: Any, expected: type, where: str) -> Iterator[str]:
    prefix = f"{where}." if where else ""
    if not isinstance(value, Mapping):
        yield f"{where or 'metadata'} is {_SHOWN.repr(value)}, expected a record"
        return
    hints = _types_of(expected)
    yield from (f"{prefix}{name} is missing" for name in _required(expected) if name not in value)
    yield from (f"{prefix}{name:.80} is no field of this version" for name in value if name not in hints)
    for name, hint in hints.items():
        if name in value:
            yield from type_faults(value[name], hint, f"{prefix}{name}")


def _table_faults(value: Any, item: Any, where: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where} is {_SHOWN.repr(value)}, expected a table"
        return
    for name, entry in value.items():
        yield from type_faults(name, str, f"a name in {where}")
        yield from type_faults(entry, item, f"{where}.{name:.80}")


def _list_faults(value: Any, items: tuple[Any, ...], where: str) -> Iterator[str]:
    any_length = items[-1] is Ellipsis
    if not isinstance(value, list) or (not any_length and len(value) != len(items)):
        yield f"{where} is {_SHOWN.repr(value)}, expected {'a list' if any_length else f'{len(items)} numbers'}"
        return
    for number, item in enumerate(value):
        yield from type_faults(item, items[0], f"{where}[{number}]")


def first_faults(faults: Iterable[str]) -> str:
    """The first three of any number of faults, in one sentence; empty for none."""
    return "; ".join(islice(faults, 3))


def meaning_faults(record: Mapping[str, Any]) -> Iterator[str]:
    """What a record of the right types says that cannot be."""
    if record["schema"] != SCHEMA:
        yield f"its schema is {record['schema']}, this version reads {SCHEMA}"
    planes = _PLANES.get(record["axis"])
    if planes is None or record["plane"] not in planes:
        yield f"its axis is {record['axis']!r} and its plane {record['plane']!r}, which do not belong together"
    if (record["index"] is None) != (record["axis"] == "2d"):
        yield f"its axis is {record['axis']!r} and its index {record['index']}, which do not belong together"
    if record["index"] is not None and record["index"] < 0:
        yield f"its index is {record['index']}, expected 0 or more"
    slices = record["slices"]
    if slices is not None and (record["index"] is None or not 0 <= record["index"] < slices):
        yield f"its index is {record['index']} and its volume has {slices} slices, which do not belong together"
    if (record["origin"] is None) != (record["direction"] is None):
        yield f"its origin is {record['origin']} and its direction {record['direction']}, expected both or neither"
    counts = (record["dropped"]["masks"], record["dropped"]["pixels"], record["intensity"]["clipped"])
    if min(counts) < 0:
        yield f"it counts {counts} dropped masks, dropped pixels and clipped pixels, expected 0 or more"
    if record["height"] < 1 or record["width"] < 1:
        yield f"its size is {record['width']} x {record['height']}"
