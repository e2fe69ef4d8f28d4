"""One sample, read by its place in a shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sa_med2d_20m import DatasetError, decode_masks, decode_png, quoted_command
from shards.show.find import Row
from shards.store import part_of_shard

_BETWEEN: Final = 1 << 14
"""Bytes of headers that may lie between the members of a sample."""


@dataclass(frozen=True)
class Sample:
    """A sample in memory.

    Attributes:
        record: Its metadata.
        pixels: (H, W) or (H, W, 3), uint8 or uint16.
        masks: (N, H, W); mask ``n`` belongs to entry ``n`` of ``record["masks"]``.
    """

    record: Mapping[str, Any]
    pixels: npt.NDArray[Any]
    masks: npt.NDArray[np.bool_]

    @property
    def labels(self) -> list[str]:
        """Class of each mask."""
        return [mask["label"] for mask in self.record["masks"]]


def read_sample(out: Path, row: Row) -> Sample:
    """Read a sample.

    Args:
        out: Output folder, wherever it lies.
        row: Of the index.

    Raises:
        DatasetError: The shard does not hold what its index says.
    """
    try:
        image, label_map, text = members_of(out, row)
        record = json.loads(text)
        return Sample(record, decode_png(image), decode_masks({**record, "mask.png": label_map}))
    except (ValueError, KeyError, FileNotFoundError) as error:
        where = f"{out / row['shard']}: {row['key']}"
        raise DatasetError(f"{where}: cannot be shown: {error}; {quoted_command('verify', out)} says why") from None


def members_of(out: Path, row: Mapping[str, Any]) -> list[bytes]:
    """Image, label map and metadata, in one request: they lie one after another."""
    places = [(row[f"{name}_offset"], row[f"{name}_size"]) for name in ("image", "mask", "json")]
    start, end = min(offset for offset, _ in places), max(offset + size for offset, size in places)
    if end - start > sum(size for _, size in places) + _BETWEEN:
        raise ValueError("its members do not lie one after another")
    data = part_of_shard(out / row["shard"], start, end - start)
    return [data[offset - start : offset - start + size] for offset, size in places]
