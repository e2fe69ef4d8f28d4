"""Whether the metadata of a sample is what `sa_med2d_20m.Metadata` says: fields, types, and what follows from them."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final

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
        expected: A dataclass, ``str``, ``int``, ``float``, ``bool``, a tuple or dict of one of them, or any of these or
            None.
        where: Path of the value, for the message.

    Yields:
        A sentence for each field that is missing, unknown or of another type.
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
    elif isinstance(value, bool) != (expected is bool) or not isinstance(
        value, int | float if expected is float else expected
    ):
        yield f"{where} is {value!r}, expected {expected.__name__}"


@cache
def _types_of(kind: type) -> dict[str, Any]:
    """Types of the fields of a dataclass; to work them out takes longer than to compare a record with them."""
    return typing.get_type_hints(kind)


def _record_faults(value: Any, expected: type, where: str) -> Iterator[str]:
    prefix = f"{where}." if where else ""
    if not isinstance(value, Mapping):
        yield f"{where or 'metadata'} is {value!r}, expected a record"
        return
    hints = _types_of(expected)
    names = [field.name for field in fields(expected)]
    yield from (f"{prefix}{name} is missing" for name in names if name not in value)
    yield from (f"{prefix}{name} is no field of this version" for name in value if name not in names)
    for name in names:
        if name in value:
            yield from type_faults(value[name], hints[name], f"{prefix}{name}")


def _table_faults(value: Any, item: Any, where: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where} is {value!r}, expected a table"
        return
    for name, entry in value.items():
        yield from type_faults(entry, item, f"{where}.{name}")


def _list_faults(value: Any, items: tuple[Any, ...], where: str) -> Iterator[str]:
    any_length = items[-1] is Ellipsis
    if not isinstance(value, list) or (not any_length and len(value) != len(items)):
        yield f"{where} is {value!r}, expected {'a list' if any_length else f'{len(items)} numbers'}"
        return
    for number, item in enumerate(value):
        yield from type_faults(item, items[0], f"{where}[{number}]")


def meaning_faults(record: Mapping[str, Any]) -> Iterator[str]:
    """What a record of the right types says that cannot be."""
    if record["schema"] != SCHEMA:
        yield f"its schema is {record['schema']}, this version reads {SCHEMA}"
    planes = _PLANES.get(record["axis"])
    if planes is None or record["plane"] not in planes:
        yield f"its axis is {record['axis']!r} and its plane {record['plane']!r}, which do not belong together"
    if (record["index"] is None) != (record["axis"] == "2d"):
        yield f"its axis is {record['axis']!r} and its index {record['index']}, which do not belong together"
    slices = record["slices"]
    if (slices is None) != (record["index"] is None) or (slices is not None and not 0 <= record["index"] < slices):
        yield f"its index is {record['index']} and its volume has {slices} slices, which do not belong together"
    if (record["origin"] is None) != (record["direction"] is None):
        yield f"its origin is {record['origin']} and its direction {record['direction']}, expected both or neither"
    if min(record["dropped"].values()) < 0:
        yield f"what was dropped is {record['dropped']}, expected 0 or more"
    if record["height"] < 1 or record["width"] < 1:
        yield f"its size is {record['width']} x {record['height']}"
