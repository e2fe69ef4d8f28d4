"""The columns of the index."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from sa_med2d_20m import PLACES, metadata_types


def _arrow(described: Any) -> pa.DataType:
    if isinstance(described, dict):
        return pa.struct([(name, _arrow(item)) for name, item in described.items()])
    if isinstance(described, list):
        return pa.list_(_arrow(described[0]))
    scalar: pa.DataType = pa.type_for_alias(described)
    return scalar


INDEX_SCHEMA: Final = pa.schema(
    [(name, _arrow(described)) for name, described in metadata_types().items()]
    + [("shard", pa.string())]
    + [(place, pa.int64()) for place in PLACES]
)
"""Columns of the index: the fields of `sa_med2d_20m.Metadata`, the shard's path below the output folder, and offset
and size in bytes of each member within the shard."""
