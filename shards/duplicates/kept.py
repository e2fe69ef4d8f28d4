"""Fingerprints of shards, made in one pass and kept: a shard that did not change is not read again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from sa_med2d_20m import DatasetError, decode_png
from shards.atomic import open_atomic
from shards.duplicates.fingerprint import EXACT_BYTES, HASH_BYTES, VERSION, fingerprint
from shards.paths import FINGERPRINTS, ShardId
from shards.receipt import read_receipts
from shards.store import copied, is_here, listing
from shards.tar import Sample, read_shard

SCHEMA: Final = pa.schema([("key", pa.string()), ("exact", pa.binary(EXACT_BYTES)), ("hashes", pa.binary(HASH_BYTES))])
_MARK: Final = b"shard"
"""Key of the file's metadata: which bytes of the shard the fingerprints are of, and their version."""


def fingerprints_of(samples: Iterable[Sample]) -> pa.Table:
    """The fingerprints of samples, a row of `SCHEMA` for each.

    Raises:
        DatasetError: An image cannot be decoded.
    """
    rows: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for sample in samples:
        try:
            made = fingerprint(decode_png(sample.image))
        except DatasetError as error:
            raise DatasetError(f"{sample.key}.png: {error}") from None
        rows["key"].append(sample.key)
        rows["exact"].append(made.exact)
        rows["hashes"].append(made.hashes.tobytes())
    return pa.table(rows, schema=SCHEMA)


def fingerprints(
    out: Path, shards: Iterable[ShardId], *, workers: int, on_shard: Callable[[int, int], None]
) -> Iterator[tuple[ShardId, pa.Table]]:
    """The fingerprints of shards, in their order; those that are missing are made and kept.

    Where the set cannot be written to (a repository, a folder of somebody else) they are made and not kept.

    Args:
        out: Output folder, store or repository.
        shards: Its shards.
        workers: Processes.
        on_shard: Told how many, of how many, are done.

    Raises:
        DatasetError: A shard cannot be read.
    """
    marks = _marks(out)
    work = [_Work(out, shard, marks.get(shard.stem, "")) for shard in shards]
    known = [_read(one) for one in work]
    missing = [one for one, table in zip(work, known, strict=True) if table is None]
    on_shard(len(work) - len(missing), len(work))
    made = _made(missing, min(workers, len(missing)))
    done = len(work) - len(missing)
    for one, table in zip(work, known, strict=True):
        if table is not None:
            yield one.shard, table
            continue
        fresh = next(made)
        _keep(one, fresh)
        done += 1
        on_shard(done, len(work))
        yield one.shard, fresh


@dataclass(frozen=True)
class _Work:
    """A shard whose fingerprints are wanted.

    Attributes:
        out: Output folder.
        shard: The shard.
        mark: What its bytes are known by; empty where nothing tells.
    """

    out: Path
    shard: ShardId
    mark: str

    @property
    def path(self) -> Path:
        return self.out / FINGERPRINTS / f"{self.shard.stem}.parquet"


def _marks(out: Path) -> dict[str, str]:
    """Stem -> what the bytes of a shard are known by: the receipt, or size and time where a folder has none."""
    marks = {stem: f"{VERSION} {receipt.sha256}" for stem, receipt in read_receipts(out).items()}
    if is_here(out):
        for name, size in listing(out, "data").items():
            stem = name.removesuffix(".tar")
            if stem != name and stem not in marks:
                marks[stem] = f"{VERSION} {size} {(out / 'data' / name).stat().st_mtime_ns}"
    return marks


def _read(work: _Work) -> pa.Table | None:
    """What is kept of a shard, unless it is of other bytes."""
    if not work.mark:
        return None
    name = f"{FINGERPRINTS}/{work.shard.stem}.parquet"
    try:
        with copied(work.out, [name]) as near:
            table = pq.read_table(near / name, partitioning=None)
    except (pa.ArrowException, OSError):  # not there, or damaged: made anew
        return None
    said = (table.schema.metadata or {}).get(_MARK, b"").decode("utf-8", "replace")
    return table.replace_schema_metadata() if said == work.mark and table.schema.equals(SCHEMA) else None


def _keep(work: _Work, table: pa.Table) -> None:
    if not work.mark or (not is_here(work.out) and not work.out.as_posix().startswith(("s3:", "gs:", "gcs:"))):
        return
    try:
        with open_atomic(work.path) as file:
            pq.write_table(table.replace_schema_metadata({_MARK: work.mark.encode()}), file, compression="zstd")
    except PermissionError:
        return


def _made(work: list[_Work], workers: int) -> Iterator[pa.Table]:
    if workers <= 1:
        yield from map(_of_shard, work)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_of_shard, work)


def _of_shard(work: _Work) -> pa.Table:
    with copied(work.out, [work.shard.tar]) as near:
        return fingerprints_of(sample for sample, _ in read_shard(near / work.shard.tar))
