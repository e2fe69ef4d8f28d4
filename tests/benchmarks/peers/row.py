"""What every format is asked for: rows of decoded pictures, with the metadata beside them, as Python objects."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

ROWS_OF_A_BATCH = 16
"""Of each batch that a worker makes, and of each read from a table."""
PAGE = 4096

Row = Mapping[str, Any]
"""``image`` (H, W), ``mask`` (layers * H, W), and the fields of the metadata by their names."""


class Sample(NamedTuple):
    """A sample as shards hold it: two PNG files and the JSON."""

    image: bytes
    mask: bytes
    record: bytes


def samples(shard: Path) -> Iterator[Sample]:
    """All samples of a shard, read by the standard library."""
    with tarfile.open(shard) as tar:
        members = [file.read() for file in map(tar.extractfile, tar) if file is not None]
    return map(Sample, members[::3], members[1::3], members[2::3])


def all_samples(built: Path) -> list[Sample]:
    """Those of all shards, in their order."""
    return [sample for shard in sorted(built.glob("data/**/*.tar")) for sample in samples(shard)]


def by_opencv(png: bytes) -> npt.NDArray[Any]:
    """The fastest decoder of PNG that formats without one of their own have."""
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("OpenCV reads no picture here")
    return pixels


def decoded(image: bytes, mask: bytes, record: bytes) -> Row:
    """A row of what a format holds as bytes."""
    return {"image": by_opencv(image), "mask": by_opencv(mask), **json.loads(record)}


def decoded_sample(sample: Mapping[str, bytes]) -> Row:
    """A row of what a format holds as bytes, by the names of `Sample`."""
    return decoded(sample["image"], sample["mask"], sample["record"])


def touched_samples(given: Iterable[Mapping[str, bytes]]) -> int:
    """As `touched`."""
    return touched(map(decoded_sample, given))


def touched(rows: Iterable[Row]) -> int:
    """How many rows there are. Each page of their pictures is read, whatever a format puts off until then."""
    count = 0
    for row in rows:
        for name in ("image", "mask"):
            np.ravel(row[name])[::PAGE].max()
        count += 1
    return count


def by_workers(dataset: Any, collate: Any = touched) -> Iterable[int]:
    """Batches of a DataLoader with two workers, of which nothing comes back but how many rows they had.

    What is compared is reading, not the way from a worker to its parent, which is the same for all.
    """
    from torch.utils.data import DataLoader  # noqa: PLC0415 - only where it is installed

    batches: Iterable[int] = DataLoader(
        dataset, batch_size=ROWS_OF_A_BATCH, num_workers=2, collate_fn=collate, persistent_workers=True
    )
    return batches


class Mapped(Iterable[Row]):
    """Rows that are made of what a format gives, anew in each epoch."""

    def __init__(self, given: Iterable[Any], row: Callable[[Any], Row]) -> None:
        self._given, self._row = given, row

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._given)
