"""The Parquet index: one row per sample, with the place of each member, one file beside each shard."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sa_med2d_20m import PLACES, SPLITS, DatasetError
from shards.atomic import open_atomic
from shards.card import write_card
from shards.contract import first_faults, type_faults
from shards.description import read_sources, write_source
from shards.foreign_index import difference
from shards.foreign_json import LARGEST, json_in, too_large
from shards.index_schema import INDEX_SCHEMA
from shards.lock import locked
from shards.paths import DATA, INDEX, RECEIPTS, ShardId, stems
from shards.receipt import Receipt, read_receipts, write_receipt
from shards.store import copied, is_here
from shards.tables import folder_rows, write_tables
from shards.tar import BrokenShardError, Located, places_in, read_member, sha256_of


def index_row(record: dict[str, Any], shard: str, located: Located) -> dict[str, Any]:
    """One row of the index.

    Args:
        record: The metadata, as parsed from the JSON member.
        shard: Path of the shard below the output folder.
        located: Places of the sample's members.
    """
    members = (located.image, located.mask, located.record)
    places = [number for member in members for number in (member.offset, member.size)]
    return {**record, "shard": shard, **dict(zip(PLACES, places, strict=True))}


def index_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of `index_row` as a table."""
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


def moved(table: pa.Table, shard: str, bytes_on: int) -> pa.Table:
    """The rows of samples that stand in another place.

    Args:
        table: Rows of the index.
        shard: Path of the shard that the samples stand in, below the output folder.
        bytes_on: How many bytes further on in their archive they stand.
    """
    columns = {name: table[name] for name in INDEX_SCHEMA.names}
    columns["shard"] = pa.repeat(shard, table.num_rows)
    for place in PLACES:
        if place.endswith("_offset"):
            columns[place] = pc.add(table[place], bytes_on)
    return pa.table(columns, schema=INDEX_SCHEMA)


def write_index(path: Path, table: pa.Table) -> None:
    """Write the rows of one shard; the same rows give the same bytes, whatever pieces they came in."""
    with open_atomic(path) as file:
        file.write(_parquet(table))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    return sink.getvalue()


def rows_of(file: BinaryIO, path: Path, shard: ShardId) -> list[dict[str, Any]]:
    """The index rows of a shard, made from its tar alone.

    Args:
        file: The tar, open.
        path: Its name, for messages.
        shard: The shard's name.

    Raises:
        BrokenShardError: The shard cannot be read.
    """
    rows = []
    for key, located in places_in(file, path):
        if located.record.size > LARGEST:
            raise BrokenShardError(str(too_large(f"{path}: {key}.json", located.record.size)))
        try:
            record = json_in(read_member(file, located.record), f"{path}: {key}.json")
        except DatasetError as error:
            raise BrokenShardError(str(error)) from None
        faults = first_faults(type_faults(record))
        if faults:
            raise BrokenShardError(f"{path}: {key}: its metadata is wrong: {faults}")
        rows.append(index_row(record, shard.tar, located))
    return rows


def index_fault(data: bytes, rows: list[dict[str, Any]]) -> str | None:
    """What is wrong with an index, in words; None for nothing.

    Args:
        data: The Parquet file.
        rows: What it should hold, see `rows_of`.
    """
    own = _parquet(index_table(rows))
    return None if data == own else difference(own, data)


