"""Tables over all shards, for SQL: for each split one of samples, the rows of the indexes, and one of masks.

A row group holds rows of one source alone, and pages are cut by content: a source that comes or goes leaves the bytes
of all others as they are, so a store that knows them need not get them again. The page index tells readers which pages
a filter can skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sa_med2d_20m import SPLITS, DatasetError, quoted_command
from shards.atomic import open_atomic
from shards.index_schema import INDEX_SCHEMA
from shards.paths import TABLES, ShardId, stems
from shards.receipt import read_receipts
from shards.store import copied

SAMPLES, MASKS = KINDS = ("index", "masks")
_ROWS: Final = 2**17
"""Samples of a row group, but for the shard that goes beyond it; DuckDB's own groups have about as many rows."""
_OF_SAMPLE: Final = (
    *("key", "source", "modality", "submodality", "license", "patient", "case", "split", "plane", "axis", "index"),
    *("height", "width", "shard"),
)
_BOX: Final = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")


def _mask_schema() -> pa.Schema:
    mask = INDEX_SCHEMA.field("masks").type.value_type
    fields: list[pa.Field] = [INDEX_SCHEMA.field(name) for name in _OF_SAMPLE]
    for field in (mask.field(number) for number in range(mask.num_fields)):
        fields += [pa.field(name, pa.int64()) for name in _BOX] if field.name == "bbox" else [field]
    return pa.schema(fields)


MASK_SCHEMA: Final = _mask_schema()
"""Columns of the table of masks: those of the sample that most questions are about, then the fields of
`sa_med2d_20m.Mask` with the four numbers of its box."""
SCHEMAS: Final[Mapping[str, pa.Schema]] = {SAMPLES: INDEX_SCHEMA, MASKS: MASK_SCHEMA}

Rows = Callable[[ShardId], pa.Table]
"""The index of a shard, however it is come by."""


def table_file(kind: str, split: str) -> str:
    """Path of a table below an output folder, and in a repository.

    >>> table_file("masks", "train")
    'tables/masks-train.parquet'
    """
    return f"{TABLES}/{kind}-{split}.parquet"


def masks_of(rows: pa.Table) -> pa.Table:
    """A row for each mask of some samples, in their order.

    Args:
        rows: Of an index.
    """
    lists = rows["masks"].combine_chunks()
    masks, samples = pc.list_flatten(lists), rows.select(_OF_SAMPLE).take(pc.list_parent_indices(lists))
    box = pc.struct_field(masks, "bbox")
    columns = {name: samples[name] for name in _OF_SAMPLE}
    columns |= {name: pc.list_element(box, number) for number, name in enumerate(_BOX)}
    columns |= {name: pc.struct_field(masks, name) for name in MASK_SCHEMA.names if name not in columns}
    return pa.table([columns[name] for name in MASK_SCHEMA.names], schema=MASK_SCHEMA)


_MADE: Final[Mapping[str, Callable[[pa.Table], pa.Table]]] = {SAMPLES: lambda rows: rows, MASKS: masks_of}


def read_index(path: Path, name: str) -> pa.Table:
    """An index, as it is.

    Args:
        path: The file.
        name: What messages call it.

    Raises:
        DatasetError: It is no index of this version.
    """
    try:
        rows = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise DatasetError(f"{name}: is missing, though its shard is there; 'sa-med2d index' writes it") from None
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{name}: is no Parquet that can be read ({str(error).splitlines()[0]})") from None
    if not rows.schema.equals(INDEX_SCHEMA):
        raise DatasetError(f"{name}: is no index of this version: its columns or their types are others")
    return rows


def refuse_other_rows(rows: pa.Table, shard: ShardId, name: str) -> None:
    """Let nothing pass but rows of one shard.

    Args:
        rows: Of an index.
        shard: The shard.
        name: What messages call the index.

    Raises:
        DatasetError: A row says another shard, source, split, modality or licence.
    """
    said = {"shard": shard.tar, "source": shard.source, "split": shard.split, "modality": shard.modality}
    columns = {column: rows[column] for column in said} | {"license": pc.utf8_lower(rows["license"])}
    for column, expected in {**said, "license": shard.license}.items():
        others = [value for value in pc.unique(columns[column]).to_pylist() if value != expected]
        if others:
            raise DatasetError(f"{name}: has rows whose {column} is {others[0]!r}, expected {expected!r}")


