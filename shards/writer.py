"""Writing a shard, its index and its receipt, in that order, each of them whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from sa_med2d_20m import Metadata, record_json
from shards.atomic import open_atomic
from shards.index import index_row, index_table, moved
from shards.paths import ShardId
from shards.tar import Sample, TarWriter, sample_blocks, samples_in


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
class EncodedCase:
    """The samples of a case as the bytes that stand in a shard, and their rows of the index.

    Attributes:
        blocks: Tar blocks of each sample; they are not joined, as a case may have gigabytes of them.
        rows: Rows of the index; offsets count from the first block, the shard has no name yet.
    """

    blocks: tuple[bytes, ...]
    rows: pa.Table

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        return sum(map(len, self.blocks))


def encode_case(samples: Sequence[EncodedSample]) -> EncodedCase:
    """Turn samples into what a shard holds of them; neither depends on which shard that is."""
    blocks, rows, end = [], [], 0
    for sample in samples:
        metadata = sample.metadata
        encoded = Sample(metadata.key, sample.image, sample.label_map, metadata.to_json())
        data, located = sample_blocks(encoded, end)
        blocks.append(data)
        rows.append(index_row(metadata.to_record(), "", located))
        end += len(data)
    return EncodedCase(tuple(blocks), index_table(rows))


@dataclass(frozen=True)
class StoredCase:
    """The samples of a case where they lie now: what `encode_case` made, or a part of another shard.

    Attributes:
        blocks: Their tar blocks, in parts of any size.
        rows: Their rows of the index.
        first_offset: Byte that the offsets in ``rows`` take the first block to be at.
    """

    blocks: Iterable[bytes]
    rows: pa.Table
    first_offset: int = 0


def relicensed(case: StoredCase, license_id: str) -> EncodedCase:
    """The samples of a case under another licence, which only their metadata name: pictures stay as they are."""
    blocks, rows, end = [], [], 0
    for sample in samples_in(b"".join(case.blocks)):
        record = {**json.loads(sample.record), "license": license_id}
        data, located = sample_blocks(replace(sample, record=record_json(record)), end)
        blocks.append(data)
        rows.append(index_row(record, "", located))
        end += len(data)
    return EncodedCase(tuple(blocks), index_table(rows))


@dataclass(frozen=True)
class WrittenShard:
    """What went into a shard.

    Attributes:
        sha256: Of the tar.
        bytes: Size of the tar.
        rows: Its index.
        offsets: Where each case begins in the tar.
    """

    sha256: str
    bytes: int
    rows: pa.Table
    offsets: tuple[int, ...]


def write_shard(out: Path, shard: ShardId, cases: Iterable[StoredCase]) -> WrittenShard:
    """Write the tar of a shard from its cases, one after another, holding a part of one in memory at a time.

    When a case cannot be read, nothing is left under the shard's name.
    """
    tables, offsets = [index_table([])], []
    with open_atomic(out / shard.tar) as file:
        tar = TarWriter(file)
        for case in cases:
            offsets.append(tar.position)
            tables.append(moved(case.rows, shard.tar, tar.position - case.first_offset))
            for part in case.blocks:
                tar.append(part)
        size, sha256 = tar.finish()
    return WrittenShard(sha256, size, pa.concat_tables(tables), tuple(offsets))
