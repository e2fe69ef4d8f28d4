"""The tables of a repository, from the indexes of all that it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from sa_med2d_20m import DatasetError
from shards.hub.content import JudgedFile
from shards.hub.manifest import Manifest
from shards.hub.repository import Repository
from shards.license import tiers
from shards.paths import INDEX, ShardId
from shards.receipt import Receipt
from shards.tables import read_index, refuse_other_rows, write_tables
from shards.tar import sha256_of


def repository_tables(
    folder: Path,
    ours: Iterable[JudgedFile],
    others: Mapping[str, Manifest],
    repository: Repository,
    commit: str,
) -> dict[str, JudgedFile]:
    """Write the tables of what a repository will hold.

    Rows come from the indexes that the gate has judged, and for other sources from the indexes in the repository: those
    of shards that their manifests list and whose licence may be passed on.

    Args:
        folder: An empty folder that nothing else writes to; it holds the tables as long as they are needed.
        ours: What is published now: shards and indexes.
        others: Manifests of the other sources.
        repository: Where these are.
        commit: At which commit.

    Returns:
        The tables by path.

    Raises:
        DatasetError: An index in the repository is not what its manifest says.
        PublishError: The Hub refuses, or an index of ours is no longer what was judged.
    """
    judged = {file.path: file for file in ours if file.path.startswith(f"{INDEX}/")}
    listed = {one.id: one for manifest in others.values() for one in manifest.receipts if _may_be_passed_on(one)}
    if listed:
        sources = sorted({shard.source for shard in listed})
        repository.download([f"{INDEX}/*/*/{source}/*" for source in sources], commit, folder)

    def rows(shard: ShardId) -> pa.Table:
        if shard.index in judged:
            copy = judged[shard.index].copy_to(folder)
            table = read_index(copy, shard.index)
            refuse_other_rows(table, shard, shard.index)
            copy.unlink()
            return table
        name = f"{repository.name}: {shard.index}"
        table = read_index(folder / shard.index, name)
        refuse_other_rows(table, shard, name)
        if table.num_rows != listed[shard].samples:
            raise DatasetError(f"{name}: has {table.num_rows} rows, its manifest says {listed[shard].samples} samples")
        return table

    shards = {*listed, *(_shard_of(path) for path in judged)}
    return {path: _as_judged(folder, path) for path in write_tables(folder, shards, rows)}


def _may_be_passed_on(receipt: Receipt) -> bool:
    """Whether a shard may have rows in a published table, by its path and its manifest."""
    return receipt.license.lower() == receipt.id.license and bool(tiers(receipt.license))


def _shard_of(index: str) -> ShardId:
    return ShardId.parse(index.removeprefix(f"{INDEX}/").removesuffix(".parquet"))


def _as_judged(folder: Path, path: str) -> JudgedFile:
    with (folder / path).open("rb") as file:
        return JudgedFile(folder, path, *sha256_of(file))
