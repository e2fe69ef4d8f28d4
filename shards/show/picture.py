"""One picture of a source, for a card: a sample that says much of it, with its masks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sa_med2d_20m import PLACES
from shards.paths import ShardId
from shards.report.rows import Rows, batches
from shards.show.find import Row
from shards.show.overlay import colors_of, overlay
from shards.show.sample import Sample, read_sample

_SIDE: Final = 256
"""Pixels of the longer side, of which three fit beside each other on the Hub's page."""
_QUALITY: Final = 88
"""Of JPEG."""
_COLUMNS: Final = ("key", "shard", *PLACES, "height", "width", "masks.label", "masks.area")


def jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """A picture as JPEG.

    Args:
        picture: (H, W, 3) uint8, RGB.
    """
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data)


def says(classes: int, covered: float) -> tuple[int, float]:
    """How much a sample says of its source, which is compared: its classes, then how much masks cover, to a half."""
    return classes, min(covered, 1 - covered)


def picture_of(sample: Sample) -> bytes:
    """A sample with its masks as JPEG."""
    return jpeg(overlay(sample.pixels, sample.masks, sample.labels, colors_of(sample.labels), _SIDE))


def picture_of_shard(out: Path, shard: ShardId) -> bytes:
    """The sample of a shard that says most, by its index, as JPEG; the rest of the shard is not read.

    Raises:
        DatasetError: The shard does not hold what its index says, or has no sample.
    """
    best: list[tuple[tuple[int, float], Row]] = []
    for rows in batches(Rows(out, (shard.index,)), _COLUMNS, lambda _done, _of: None):
        number, said = _most(rows)
        row = rows.slice(number, 1).select([name for name in _COLUMNS if "." not in name]).to_pylist()[0]
        best = [max([*best, (said, row)], key=lambda one: one[0])]  # the first of equals
    return picture_of(read_sample(out, best[0][1]))


def _most(rows: pa.Table) -> tuple[int, tuple[int, float]]:
    """The row that says most, and how much that is; masks that overlap count twice."""
    masks = rows["masks"].combine_chunks()
    owner, entries = pc.list_parent_indices(masks).to_numpy(), pc.list_flatten(masks)
    labels = pc.struct_field(entries, "label").dictionary_encode().indices.to_numpy(zero_copy_only=False)
    classes = np.bincount(np.unique(np.stack([owner, labels]), axis=1)[0], minlength=rows.num_rows)
    area = np.bincount(owner, pc.struct_field(entries, "area").to_numpy(), minlength=rows.num_rows)
    covered = np.minimum(area / (rows["height"].to_numpy() * rows["width"].to_numpy()), 1)
    every = [says(int(one), float(part)) for one, part in zip(classes, covered, strict=True)]
    number = max(range(len(every)), key=every.__getitem__)
    return number, every[number]