def folder_rows(out: Path) -> Rows:
    """The indexes of an output folder, wherever it lies. Whether their rows are right is for `shards.verify` to say."""

    def rows(shard: ShardId) -> pa.Table:
        with copied(out, [shard.index]) as near:
            return read_index(near / shard.index, f"{out / shard.index}")

    return rows


def write_tables(folder: Path, shards: Iterable[ShardId], rows: Rows) -> list[str]:
    """Write the tables of all splits that hold a shard, and remove those of the others.

    The same rows give the same bytes with the same release of pyarrow.

    Args:
        folder: Output folder, or any other.
        shards: All that the tables are about.
        rows: Their indexes; each is asked for once.

    Returns:
        The paths of the tables, below the folder.

    Raises:
        DatasetError: An index is not what it should be.
    """
    written = []
    for split, held in _by_split(shards).items():
        with ExitStack() as stack:
            writers = {}
            for kind, schema in SCHEMAS.items():
                file = stack.enter_context(open_atomic(folder / table_file(kind, split)))
                options = {"use_content_defined_chunking": True, "write_page_index": True, "compression": "zstd"}
                writers[kind] = stack.enter_context(pq.ParquetWriter(file, schema, **options))
            for group in _groups(held, rows):
                for kind, writer in writers.items():
                    table = _MADE[kind](group)
                    writer.write_table(table, row_group_size=max(1, table.num_rows))
        written += [table_file(kind, split) for kind in KINDS]
    for stem, path in stems(folder, TABLES, ".parquet").items():
        if f"{TABLES}/{stem}.parquet" not in written:
            path.unlink()
    return written


def refresh_tables(out: Path) -> None:
    """Write the tables of an output folder anew if it has any; without one they come with `sa-med2d index`.

    Where an index is damaged, the tables are removed: none is better than one that is no longer true, and verifying
    the folder names the index.
    """
    there = stems(out, TABLES, ".parquet")
    if there:
        try:
            write_tables(out, (receipt.id for receipt in read_receipts(out).values()), folder_rows(out))
        except DatasetError:
            for path in there.values():
                path.unlink()


def table_faults(out: Path, shards: Iterable[ShardId]) -> Iterator[str]:
    """A sentence for each table of an output folder that is not made of its indexes; a folder need not have any."""
    there, again = stems(out, TABLES, ".parquet"), f"{quoted_command('index', out)} writes the tables anew"
    by_split = _by_split(shards)
    expected = {f"{kind}-{split}": (kind, split) for split in by_split for kind in KINDS}
    for stem in sorted(there.keys() | expected.keys()) if there else ():
        name = f"{out / TABLES / stem}.parquet"
        if stem not in there:
            yield f"{name}: is missing; {again}"
        elif stem not in expected:
            yield f"{name}: is of no split that has shards; {again}"
        else:
            kind, split = expected[stem]
            with copied(out, [table_file(kind, split)]) as near:
                reason = _fault(near / table_file(kind, split), kind, _groups(by_split[split], folder_rows(out)))
            if reason is not None:
                yield f"{name}: {reason}; {again}"


def _fault(path: Path, kind: str, groups: Iterator[pa.Table]) -> str | None:
    """Why a table is not made of some rows, or None where it is."""
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMAS[kind]):
                return "its columns are not those of this version"
            number = 0
            for number, group in enumerate(groups, 1):
                if number > file.num_row_groups or file.read_row_group(number - 1) != _MADE[kind](group):
                    return "its rows are not those of the indexes"
            return None if number == file.num_row_groups else "it has rows that no index has"
    except (pa.ArrowException, OSError) as error:
        return f"is no Parquet that can be read ({str(error).splitlines()[0]})"
    except DatasetError as error:
        return f"cannot be compared: {error}"


def _by_split(shards: Iterable[ShardId]) -> dict[str, list[ShardId]]:
    """The shards of each split that has any, in the order of their paths."""
    held = sorted(shards, key=lambda shard: shard.stem)
    found = {split: [shard for shard in held if shard.split == split] for split in SPLITS}
    return {split: own for split, own in found.items() if own}


def _groups(shards: Iterable[ShardId], rows: Rows) -> Iterator[pa.Table]:
    """The rows of shards in row groups: of one source, and of about as many rows as a reader takes at once."""
    group: list[pa.Table] = []
    source = None
    for shard in shards:
        if group and (shard.source != source or sum(map(len, group)) >= _ROWS):
            yield pa.concat_tables(group).combine_chunks()
            group = []
        group.append(rows(shard))
        source = shard.source
    if group:
        yield pa.concat_tables(group).combine_chunks()
