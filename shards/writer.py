"""Writing a shard, its index and its receipt, in that order, each of them whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa_med2d_20m import Metadata
from shards.atomic import open_atomic
from shards.index import index_row
from shards.paths import ShardId
from shards.tar import Sample, TarWriter


@dataclass(frozen=True)
class EncodedSample:
    """A sample ready to be written.

    Attributes:
        metadata: Its metadata.
        image: PNG of the image.
        label_map: PNG of the label map.
    """

    metadata: Metadata
    image: bytes
    label_map: bytes


@dataclass(frozen=True)
class WrittenShard:
    """What went into a shard.

    Attributes:
        sha256: Of the tar.
        bytes: Size of the tar.
        rows: Index rows, in order.
    """

    sha256: str
    bytes: int
    rows: list[dict[str, Any]]


def write_shard(out: Path, shard: ShardId, samples: Iterable[EncodedSample]) -> WrittenShard:
    """Write the tar of a shard from a stream of samples, holding one of them in memory at a time.

    When the stream raises, nothing is left under the shard's name.
    """
    rows: list[dict[str, Any]] = []
    with open_atomic(out / shard.tar) as file:
        tar = TarWriter(file)
        for sample in samples:
            metadata = sample.metadata
            located = tar.write(Sample(metadata.key, sample.image, sample.label_map, metadata.to_json()))
            rows.append(index_row(metadata.to_record(), shard.tar, located))
        size, sha256 = tar.finish()
    return WrittenShard(sha256, size, rows)