def rebuild(out: Path, on_shard: Callable[[ShardId], None]) -> tuple[int, list[str]]:
    """Write all indexes, all receipts, the card and the tables anew from the tars alone.

    A receipt that agrees with its tar is kept: it also knows the quarantined cases and lets a build resume. Indexes and
    receipts of shards that are gone are removed.

    Args:
        out: Output folder.
        on_shard: Called before each shard.

    Returns:
        Number of shards indexed, and a sentence for each file that is no readable shard.

    Raises:
        OutputError: Another command is writing to the folder.
    """
    with locked(out, "index"):
        known = read_receipts(out)
        done: list[ShardId] = []
        findings = []
        patients: dict[str, dict[str, set[str]]] = {}
        for stem, path in stems(out, DATA, ".tar").items():
            try:
                shard = ShardId.parse(stem)
                on_shard(shard)
                rows = _index_shard(out, shard, known.get(stem))
                own = patients.setdefault(shard.source, {}).setdefault(shard.split, set())
                own.update(pc.unique(rows["patient"]).to_pylist())
            except DatasetError as error:
                findings.append(f"{path}: {error}" if not is_here(out) else str(error))
            else:
                done.append(shard)
        _remove_orphans(out)
        counts = {
            name: {split: len(splits[split]) for split in SPLITS if splits.get(split)}
            for name, splits in patients.items()
        }
        _note_patients(out, counts)
        write_card(out, patients=counts)
        write_tables(out, done, folder_rows(out))
    return len(done), findings


def _note_patients(out: Path, patients: Mapping[str, dict[str, int]]) -> None:
    """Say in the descriptions of sources how many patients each split has, where they say something else."""
    for name, source in read_sources(out).items():
        counts = patients.get(name, {})
        if counts != source.patients:
            write_source(out, replace(source, patients=counts))


def _index_shard(out: Path, shard: ShardId, known: Receipt | None) -> pa.Table:
    """Write the index of a shard, and its receipt if need be; gives the rows."""
    with copied(out, [shard.tar]) as near, (near / shard.tar).open("rb") as file:
        rows = index_table(rows_of(file, near / shard.tar, shard))
        sha256, size = sha256_of(file)
    write_index(out / shard.index, rows)
    if known is None or not _agrees(known, shard, rows, sha256):
        write_receipt(out, receipt_of(shard, rows, sha256, size))
    return rows


def _remove_orphans(out: Path) -> None:
    tars = stems(out, DATA, ".tar").keys()
    for folder, suffix in ((INDEX, ".parquet"), (RECEIPTS, ".json")):
        for stem, path in stems(out, folder, suffix).items():
            if stem not in tars:
                path.unlink()


def count_faults(receipt: Receipt, shard: ShardId, rows: pa.Table) -> list[str]:
    """What a receipt says of the contents of its shard that is not so.

    Args:
        receipt: The receipt.
        shard: The shard's name.
        rows: Its index, made from the tar.
    """
    true = receipt_of(shard, rows, receipt.sha256, receipt.bytes)
    names = ("samples", "masks", "mask_pixels", "labels", "cases")
    return [
        f"has {name} {getattr(true, name)}, its receipt says {getattr(receipt, name)}"
        for name in names
        if getattr(true, name) != getattr(receipt, name)
    ]


def _agrees(receipt: Receipt, shard: ShardId, rows: pa.Table, sha256: str) -> bool:
    same = (receipt.shard, receipt.license.lower(), receipt.sha256) == (shard.stem, shard.license, sha256)
    return same and not count_faults(receipt, shard, rows)


def receipt_of(shard: ShardId, rows: pa.Table, sha256: str, size: int) -> Receipt:
    """What the shard itself says of its contents; a build adds what only it knows.

    Args:
        shard: The shard's name.
        rows: Its index.
        sha256: Of the tar.
        size: Of the tar, in bytes.
    """
    masks = pc.list_flatten(rows["masks"].combine_chunks())
    named = pc.value_counts(pc.struct_field(masks, "label"))
    labels = {str(entry["values"]): int(entry["counts"]) for entry in named.to_pylist()}
    return Receipt(
        shard=shard.stem,
        license=rows["license"][0].as_py() if rows.num_rows else shard.license,
        sha256=sha256,
        bytes=size,
        samples=rows.num_rows,
        masks=sum(labels.values()),
        labels=dict(sorted(labels.items())),
        cases=tuple(sorted(pc.unique(rows["case"]).to_pylist())),
        mask_pixels=pc.sum(pc.struct_field(masks, "area")).as_py() or 0,
    )
